"""The cheap levels of grounding on labelled pairs of sentence and passage; see docs/grounding.md."""

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


def look(pair: dict[str, str], passages: list[str]) -> Finding:
    verdict = Grounding()(pair["sentence"], json.dumps(passages))
    [finding] = msgspec.json.decode(verdict.detail, type=GroundingReport).sentences
    return finding


@pytest.fixture(scope="module", params=["its own passage", "all ten passages"])
def findings(request: pytest.FixtureRequest) -> list[Finding]:
    every = list(dict.fromkeys(pair["passage"] for pair in PAIRS))
    alone = request.param == "its own passage"
    return [look(pair, [pair["passage"]] if alone else every) for pair in PAIRS]


def counts(findings: list[Finding]) -> Counter[tuple[bool, bool]]:
    """(labelled as supported, found supported)."""
    return Counter(
        (bool(pair["supported"]), finding.status == "supported")
        for pair, finding in zip(PAIRS, findings, strict=True)
    )


def test_the_set_is_balanced_and_no_pair_stands_twice() -> None:
    assert len(PAIRS) == 80 == len({(p["sentence"], p["passage"]) for p in PAIRS})
    assert sum(bool(p["supported"]) for p in PAIRS) == 40


def test_what_is_accepted_is_right_and_what_is_left_open_goes_to_the_judge(findings: list[Finding]) -> None:
    found = counts(findings)
    assert found[False, True] == 0  # precision 1.0
    assert found[True, True] == 10  # recall 0.25: word for word only
    rejected = [
        pair["kind"]
        for pair, finding in zip(PAIRS, findings, strict=True)
        if pair["supported"] and finding.status == "unsupported" and not finding.open
    ]
    assert len(rejected) <= 4


def test_numbers_and_names_of_no_passage_are_never_supported(findings: list[Finding]) -> None:
    swapped = [f for p, f in zip(PAIRS, findings, strict=True) if p["kind"] in ("number", "name")]
    assert len(swapped) >= 14
    assert {f.status for f in swapped} == {"unsupported"}


def test_negations_are_rejected_as_such(findings: list[Finding]) -> None:
    turned = [f for p, f in zip(PAIRS, findings, strict=True) if p["kind"] == "negation"]
    assert len(turned) == 7
    # "Members may not renew books": the passage's "unless" leaves that open.
    assert sorted((f.status, f.clash) for f in turned) == [
        ("undecided", ""),
        *[("unsupported", "negation")] * 6,
    ]


def test_quotations_are_always_supported(findings: list[Finding]) -> None:
    quoted = [f for p, f in zip(PAIRS, findings, strict=True) if p["kind"] == "quote"]
    assert [f.by for f in quoted] == ["quote"] * 10


def test_a_negation_in_one_clause_is_not_one_in_the_next() -> None:
    passage = "The battery can be removed with a key, and it should not be stored empty."
    for sentence, status in (
        ("The battery cannot be removed with a key.", "unsupported"),
        ("The battery can be removed with a key.", "undecided"),
        ("The battery should not be stored empty.", "undecided"),
        ("The battery should be stored empty.", "unsupported"),
    ):
        assert look({"sentence": sentence}, [passage]).status == status, sentence
