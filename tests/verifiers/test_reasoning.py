"""What a reasoning model thinks is never taken for what it answered: by any verifier, judge or marker."""

from __future__ import annotations

import pytest

from gristmill.core.verdicts import Outcome, Verifier
from gristmill.synth.self_correction.prompts import Marker
from gristmill.verifiers import Bleu, Choice, Code, Constraints, Grounding, Math, ShortAnswer

RIGHT: dict[str, tuple[Verifier, str, str, str]] = {
    "math": (Math(), "\\boxed{4}", "\\boxed{5}", "4"),
    "choice": (Choice(), "The answer is (B).", "The answer is (C).", "B"),
    "short_answer": (ShortAnswer(), "Paris", "Rome", "Paris"),
    "bleu": (Bleu(), "the cat sat on the mat today", "no", "the cat sat on the mat today"),
}


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("tags", [("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("◁think▷", "◁/think▷")])
def test_what_follows_the_reasoning_counts(name: str, tags: tuple[str, str]) -> None:
    verifier, right, wrong, reference = RIGHT[name]
    begin, end = tags
    assert verifier(f"{begin}{wrong}{end}\n{right}", reference).correct
    assert not verifier(f"{begin}{right}{end}\n{wrong}", reference).correct
    assert verifier(f"{begin}Is it {right}", reference).outcome is Outcome.UNPARSEABLE


@pytest.mark.parametrize("verifier", [Choice(), ShortAnswer(), Constraints(), Grounding(), Code()])
def test_reasoning_without_an_end_is_unfinished_for_all(verifier: Verifier) -> None:
    verdict = verifier("<think>Let me see. Paris, (B).", "B")
    assert (verdict.outcome, verdict.rule) == (Outcome.UNPARSEABLE, "unfinished")


def test_a_marker_in_the_reasoning_is_no_verdict_and_is_not_trained() -> None:
    read = Marker().read("<think>It may end in [VERIFY] wrong.</think>2 + 2 = 4. [VERIFY] correct.")
    assert read == (True, "2 + 2 = 4.\n[VERIFY] correct.")
    assert Marker().read("<think>2 + 2 = 4. [VERIFY] correct.") is None
