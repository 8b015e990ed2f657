"""``grounding_rows``: which rows a passage gives, and that no label is made which a rule refutes."""

from __future__ import annotations

import polars as pl
import pytest
from table_rows import called, out, rejected

from gristmill.core.records import Passage
from gristmill.core.schema import from_frame, to_frame
from gristmill.synth.rag import GroundingRow, GroundingRows
from gristmill.synth.rag.changes import Label, changes
from gristmill.synth.rag.grounding_rows import check

FERRY = (
    "The ferry sails from Corrick to Harrowmouth twice a day. Cars must be booked in advance. "
    "The oldest ship was built in 1906."
)
TRAIN = "The last train left Upper Tarn on 29 September 1956. The ferry to Corrick took 40 passengers."


def passages(*texts: str) -> pl.LazyFrame:
    return to_frame([Passage(f"p{i}", text) for i, text in enumerate(texts)], Passage).lazy()


def made(*texts: str, stage: GroundingRows = GroundingRows(per_passage=None)) -> list[GroundingRow]:  # noqa: B008
    return from_frame(out(stage, passages(*texts)), GroundingRow)


@pytest.mark.parametrize(
    ("sentence", "kind", "label", "wanted"),
    [
        ("It was built in 1906.", "number", "contradicted", "It was built in 1907."),
        ("Moss has twelve members.", "number", "contradicted", "Moss has four members."),
        ("It costs 9.50 euros.", "number", "contradicted", "It costs 1.50 euros."),
        (
            "It sails from Corrick to Skeld.",
            "roles",
            "contradicted",
            "It sails from Skeld to Corrick.",
        ),
        (
            "In May the singer Lena Voss beat the writer Karl Brandt.",
            "roles",
            "unsupported",
            "In May the singer Karl Brandt beat the writer Lena Voss.",
        ),
        ("It closed after the war.", "order", "contradicted", "It closed before the war."),
        ("Cars must be booked.", "modality", "contradicted", "Cars need not be booked."),
        ("It may rain.", "modality", "unsupported", "It must rain."),
        ("You may not bring dogs.", "modality", "contradicted", "You may bring dogs."),
        ("The door is open.", "negation", "contradicted", "The door is not open."),
        ("The door is not open.", "negation", "contradicted", "The door is open."),
        ("It is the oldest ship.", "opposite", "contradicted", "It is the youngest ship."),
    ],
)
def test_a_change_is_of_one_kind(sentence: str, kind: str, label: Label, wanted: str) -> None:
    found = [change for change in changes(sentence, sentence) if change.kind == kind]
    assert [(change.label, change.text) for change in found] == [(label, wanted)]


@pytest.mark.parametrize(
    ("sentence", "kind"),
    [
        ("It had at most 30 monks.", "number"),  # then it had at most 31
        ("Do not exceed 25 withdrawals.", "number"),
        ("There are between 20 and 30 of them.", "number"),
        ("The villages of Skeld, Tarn and Bray share it.", "roles"),  # a list
        ("It opens on Monday in August.", "roles"),
        ("They left earlier than in any year before.", "order"),
        ("If you must pay, pay early.", "modality"),
        ("They lived there until the light was automated.", "negation"),
        ("It is never open.", "opposite"),
        ("It flies south.", "opposite"),  # before a full stop it may be part of a name
    ],
)
def test_a_change_that_may_leave_the_claim_true_is_not_made(sentence: str, kind: str) -> None:
    assert kind not in {change.kind for change in changes(sentence, sentence)}


def test_a_number_or_name_of_the_passage_comes_in_the_place_of_one() -> None:
    rows = {
        row.kind: row for row in made(TRAIN, FERRY) if row.source_id == "p0" and "train" in row.sentence_of
    }
    assert rows["number"].sentence == "The last train left Upper Tarn on 40 September 1956."
    assert rows["name"].sentence == "The last train left Corrick on 29 September 1956."
    assert rows["left out"].passage == "The ferry to Corrick took 40 passengers."


def test_every_row_has_its_source_and_what_the_check_said() -> None:
    rows = made(FERRY, TRAIN)
    assert {"own", "roles", "number", "modality", "opposite", "left out"} <= {row.kind for row in rows}
    assert {row.kind for row in rows if row.label == "supported"} == {"own"}
    assert all(row.sentence_of in (FERRY if row.source_id == "p0" else TRAIN) for row in rows)
    assert all(check(row.passage, row.sentence, row.label) == row.checked for row in rows)
    agreed = made(FERRY, TRAIN, stage=GroundingRows(per_passage=None, keep="agrees"))
    assert agreed == [row for row in rows if row.checked == "agrees"]


def test_a_label_that_the_rules_refute_is_dropped() -> None:
    assert check("The door is open.", "The door is open.", "unsupported") is None
    assert check("The door is open.", "The door is not open.", "supported") is None
    assert check("The door is open.", "The door is not open.", "contradicted") == "agrees"
    assert check("The door is open.", "Somebody left the door ajar.", "supported") == "open"
    # A sentence of another passage may say the same in other words, or contradict it.
    assert check("The door is open.", "Somebody left the door ajar.", "unsupported", apart=True) is None
    assert check("The door is open.", "The door is not open.", "unsupported", apart=True) is None
    assert check("The door is open.", "The door was built in 1906.", "unsupported", apart=True) == "agrees"


def test_sentences_are_drawn_by_seed_and_kinds_by_name() -> None:
    stage = GroundingRows(per_passage=1, kinds=("own",))
    drawn = {out(stage, passages(FERRY), seed=seed)["sentence"][0] for seed in range(12)}
    assert len(drawn) > 1
    assert called(stage, passages(FERRY), seed=3).equals(called(stage, passages(FERRY), seed=3))


def test_a_passage_without_a_plain_sentence_is_rejected_with_the_reason() -> None:
    assert rejected(GroundingRows(), passages("- a list\n- of words")) == {
        "p0": "grounding_rows: no sentence gives a row"
    }
