"""Engines of Transformers, on tiny random models in the Python that has torch, and their options here."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT, TESTS

from gristmill.core.errors import MissingExtraError, RecipeError
from gristmill.engines import Transformers, TransformersReward
from gristmill.engines.transformers import Cautious, Guide
from gristmill.engines.transformers.cautious import trials_of

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


def softmax(scores: list[float]) -> list[float]:
    whole = sum(map(math.exp, scores))
    return [math.exp(score) / whole for score in scores]


@pytest.mark.slow
def test_guided_chances_are_the_closed_forms_of_both_papers(found: dict[str, Any]) -> None:
    forms = found["aids"]["forms"]
    base, guide = [0.5, 1.5, -1.0, 0.0], [1.0, 0.0, 2.0, -1.0]
    # pi(y) pi_r(y)^(1/beta), and what is constant goes away
    assert forms["tokens"] == pytest.approx(
        softmax([a + 0.5 * b for a, b in zip(base, guide, strict=True)]), abs=1e-5
    )
    assert forms["a longer head"] == 4
    three, four = softmax(guide[:3]), softmax(base)
    assert forms["a shorter head"] == pytest.approx(
        [math.log(p) + 0.5 * math.log(q) for p, q in zip(four, three, strict=False)] + [math.log(four[3])],
        abs=1e-5,
    )
    first, second = softmax([0.5 + 2 * 0.9, 1.5 + 2 * 0.2])
    assert forms["values"] == pytest.approx([first, second, 0.0, 0.0], abs=1e-5)
    assert forms["entropy"] == pytest.approx([-sum(p * math.log(p) for p in four), 0.0], abs=1e-5)
    # exp(-mean log p): 0.3 and 0.3 are less perplexing than 0.5 and 0.1; of equal ones the first
    assert forms["likeliest"] == [1, 0]


@pytest.mark.slow
def test_a_guide_changes_what_is_drawn_and_nothing_beside_it_does(found: dict[str, Any]) -> None:
    seen = found["aids"]["guided"]
    texts = {
        name: [one[0] for one in answers] for name, answers in seen.items() if isinstance(answers[0], list)
    }
    # p p = p^2: a model that is guided by itself draws as at half the temperature, from the same numbers.
    assert texts["by itself"] == texts["colder"] != texts["plain"]
    assert seen["values"] == seen["again"] and texts["values"] != texts["plain"]
    assert texts["alone"] == texts["values"][:1]
    assert texts["one candidate"] == texts["greedy"], "with one candidate its value decides nothing"
    step, engine = seen["value of each"]
    assert step == engine, "the cached values are those of the whole texts"


@pytest.mark.slow
def test_cautious_draws_depend_on_their_seed_alone(found: dict[str, Any]) -> None:
    seen = found["aids"]["cautious"]
    assert [one[0] for one in seen["never"]] == [one[0] for one in found["aids"]["guided"]["plain"]]
    assert seen["always"] == seen["again"] and seen["alone"] == seen["always"][:1]
    assert len({one[0] for one in seen["always"]}) == 3

    def surprise(answers: list[Any]) -> float:
        drawn = [logprob for one in answers for logprob in one[2]]
        return -sum(drawn) / len(drawn)

    assert surprise(seen["always"]) < surprise(seen["never"]), "of four ways the likeliest was taken"
    for text, tokens, logprobs in seen["always"]:
        ended = tokens - len(logprobs)  # the token that ends an answer has no text
        assert (text and (tokens, ended) == (12, 0)) or (tokens <= 12 and ended == 1)
    assert all("e" not in text for text, _, _ in seen["long"])


@pytest.mark.slow
def test_what_an_aid_cannot_do_is_said(found: dict[str, Any]) -> None:
    seen = found["aids"]
    assert "has 2 outputs, and a value is one" in seen["guided"]["no value"]
    assert "scores no given texts" in seen["guided"]["scores"]
    assert "all the same at temperature 0" in seen["cautious"]["greedy"]


@pytest.mark.parametrize(
    ("entropy", "trials"), [(0.0, 1), (0.099, 1), (0.1, 2), (0.6, 6), (0.61, 7), (1.1, 11), (9.0, 11)]
)
def test_the_less_sure_the_more_trials(entropy: float, trials: int) -> None:
    assert trials_of(entropy, Cautious(low=0.1, high=1.1, most=11)) == trials


def test_an_aid_is_part_of_the_models_identity(tmp_path: Path) -> None:
    def identity(**aid: Any) -> str:
        return Transformers(model="owner/base", **aid).identity

    plain = identity()
    assert plain == "owner/base transformers"
    names = [
        identity(guide=Guide(model="owner/guide")),
        identity(guide=Guide(model="owner/other")),
        identity(guide=Guide(model="owner/guide", weight=2.0)),
        identity(guide=Guide(model="owner/guide", by="values")),
        identity(guide=Guide(model="owner/guide", by="values", top_k=5)),
        identity(cautious=Cautious()),
        identity(cautious=Cautious(until=".")),
        identity(cautious=Cautious(longest=9)),
        identity(cautious=Cautious(low=0.02)),
        identity(cautious=Cautious(most=3)),
    ]
    assert len({plain, *names}) == 1 + len(names)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"one")
    before = identity(guide=Guide(model=str(tmp_path)))
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert identity(guide=Guide(model=str(tmp_path))) != before, "a guide is known by its weights"


def test_aids_that_make_no_sense_are_refused() -> None:
    with pytest.raises(RecipeError, match="do not work together"):
        Transformers(model="m", guide=Guide(model="g"), cautious=Cautious())
    with pytest.raises(RecipeError, match="is not below high"):
        Cautious(low=2.0)
