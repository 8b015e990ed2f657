"""Long, repeated and random texts: each gets a verdict, in time that grows with its length."""

from __future__ import annotations

import json
import random
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.core.verdicts import Outcome
from gristmill.verifiers.grounding.claims import split
from gristmill.verifiers.grounding.verifier import Grounding

PASSAGES = json.dumps(["The tower is old.", {"id": "wiki", "title": "Louvre", "text": "It is free."}])


def test_a_long_answer_and_long_passages_take_linear_time() -> None:
    draw = random.Random(1)
    words = [f"w{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}x" for i in range(500)]
    text = " ".join(" ".join(draw.choices(words, k=15)).capitalize() + "." for _ in range(1200))
    start = time.process_time()
    verdict = Grounding()(text[:50_000], json.dumps([text, text[::-1]]))
    assert verdict.outcome in (Outcome.CORRECT, Outcome.UNPARSEABLE)
    assert time.process_time() - start < 20


@pytest.mark.parametrize(
    "piece", ["[", "[1", "[1][", "`", '"', "the passages ", "``` ", "A. ", "not in ", "[1] "]
)
def test_hostile_repetition_ends_soon(piece: str) -> None:
    start = time.process_time()
    Grounding()(piece * (100_000 // len(piece)), PASSAGES)
    assert time.process_time() - start < 20


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("aA1.[]`#\n \"“'?!,-é的\ud800"), max_size=80))
def test_any_text_gets_a_verdict_and_spans_in_order(text: str) -> None:
    verdict = Grounding()(text, PASSAGES)
    assert verdict.outcome is not Outcome.ERROR, verdict.detail
    spans = [(s.start, s.end) for s in split(text)]
    assert all(0 <= a < b <= len(text) for a, b in spans)
    assert all(b <= c for (_, b), (c, _) in pairwise(spans))
