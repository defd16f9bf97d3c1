"""`python -m sot_graph` is `sot-graph`."""

from sot_graph.cli import main

if __name__ == "__main__":
    main()
