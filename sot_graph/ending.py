"""The end of every answer, merged or direct."""

from uuid import uuid4

from langchain_core.runnables import RunnableConfig

from sot_graph.prompt import GAP
from sot_graph.reading import heard_reading, reading_of
from sot_graph.state import SotState, Update
from sot_graph.usage import CallRecord, answer_message


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
    opening = state.get("opening_call")
    records = [*([opening] if opening else []), *state["calls"].values(), *calls.values()]
    return {
        "answer": answer,
        "answer_id": message_id,
        "messages": [answer_message(answer, records, message_id)],
        "calls": calls,
    }
