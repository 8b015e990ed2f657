"""How often a rejection is right, on claims labelled before any of them was judged; see docs/grounding.md.

``python tests/verifiers/grounding/test_labelled_claims.py`` prints the table of that page.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gristmill.core.shares import wilson
from gristmill.verifiers.grounding.verifier import Finding, Grounding, GroundingReport

DATA = Path(__file__).parent / "data"
ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "grounding.md"


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text().splitlines()]


SHIPPED = ROOT / "gristmill" / "data" / "vellan_passages.jsonl"
DOCUMENTS = {
    document["id"]: document
    for document in [*read("bank_documents.jsonl"), *map(json.loads, SHIPPED.read_text().splitlines())]
}
CLAIMS = read("labelled_claims.jsonl")


@cache
def findings() -> list[Finding]:
    """What the cheap levels say of each claim."""
    found = []
    for row in CLAIMS:
        passage = DOCUMENTS.get(row["passage"], row["passage"])
        verdict = Grounding()(row["claim"], json.dumps([passage]))
        report = msgspec.json.decode(verdict.detail, type=GroundingReport)
        found.append(min(report.sentences, key=lambda f: f.status != "unsupported"))
    return found


def counts() -> dict[tuple[str, str], Counter[tuple[str, str]]]:
    """For each set and half, how many claims there are of a label and a status."""
    found: dict[tuple[str, str], Counter[tuple[str, str]]] = defaultdict(Counter)
    for row, finding in zip(CLAIMS, findings(), strict=True):
        found[row["set"], row["half"]][row["label"], finding.status] += 1
    return found


def share(part: int, whole: int) -> str:
    """A share with its 95 % Wilson interval."""
    low, high = wilson(part, whole)
    return f"{part} of {whole} ({low:.2f} to {high:.2f})"


def table() -> list[str]:
    """The rows of the table in docs/grounding.md."""
    rows = []
    whole: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for (name, half), counted in counts().items():
        rows.append(line(f"{name}, {half}", counted))
        whole[half] += counted
    return [*rows, *(line(f"**all, {half}**", whole[half]) for half in ("tuned", "held out"))]


def line(name: str, counted: Counter[tuple[str, str]]) -> str:
    rejected = sum(n for (_, status), n in counted.items() if status == "unsupported")
    wrong = counted["entailed", "unsupported"]
    entailed = sum(n for (label, _), n in counted.items() if label == "entailed")
    clashes = sum(n for (label, _), n in counted.items() if label == "clash")
    right = share(rejected - wrong, rejected) if rejected > wrong else "none rejected"
    caught = share(counted["clash", "unsupported"], clashes) if clashes else ""
    return f"| {name} | {right} | {caught} | {share(wrong, entailed)} |"


def test_the_page_has_the_figures_of_this_code() -> None:
    page = PAGE.read_text()
    assert [row for row in table() if row not in page] == []


def test_nothing_is_accepted_that_is_not_entailed() -> None:
    accepted = [
        row["claim"]
        for row, finding in zip(CLAIMS, findings(), strict=True)
        if finding.status == "supported" and row["label"] != "entailed"
    ]
    assert accepted == []


def test_no_passage_is_in_both_halves_and_no_claim_twice() -> None:
    assert len({(row["claim"], row["passage"]) for row in CLAIMS}) == len(CLAIMS)
    tuned = {row["passage"] for row in CLAIMS if row["half"] == "tuned"}
    assert tuned.isdisjoint(row["passage"] for row in CLAIMS if row["half"] == "held out")


@pytest.mark.parametrize(
    ("passage", "claim", "clash"),
    [
        ("Kestrel beat Ardmore.", "Ardmore beat Kestrel.", "roles"),
        ("The doctor was paid by the actor.", "The doctor paid the actor.", "roles"),
        ("Moss has 20 members and Fenn has 14 members.", "Fenn has 20 members.", "number"),
        ("The dam was built in 1990 and raised in 1994.", "The dam was raised in 1990.", "number"),
        ("The day pass is valid for 30 hours.", "The day pass is valid for 30 minutes.", "number"),
        ("Lena Voss led the choir, and Karl Brandt wrote the songs.", "Karl Brandt led the choir.", "name"),
        (
            "A red lamp shows that the door is shut.",
            "A green lamp shows that the red door is shut.",
            "colour",
        ),
        ("The court met after the king had died.", "The king died after the court had met.", "order"),
        ("The dam broke because the rain was heavy.", "The rain was heavy because the dam broke.", "order"),
        ("Leeds handles more mail than Hull.", "Hull handles more mail than Leeds.", "order"),
        ("The drug may reduce pain.", "The drug reduces pain.", "modality"),
        ("If the seal breaks, the pump stops.", "The seal breaks.", "modality"),
        ("Visitors should wear a hat.", "Visitors must wear a hat.", "modality"),
        ("Some of the guests left early.", "All of the guests left early.", "quantity"),
        ("The road is not open in winter.", "The road is open in winter.", "negation"),
        ("Sales rose in Spain.", "Sales fell in Spain.", "opposite"),
        ("You can stay for up to 90 days.", "You can stay for at least 90 days.", "limit"),
        ("Calder is the second largest island.", "Calder is the largest island.", "rank"),
    ],
)
def test_each_kind_of_clash_names_itself_and_the_sentence(passage: str, claim: str, clash: str) -> None:
    verdict = Grounding()(claim, json.dumps([passage]))
    [found] = msgspec.json.decode(verdict.detail, type=GroundingReport).sentences
    assert (found.status, found.clash) == ("unsupported", clash)
    assert repr(passage) in found.why
    [place] = found.evidence
    assert passage[place.start : place.end] == passage


def test_a_reason_has_the_words_as_they_are_written() -> None:
    passage = "Moss has 20 members and Fenn has fourteen members."
    verdict = Grounding()("Fenn has twenty members.", json.dumps([passage]))
    [found] = msgspec.json.decode(verdict.detail, type=GroundingReport).sentences
    assert found.why.startswith("has 'twenty' where the passage has 'fourteen': 'Moss has 20 members")


@pytest.mark.parametrize(
    ("passage", "claim"),
    [
        ("Kestrel beat Ardmore.", "Ardmore was beaten by Kestrel."),
        ("The king died before the court met.", "The court met after the king died."),
        ("Leeds handles more mail than Hull.", "Hull handles less mail than Leeds."),
        ("The shop opens at nine on weekdays and at ten on Sundays.", "On Sundays the shop opens at ten."),
        ("The shop is not open on Sundays.", "The shop is closed on Sundays."),
        ("No later than May the work will begin.", "The work will begin in May or before."),
        ("The club was founded in 1990 and closed five years later.", "The club closed in 1995."),
        ("All of the guests left early.", "Some of the guests left early."),
        ("If the seal breaks, the pump stops.", "The pump stops if the seal breaks."),
        ("Ann met Bob in Rome.", "Bob met Ann in Rome."),
    ],
)
def test_the_same_in_other_words_is_never_rejected(passage: str, claim: str) -> None:
    verdict = Grounding()(claim, json.dumps([passage]))
    [found] = msgspec.json.decode(verdict.detail, type=GroundingReport).sentences
    assert found.status in ("undecided", "supported"), found


if __name__ == "__main__":
    print("\n".join(table()))


def test_an_ordinal_number_of_years_is_no_error() -> None:
    """Of a bank document: it ended a run over all of them."""
    passage = "The club was founded in 1990. It closed in 1995, after the fee rose to 200 a year."
    verdict = Grounding()("In your first year the fee is 0.", json.dumps([passage]))
    assert verdict.outcome.value != "error", verdict.detail
