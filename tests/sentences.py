"""Texts for an opening or an ending."""

FIRST, SECOND = "Sleep is a matter of many small habits.", "Each of them is easy to begin with!"
THIRD = "This one is too much of a good thing."
TALK = {
    "with sentences": f"{FIRST} {SECOND} {THIRD} " * 2_000,
    "without": " ".join(f"word{number}" for number in range(10_000)),
    "in a loop": "sleep and rest and dream or " * 5_000,
}
"""Texts of models that never stop."""
