"""Answers by an outline beside plain ones: what they took, and which is better."""
