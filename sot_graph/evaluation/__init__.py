"""Compare Skeleton-of-Thought answers with plain answers: what they cost, and which are better."""
