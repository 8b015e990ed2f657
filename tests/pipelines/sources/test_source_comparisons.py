"""Published comparisons, rankings and labelled rows. The rows are our own, in the published schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from gristmill.core.records import Labelled, Pair
from gristmill.core.stages import Rejection
from gristmill.pipelines.sources.source import Source, read

Row = dict[str, Any]
ARENA = {"model_a": "m1", "model_b": "m2"}


def talk(*turns: str) -> list[Row]:
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(turns)]


def in_parts(*turns: str) -> list[Row]:
    """Chatbot Arena's newer form: the content of a message in parts."""
    return [
        {**m, "content": [{"type": "text", "text": m["content"], "image": None}], "num_tokens": 3}
        for m in talk(*turns)
    ]


def battle(winner: str, a: list[Row], b: list[Row]) -> Row:
    return {"question_id": "q", **ARENA, "winner": winner, "conversation_a": a, "conversation_b": b}


def flagged(a: int, b: int, tie: int, prompt: Any, first: Any, second: Any) -> Row:
    sides = {"prompt": json.dumps(prompt), "response_a": json.dumps(first), "response_b": json.dumps(second)}
    return {"id": 7, **ARENA, **sides, "winner_model_a": a, "winner_model_b": b, "winner_tie": tie}


def ranked(*answers: tuple[str, float | None]) -> Row:
    listed = [{"answer": text, "model": f"m{text[:1]}", "rank": rank} for text, rank in answers]
    return {"prompt": "\n\nHuman: Why?\n\nAssistant: ", "answers": listed, "turns": 1, "source": ["sharegpt"]}


def found(path: Path, *rows: Row, **options: Any) -> list[Pair | Rejection]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(read(Source(path=str(path), reads="pairs", **options)))  # type: ignore[arg-type]


def texts(pair: Any) -> tuple[list[str], list[str], list[str]]:
    assert isinstance(pair, Pair), pair
    prompt, chosen, rejected = (
        [m.content for m in part] for part in (pair.prompt, pair.chosen, pair.rejected)
    )
    return prompt, chosen, rejected


def test_the_winner_of_two_conversations_is_the_chosen_side(tmp_path: Path) -> None:
    good, bad = ("Why?", "Because."), ("Why?", "No.")
    rows = {
        "first": battle("model_a", talk(*good), talk(*bad)),
        "second": battle("model_b", talk(*bad), talk(*good)),
        "in parts": battle("model_a", in_parts(*good), in_parts(*bad)),
    }
    for name, row in rows.items():
        [pair] = found(tmp_path / "a.jsonl", row)
        assert texts(pair) == (["Why?"], ["Because."], ["No."]), name
        pl.DataFrame([row]).write_parquet(tmp_path / "a.parquet")
        assert list(read(Source(path=str(tmp_path / "a.parquet"), reads="pairs"))) == [pair], name
    [pair] = found(tmp_path / "b.jsonl", rows["second"])
    assert isinstance(pair, Pair) and pair.kind == "comparison" and pair.scores == ()
    meta = json.loads(pair.meta)
    assert (meta["chosen_model"], meta["rejected_model"], meta["first_preferred"]) == ("m2", "m1", False)
    assert meta["winner"] == "model_b" and "conversation_a" not in meta


def test_conversations_that_part_early_are_compared_from_there(tmp_path: Path) -> None:
    a, b = talk("Hi", "Hello", "Why?", "Because."), talk("Hi", "Hey", "Why?", "No.")
    [pair] = found(tmp_path / "a.jsonl", battle("model_a", a, b))
    assert texts(pair) == (["Hi"], ["Hello", "Why?", "Because."], ["Hey", "Why?", "No."])


def test_turns_in_texts_of_json_with_a_column_for_each_outcome(tmp_path: Path) -> None:
    row = flagged(0, 1, 0, ["Hi", "Why?"], ["Hello", "No."], ["Hello", "Because."])
    [pair] = found(tmp_path / "a.jsonl", row)
    assert texts(pair) == (["Hi", "Hello", "Why?"], ["Because."], ["No."])
    assert isinstance(pair, Pair) and json.loads(pair.meta)["chosen_model"] == "m2"
    pl.DataFrame([row]).write_csv(tmp_path / "a.csv")
    [table] = read(Source(path=str(tmp_path / "a.csv"), reads="pairs"))
    assert texts(table) == texts(pair)


def test_comparisons_without_a_winner_are_rejected_with_the_reason(tmp_path: Path) -> None:
    a, b = talk("Why?", "Because."), talk("Why?", "No.")
    told = {"tie": "tie", "tie (bothbad)": "tie", "both_bad": "tie", "model_c": "winner is not known"}
    rows = [battle(winner, a, b) | {"question_id": winner} for winner in told]
    assert [r.reason for r in found(tmp_path / "a.jsonl", *rows) if isinstance(r, Rejection)] == [
        *told.values()
    ]
    flags = {
        "tie": flagged(0, 0, 1, ["Why?"], ["a"], ["b"]),
        "winner is not known": flagged(1, 1, 0, ["Why?"], ["a"], ["b"]),
        "turns do not fit": flagged(1, 0, 0, ["Why?", "So?"], ["a"], ["b"]),
        "not a list of turns": flagged(1, 0, 0, ["Why?"], [None], ["b"]),
    }
    made = found(tmp_path / "b.jsonl", *({**row, "id": n} for n, row in enumerate(flags.values())))
    assert [r.reason for r in made if isinstance(r, Rejection)] == [*flags]


def test_of_ranked_answers_the_first_goes_against_the_last(tmp_path: Path) -> None:
    [pair] = found(tmp_path / "a.jsonl", ranked(("Perhaps.", 2.0), ("No.", 3.0), ("Because.", 1.0)))
    assert texts(pair) == (["Why?"], ["Because."], ["No."])
    assert isinstance(pair, Pair) and pair.kind == "ranking"
    assert {s.name: s.value for s in pair.scores} == {"chosen": -1.0, "rejected": -3.0}
    assert json.loads(pair.meta)["chosen_model"] == "mB"
    [other] = found(tmp_path / "b.jsonl", ranked(("Because.", 1.0), ("No.", 3.0)), columns={"score": "rank"})
    assert texts(other)[1] == ["Because."], "a rank that is named is a rank still"
    bad = found(tmp_path / "c.jsonl", ranked(("a", 1.0), ("b", 1.0)), ranked(("a", 1.0), ("b", None)))
    assert [r.reason for r in bad if isinstance(r, Rejection)] == ["tie", "too few ratings"]


def test_columns_with_a_hyphen_are_scores_and_models_too(tmp_path: Path) -> None:
    sides: Row = {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}
    rated = {"chosen-rating": 4.5, "rejected-rating": 2, "chosen-model": "m1", "rejected-model": "m2"}
    [pair] = found(tmp_path / "a.jsonl", sides | rated)
    assert isinstance(pair, Pair) and [s.value for s in pair.scores] == [4.5, 2.0]
    assert json.loads(pair.meta) == {"chosen_model": "m1", "rejected_model": "m2"}


def test_a_list_of_answers_says_how_one_is_taken(tmp_path: Path) -> None:
    row: Row = {"id": "1", "prompt": "Why?", "chosen": ["Because."], "rejected": ["No.", "Perhaps."]}
    [refused] = found(tmp_path / "a.jsonl", row)
    assert isinstance(refused, Rejection) and "columns: {chosen: 'chosen[0]'}" in refused.detail
    [pair] = found(tmp_path / "a.jsonl", row, columns={"chosen": "chosen[0]", "rejected": "rejected[1]"})
    assert texts(pair) == (["Why?"], ["Because."], ["Perhaps."])


def test_labelled_rows_are_read_as_a_trainer_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    texts: Row = {"prompt": "Why?", "completion": "Because.", "label": True}
    parts: Row = {"prompt": talk("Why?"), "completion": talk("", "No.")[1:], "label": False, "weight": 1.5}
    wrong = {
        "no label column": {**texts, "label": None},
        "completion does not continue the prompt": {**texts, "completion": talk("Who?")},
        "row does not fit the record": {**texts, "label": "perhaps"},
    }
    path.write_text("".join(json.dumps(row) + "\n" for row in (texts, parts, *wrong.values())))
    good, bad, *refused = read(Source(path=str(path), reads="labelled"))
    assert isinstance(good, Labelled) and isinstance(bad, Labelled)
    assert (good.label, good.weight, bad.label, bad.weight) == (True, 1.0, False, 1.5)
    assert good.prompt == bad.prompt and good.problem_id == bad.problem_id, "one prompt is one problem"
    assert [m.content for m in (*good.completion, *bad.completion)] == ["Because.", "No."]
    assert [r.reason for r in refused] == list(wrong)
