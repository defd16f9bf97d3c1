"""An agent that has long answers written by a tool: `python examples/agent_tool.py`, with no key.

With a key or a server of your own, name a model: `python examples/agent_tool.py --model openai:gpt-5.5`.
"""

import argparse

from langchain.agents import create_agent

from sot_graph import DemoChatModel, create_sot_graph, create_sot_tool


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a model's name for init_chat_model; left out, the offline demo")
    parser.add_argument("--question", default="How do bees find their way home?")
    options = parser.parse_args()

    model = options.model or DemoChatModel()
    tool = create_sot_tool(create_sot_graph(model))
    agent = create_agent(model, [tool], system_prompt="Have your tool write whatever is long; then add one remark.")
    result = agent.invoke({"messages": [{"role": "user", "content": options.question}]})

    for message in result["messages"]:
        message.pretty_print()
        for point in getattr(message, "artifact", None) or []:
            print(f"    {point['index']}. {point['title']}: {point['status']}")


if __name__ == "__main__":
    main()
