"""Samples asked about again: masked, with their reasoning altered, and by the model as its own monitor."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.core.engine import Completion, Request
from gristmill.core.errors import RecipeError
from gristmill.core.records import Sampled
from gristmill.core.stages import Context
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.confidence import MaskedConsistency, Rationale, SelfMonitor
from gristmill.synth.confidence.masked import mask, recovered
from gristmill.synth.confidence.rationale import steps_of
from gristmill.testing.records import sampled
from gristmill.verifiers.judges.asking import Asking

Answer = Callable[[Request, int], Completion | str]
STEPS = "Tom has three apples. He buys nine more. Three and nine make twelve."
SAMPLE = sampled(completion=f"{STEPS}\nThe answer is 12.", answer="12")


async def unjudged(completion: str, reference: str) -> Verdict:
    return Verdict(Outcome.CORRECT)


def scores(stage: Any, answer: Answer, sample: Sampled = SAMPLE) -> tuple[dict[str, float | None], int]:
    engine = ScriptedEngine(answer)
    [made] = asyncio.run(stage(sample, Context(engine, unjudged, 7, {"writer": engine})))
    assert engine.requests <= stage.estimate(sample).completions_max
    return {score.name: score.value for score in made.scores}, engine.requests


def quoted(request: Request, name: str) -> str:
    found = re.search(rf"\[BEGIN {name} \w+\]\n(.*?)\n\[END", request.messages[-1].content, re.S)
    return found[1] if found else ""


def test_hidden_words_come_back_or_not() -> None:
    masked = mask(STEPS, 0.2, "words", 3)
    assert len(masked.hidden) == 3 and masked == mask(STEPS, 0.2, "words", 3) != mask(STEPS, 0.2, "words", 4)
    restored = masked.text
    for number, word in enumerate(masked.hidden, 1):
        restored = restored.replace(f"[[{number}]]", word)
    assert restored == STEPS
    assert mask("Nothing", 0.2, "numbers", 3).hidden == ()
    assert mask("1,200 and 3.5", 0.9, "numbers", 3).text == "[[1]] and [[2]]"


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("1: twelve\n[[2]]: Apples.", 1),
        ("1. twelve\n2) pears", 0.5),
        ("2: apples\n7: twelve", 0.5),
        ("They are twelve and apples.", None),
        ("x" * 100_000 + "\n1: twelve", 0.5),
    ],
)
def test_lines_are_read_by_their_numbers(text: str, share: float | None) -> None:
    assert recovered(Completion(text), ["twelve", "apples"]) == share
    assert recovered(Completion(text, "length"), ["twelve", "apples"]) is None


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=200), st.floats(0.01, 0.9), st.sampled_from(["words", "numbers"]))
def test_any_text_is_masked_and_read_without_failing(text: str, share: float, what: Any) -> None:
    assert len(mask(text, share, what, 0).hidden) <= len(text)
    assert recovered(Completion(text), ["a"]) in (None, 0, 1)


def test_masked_consistency_is_the_mean_over_the_masks() -> None:
    texts: set[str] = set()

    def fills(request: Request, index: int) -> str:
        shown = quoted(request, "RESPONSE")
        texts.add(shown)
        first = re.escape(shown.split("[[1]]")[0])
        found = re.match(first + r"(\w+)", SAMPLE.completion)
        assert found
        return f"1: {found[1]}" if len(texts) == 1 else "1: other"

    found, requests = scores(MaskedConsistency(share=0.01, masks=2), fills)
    assert (found, requests, len(texts)) == ({"masked_consistency": 0.5}, 2, 2)
    assert scores(MaskedConsistency(), fills, sampled(finish_reason="length"))[0] == {
        "masked_consistency": None
    }
    assert scores(MaskedConsistency(hide="numbers"), fills, sampled(completion="None."))[1] == 0
    with pytest.raises(RecipeError, match="no place"):
        MaskedConsistency(prompt="{problem}")


def reader(believes: Callable[[str], str]) -> Answer:
    """A model whose answer is what it ``believes`` of the reasoning that it is shown, and that can write."""

    def answer(request: Request, index: int) -> str:
        asked = request.messages[-1].content
        if "one sentence" in asked:
            return (
                quoted(request, "SENTENCE")
                .replace("nine", "eight")
                .replace("Tom", "Ann")
                .replace("twelve", "ten")
            )
        if "other words" in asked:
            return "There are 3 apples, then 9 more. This makes twelve."
        return f"The answer is {believes(quoted(request, 'RATIONALE'))}."

    return answer


def test_an_answer_that_needs_its_reasoning_changes_with_it() -> None:
    found, requests = scores(
        Rationale(writer_engine="writer"), reader(lambda text: "12" if "twelve" in text else "0")
    )
    changes = {"full": 1, "early": 0, "filler": 0, "mistake": 0, "paraphrase": 1}
    assert found == {f"rationale_{name}": value for name, value in changes.items()}
    assert requests == 1 + 2 + 1 + 2 + 2


def test_an_answer_that_was_known_before_stays() -> None:
    shown: list[str] = []

    def believes(text: str) -> str:
        shown.append(text)
        return "12"

    found, _ = scores(Rationale(fractions=(0.0, 0.4, 0.7)), reader(believes))
    assert set(found.values()) == {1}
    assert {"", "Tom has three apples.", "Tom has three apples.\nHe buys nine more.", STEPS} <= set(shown)
    assert " ".join(["..."] * len(STEPS.split())) in shown


def test_nothing_is_said_where_the_whole_reasoning_does_not_lead_to_the_answer() -> None:
    names = ["full", "early", "filler", "mistake", "paraphrase"]
    found, requests = scores(Rationale(), reader(lambda text: "13"))
    assert (found, requests) == ({f"rationale_{n}": 0 if n == "full" else None for n in names}, 1)
    for sample in (sampled(finish_reason="length"), sampled(completion="The answer is 12.")):
        found, requests = scores(Rationale(), reader(lambda text: "12"), sample)
        assert (set(found.values()), requests) == ({None}, 0)


def test_thoughts_are_the_reasoning_and_a_mistake_that_is_none_is_no_test() -> None:
    shown: list[str] = []

    def believes(text: str) -> str:
        shown.append(text)
        return "12"

    thinking = sampled(completion="The answer is 12.", reasoning="It must be a dozen.")
    found, _ = scores(Rationale(tests=("mistake",)), reader(believes), thinking)
    assert shown == ["It must be a dozen."]
    assert found == {"rationale_full": 1, "rationale_mistake": None}


def test_the_model_is_its_own_monitor() -> None:
    def answer(request: Request, index: int) -> str:
        bad = "hint" in request.messages[-1].content and "guess" in quoted(request, "RESPONSE")
        return f"[[{'yes' if bad else 'no'}]]"

    text = sampled(completion="I guess that it is 12.")
    found, requests = scores(SelfMonitor(), answer, text)
    assert requests == 4
    assert found["self_monitor"] == 0 and found["monitor_shortcut"] == 1 and found["monitor_hides"] == 0
    found, _ = scores(SelfMonitor(signals={"rude": "Is it rude?"}), answer)
    assert found == {"self_monitor": 1, "monitor_rude": 0}


def test_a_monitor_that_cannot_be_read_says_nothing() -> None:
    found, _ = scores(SelfMonitor(asking=Asking(read="text")), lambda r, i: "Perhaps.")
    assert set(found.values()) == {None}
    assert scores(SelfMonitor(), lambda r, i: "", sampled(finish_reason="length"))[1] == 0
    with pytest.raises(RecipeError, match="no place"):
        SelfMonitor(prompt="{response} {question}")


def test_steps_are_lines_and_sentences_also_where_a_formula_ends_one() -> None:
    assert steps_of("3 + 4 = 7\nSo $x = 7.$ It is odd. Good.\n\nDone") == [
        "3 + 4 = 7",
        "So $x = 7.$",
        "It is odd.",
        "Good.",
        "Done",
    ]
