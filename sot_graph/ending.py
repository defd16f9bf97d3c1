"""The end of every answer, merged or direct."""

from uuid import uuid4

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig

from sot_graph.prompt import GAP
from sot_graph.reading import heard_reading, reading_of
from sot_graph.state import SotState, Update
from sot_graph.usage import CallRecord, merge_calls, summarize, total_usage


def answer_update(state: SotState, text: str, calls: dict[str, CallRecord], config: RunnableConfig) -> Update:
    """What the last stage writes: the answer, and its message with the usage of all calls.

    Args:
        state: The state so far.
        text: The answer but for its opening.
        calls: The last stage's own calls.
        config: The node's.
    """
    answer = GAP.join(part for part in (state.get("opening"), text) if part)
    if reading := heard_reading(config):
        reading.finish(answer, config)
    # The answer's pieces were streamed with this id, so the engine does not send the message once more.
    run = reading_of(config)
    message_id = state.get("answer_id") or (run.message_id if run else f"sot-{uuid4()}")
    records = merge_calls({**(state.get("opening_call") or {}), **state["calls"]}, calls)
    cached = {
        name for name, call in records.items() if run and run.is_fresh and call["attempts"][0]["began"] < run.began
    }
    spent = [call for name, call in records.items() if name not in cached]
    message = AIMessage(
        answer,
        id=message_id,
        usage_metadata=total_usage(attempt["usage"] for call in spent for attempt in call["attempts"]),
        response_metadata={"sot": summarize(records, state.get("points") or [], cached)},
    )
    return {"answer": answer, "answer_id": message_id, "messages": [message], "calls": calls}
