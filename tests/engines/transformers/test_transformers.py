"""Engines of Transformers, on tiny random models in the Python that has torch, and their options here."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT, TESTS

from gristmill.core.errors import MissingExtraError, RecipeError
from gristmill.engines import Transformers, TransformersReward

pytestmark = pytest.mark.timeout(600)

PROGRAM = TESTS / "engines" / "transformers" / "tiny_engines.py"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the program found; skips where there is no Python for it."""
    python = os.environ.get("GRISTMILL_TRAINER_PYTHON")
    if not python:
        pytest.skip("GRISTMILL_TRAINER_PYTHON names no Python that has torch and transformers")
    folder = tmp_path_factory.mktemp("transformers")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [python, str(PROGRAM), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    read: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return read


@pytest.mark.slow  # torch is imported, in a process of its own
def test_a_sample_is_its_seed_s_whatever_is_beside_it(found: dict[str, Any]) -> None:
    seen = found["sampling"]
    assert seen["together"] == seen["alone"] and len(set(seen["alone"])) == 3
    assert seen["in a crowd"] == seen["alone"][0]
    assert seen["penalised"][0] == seen["penalised"][1]
    assert len({*seen["greedy"], *seen["narrow"]}) == 1, "the likeliest token, whatever the seed"


@pytest.mark.slow
def test_a_text_scores_what_it_was_sampled_with(found: dict[str, Any]) -> None:
    seen = found["sampling"]
    sampled, [scored, copy] = seen["logprobs"], seen["scored"]
    own = [token["logprob"] for token in sampled["logprobs"]]
    assert [token["logprob"] for token in scored["logprobs"]] == pytest.approx(own, abs=1e-4)
    assert seen["scored in a crowd"] == pytest.approx(own, abs=1e-4)
    assert "".join(token["token"] for token in scored["logprobs"]) == scored["text"] == sampled["text"]
    assert copy["logprobs"] == scored["logprobs"] and "prompt_tokens" not in copy
    for token in sampled["logprobs"]:
        assert len(token["top"]) == 3 and token["top"][0]["token"] == token["token"]
    assert sampled["completion_tokens"] == 6 and sampled["finish_reason"] == "length"


@pytest.mark.slow
def test_answers_end_where_they_should(found: dict[str, Any]) -> None:
    seen = found["sampling"]
    free, stopped = seen["stopped"]
    assert stopped["text"] == free[: free.index(free[3:5])]
    assert "".join(token["token"] for token in stopped.get("logprobs", ())) == stopped["text"]
    assert not seen["continued"]["text"].startswith("The grass")
    assert seen["continued"]["completion_tokens"] == 3
    reason, tokens = seen["near the end"]
    assert reason == "stop" or tokens == 256, "no more than the context"


@pytest.mark.slow
def test_what_cannot_be_asked_is_refused_and_the_next_is_answered(found: dict[str, Any]) -> None:
    long, schema, fine = found["sampling"]["errors"]
    assert "longer than the context of 256" in long and long.startswith("RequestRefusedError")
    assert "cannot obey a schema" in schema
    assert fine == ""


@pytest.mark.slow
def test_rewards_do_not_depend_on_the_batch(found: dict[str, Any]) -> None:
    seen = found["rewards"]
    alone, together = seen["batch 1"], seen["batch 4"]
    assert [len(rows) for rows in alone] == [1, 1, 1]
    numbers = [rows[0][0] for rows in alone]
    assert [rows[0][0] for rows in together] == pytest.approx(numbers, abs=1e-5)
    assert len({round(number, 5) for number in numbers}) == 3
    assert [len(row) for row in seen["steps"]] == [2, 2], "one row of both classes for each tag"
    assert "generates nothing" in seen["error"]


def test_options_are_checked_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="go together"):
        TransformersReward(model="m", head="token")
    if importlib.util.find_spec("torch") is None:
        with pytest.raises(MissingExtraError, match=r"torch.*gristmill\[train\]"):
            Transformers(model="m").open()


def test_the_log_tells_models_apart_by_all_that_changes_what_they_say(tmp_path: Path) -> None:
    template = tmp_path / "t.jinja"
    template.write_text("{{ messages }}")
    models = [
        Transformers(model="m"),
        Transformers(model="m", revision="r"),
        Transformers(model="m", dtype="float32"),
        Transformers(model="m", chat_template=str(template)),
        Transformers(model="m", chat_template_kwargs={"a": 1}),
        TransformersReward(model="m"),
        TransformersReward(model="m", head="token", tag="<s>"),
    ]
    assert len({model.identity for model in models}) == len(models)
    assert Transformers(model="m", batch=2, device="cpu").identity == models[0].identity
