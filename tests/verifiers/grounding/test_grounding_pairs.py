"""The cheap levels of grounding on labelled pairs of sentence and passage; see docs/verifiers.md."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from gristmill.verifiers.grounding.verifier import Finding, Grounding, GroundingReport

PAIRS = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "grounding_pairs.jsonl").read_text().splitlines()
]
WORDS_CANNOT_TELL = ("roles", "swapped")
"""Pairs whose words and facts are all in the passage, put together otherwise."""


def look(pair: dict[str, str], passages: list[str]) -> Finding:
    verdict = Grounding()(pair["sentence"], json.dumps(passages))
    [finding] = msgspec.json.decode(verdict.detail, type=GroundingReport).sentences
    return finding


@pytest.fixture(scope="module", params=["its own passage", "all ten passages"])
def findings(request: pytest.FixtureRequest) -> list[Finding]:
    every = list(dict.fromkeys(pair["passage"] for pair in PAIRS))
    alone = request.param == "its own passage"
    return [look(pair, [pair["passage"]] if alone else every) for pair in PAIRS]


def counts(findings: list[Finding], leaving_out: tuple[str, ...] = ()) -> Counter[tuple[bool, bool]]:
    """(labelled as supported, found supported)."""
    return Counter(
        (bool(pair["supported"]), finding.status == "supported")
        for pair, finding in zip(PAIRS, findings, strict=True)
        if pair["kind"] not in leaving_out
    )


def test_the_set_is_balanced_and_no_pair_stands_twice() -> None:
    assert len(PAIRS) == 80 == len({(p["sentence"], p["passage"]) for p in PAIRS})
    assert sum(bool(p["supported"]) for p in PAIRS) == 40


def test_precision_and_recall(findings: list[Finding]) -> None:
    found = counts(findings)
    assert found[True, True] >= 27  # recall 0.675
    assert found[False, True] <= 8  # precision 0.771


def test_only_words_put_together_otherwise_pass_for_support(findings: list[Finding]) -> None:
    assert counts(findings, WORDS_CANNOT_TELL)[False, True] <= 1


def test_numbers_and_names_of_no_passage_are_never_supported(findings: list[Finding]) -> None:
    swapped = [
        f for p, f in zip(PAIRS, findings, strict=True) if p["kind"] in ("number", "name", "unrelated")
    ]
    assert len(swapped) >= 15
    assert {f.status for f in swapped} == {"unsupported"}


def test_negations_are_never_supported_and_are_left_to_the_judge(findings: list[Finding]) -> None:
    turned = [f for p, f in zip(PAIRS, findings, strict=True) if p["kind"] == "negation"]
    assert len(turned) == 7
    assert all(f.status == "unsupported" and f.open for f in turned)


def test_quotations_are_always_supported(findings: list[Finding]) -> None:
    quoted = [f for p, f in zip(PAIRS, findings, strict=True) if p["kind"] == "quote"]
    assert [f.by for f in quoted] == ["quote"] * 10


def test_a_negation_in_one_clause_is_not_one_in_the_next() -> None:
    passage = "The battery can be removed with a key, and it should not be stored empty."
    for sentence, supported in (
        ("The battery cannot be removed with a key.", False),
        ("The battery can be removed with a key.", True),
        ("The battery should not be stored empty.", True),
        ("The battery should be stored empty.", False),
    ):
        assert (look({"sentence": sentence}, [passage]).status == "supported") == supported, sentence
