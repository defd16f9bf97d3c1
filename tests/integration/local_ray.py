"""The local model on a real Ray: `pytest tests/integration/local_ray.py`, by hand; it takes a quarter of a minute."""

import json
from pathlib import Path

import pytest

from tests.integration.test_ray import env, job, results

__all__ = ["env"]  # a fixture


@pytest.mark.ray
@pytest.mark.local
def test_the_local_model_answers_in_an_actor_of_its_own(tmp_path: Path, env: dict[str, str]) -> None:
    questions, output = tmp_path / "questions.jsonl", tmp_path / "answers"
    row = {"id": "bread", "question": "Why is bread good?", "outline": ["Its smell", "Its crust"]}
    questions.write_text(json.dumps(row), encoding="utf-8")
    with job(questions, output, env, "--model", "local", "--actors", "1") as running:
        running.wait()
    (result,) = results(output).values()
    assert [(point["title"], point["status"]) for point in result["points"]] == [
        ("Its smell", "written"),
        ("Its crust", "written"),
    ]
    assert result["error"] is None
