"""The graph that the server serves; `langgraph dev` finds it through langgraph.json."""

import os

from sot_graph import DemoChatModel, create_sot_graph

# The server brings its own checkpointer and store.
graph = create_sot_graph(os.environ.get("SOT_MODEL") or DemoChatModel())
