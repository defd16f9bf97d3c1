"""The nodes of the graph: one stage a file."""
