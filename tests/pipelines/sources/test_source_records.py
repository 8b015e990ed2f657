"""Samples, passages, records by their own fields, answers in lists, and stages of former runs."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from msgspec import Struct, to_builtins
from written_runs import write_run

from gristmill.core import registry
from gristmill.core.engine import Message
from gristmill.core.errors import InputError, RecipeError, RunError
from gristmill.core.records import (
    Conversation,
    Demonstration,
    Pair,
    Passage,
    Problem,
    Sampled,
    Score,
    Span,
    Trajectory,
    Turn,
)
from gristmill.core.schema import former_schemas, gives, schema, to_frame
from gristmill.core.stages import Rejection
from gristmill.core.steps import ProcessRow
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.pipelines.sources import former
from gristmill.pipelines.sources.source import Source, describe, fingerprint, read
from gristmill.verifiers.rules.short_answer import ShortAnswer

ASKED = (Message("user", "What is 2 + 2?"),)
OWN: list[Struct] = [
    Problem("a", "What is 2 + 2?", "4", 1, '{"topic":"sums"}'),
    Sampled(
        "a/0",
        "a",
        0,
        "q",
        "4",
        ASKED,
        "4",
        "stop",
        3,
        1,
        Verdict(Outcome.CORRECT, 1.0, "4"),
        (Score("r", 0.5),),
    ),
    Trajectory("t", "a", "q", "4", "D1", "verify", (Turn("assistant", "4", True, (Span(0, 1),)),)),
    Demonstration("d", "a", "q", None, "refusal", (Turn("user", "q", False), Turn("assistant", "4", True))),
    Conversation("c", (Turn("user", "q", False), Turn("assistant", "4", True)), '{"from":"x"}'),
    Passage("p", "Cats sleep.", "Cats", '{"n":1}'),
    Pair("x", "a", "rule", ASKED, (Message("assistant", "4"),), (Message("assistant", "5"),), 0.5, 0.1),
    ProcessRow(
        "s", "a", "q", ASKED, ("one", "two"), (0.5, 1.0), (1, 2), (2, 2), (0.1, 0.2), (0.9, 1.0), "soft"
    ),
]
NAMES = [
    "problems",
    "samples",
    "trajectories",
    "demonstrations",
    "conversations",
    "passages",
    "pairs",
    "step labels",
]


def jsonl(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(path)


def good(source: Source) -> list[Any]:
    found = list(read(source))
    assert not [r for r in found if isinstance(r, Rejection)], found
    return found


def reasons(source: Source) -> list[str]:
    return [r.reason for r in read(source) if isinstance(r, Rejection)]


def test_our_own_records_come_back_from_jsonl_and_parquet(tmp_path: Path) -> None:
    wrong = []
    for name, record in list(zip(NAMES, OWN, strict=True))[1:]:
        assert Source(path="x", reads=name).record is type(record)
        lines = jsonl(tmp_path / "a.jsonl", to_builtins(record))
        to_frame([record], type(record)).write_parquet(tmp_path / "a.parquet")
        for path in (lines, str(tmp_path / "a.parquet")):
            if (found := list(read(Source(path=path, reads=name)))) != [record]:
                wrong.append((name, path, found))
    assert wrong == []


def test_what_any_stage_reads_may_come_from_a_stage_of_a_former_run(tmp_path: Path) -> None:
    """Its file has only columns, so that a record made of other records must be registered to be known."""
    stages = {name: registry.find("stages", name) for name in registry.names("stages")}
    wanted = {name: kind for name, s in stages.items() if isinstance(kind := getattr(s, "reads", None), type)}
    lost = []
    for name, kind in wanted.items():
        pl.DataFrame(schema=schema(kind)).write_parquet(tmp_path / "part-00000.parquet")
        if not gives(former.record(tmp_path, None), kind):
            lost.append((name, kind.__name__))
    assert lost == []
    assert len(set(wanted.values())) > 12


def test_a_stage_of_a_former_run_is_a_source(tmp_path: Path) -> None:
    stages: Any = {name.replace(" ", "-"): (type(r), [r], []) for name, r in zip(NAMES, OWN, strict=True)}
    write_run(tmp_path / "runs" / "before", stages)
    for name, record in zip(NAMES, OWN, strict=True):
        source = Source(run="before", runs=str(tmp_path / "runs"), stage=name.replace(" ", "-"))
        assert source.record is type(record)
        assert good(source) == [record]
    last = Source(run=str(tmp_path / "runs" / "before"))
    assert (good(last), describe(last)) == (OWN[-1:], f"{last.run} (last stage)")
    as_problem = Source(run=str(last.run), stage="problems", reads="problems")
    assert as_problem.record is Problem
    prints = {fingerprint(Source(run=str(last.run), stage=s)) for s in ("problems", "pairs")}
    assert len(prints) == 2
    with pytest.raises(InputError, match=r"not those of a Pair.*Leave out 'reads'"):
        list(read(Source(run=str(last.run), stage="problems", reads="pairs")))
    with pytest.raises(RunError, match=r"no stage 'pair'.*Did you mean 'pairs'"):
        list(read(Source(run=str(last.run), stage="pair")))
    with pytest.raises(RunError, match="holds no complete run"):
        list(read(Source(run="befor", runs=str(tmp_path / "runs"))))


def test_a_run_of_before_records_had_all_their_fields_is_a_source(tmp_path: Path) -> None:
    stages: Any = {name.replace(" ", "-"): (type(r), [r], []) for name, r in zip(NAMES, OWN, strict=True)}
    write_run(tmp_path / "runs" / "before", stages)
    changed = 0
    for (name, record), age in product(zip(NAMES, OWN, strict=True), (0, 1)):
        source = Source(run="before", runs=str(tmp_path / "runs"), stage=name.replace(" ", "-"))
        [part] = (tmp_path / "runs" / "before").glob(f"*-{source.stage}/part-*")
        rows = pl.DataFrame(pl.read_parquet(part).to_dicts(), schema=former_schemas(type(record))[age])
        changed += rows.schema != schema(type(record))
        rows.write_parquet(part)
        assert source.record is type(record)
        assert good(source) == [record]
    assert changed > 3


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
def test_the_reasoning_of_messages_is_read(tmp_path: Path, field: str) -> None:
    path = tmp_path / "chats.jsonl"
    messages = [{"role": "user", "content": "2 + 2?", field: "no"}, {"role": "assistant", "content": "4"}]
    messages[1][field] = "Two and two."
    path.write_text(json.dumps({"messages": messages}) + "\n")
    [found] = good(Source(path=str(path), reads="conversations"))
    assert [t.reasoning for t in found.turns] == ["", "Two and two."]


def test_a_stage_with_columns_of_its_own_gives_records_of_one_type(tmp_path: Path) -> None:
    class Odd(Struct, frozen=True):
        id: str
        text: str
        sizes: tuple[int, ...]

    write_run(tmp_path / "before", {"odd": (Odd, [Odd("a", "x", (1, 2))], [])})
    source = Source(run=str(tmp_path / "before"))
    [found] = good(source)
    assert type(found) is source.record
    assert to_builtins(found) == {"id": "a", "text": "x", "sizes": (1, 2)}


class Plugged(Struct, frozen=True):
    """A record of a plug-in."""

    id: str
    sizes: tuple[int, ...]
    note: str | None = None
    ratio: float = 0.5


def test_a_plug_in_s_record_is_read_by_its_fields_and_by_a_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = registry.EntryPoint("plugged", f"{Plugged.__module__}:Plugged", "gristmill.records")
    monkeypatch.setitem(registry._entries("records"), "plugged", entry)
    if registry.find("records", "plugged") is not Plugged:
        pytest.fail("the test's module was imported twice")
    path = jsonl(
        tmp_path / "a.jsonl",
        {"id": 1, "dims": {"all": [1, 2.0]}, "note": None, "ratio": "0.25"},
        {"dims": {"all": ["x"]}},
        {"dims": {}, "note": "n"},
    )
    source = Source(path=path, reads="plugged", columns={"sizes": "dims.all"})
    first, *bad = read(source)
    assert first == Plugged("1", (1, 2), None, 0.25)
    assert [b.reason for b in bad] == ["row does not fit the record", "no sizes column"]
    assert "expected `int`" in bad[0].detail and "sizes[0]" in bad[0].detail
    with pytest.raises(InputError, match="a column for the sizes is missing"):
        list(read(Source(path=path, reads="plugged")))
    with pytest.raises(RecipeError, match=r"'size' is not a field of plugged\..*mean 'sizes'"):
        Source(path=path, reads="plugged", columns={"size": "x"})
    with pytest.raises(RecipeError, match=r"'sample' is not a type of record\..*mean 'samples'"):
        Source(path=path, reads="sample")


def test_several_answers_are_all_accepted_by_a_verifier(tmp_path: Path) -> None:
    rows = [
        {"problem": "a", "answer": ["18", "18.0", " ", "18"]},
        {"problem": "b", "answer": ["Paris"]},
        {"problem": "c", "answer": []},
        {"problem": "d", "answer": {"value": "JFK", "aliases": ["John F. Kennedy", "JFK"]}, "known": "Jack"},
    ]
    found = good(Source(path=jsonl(tmp_path / "a.jsonl", *rows[:3])))
    assert [p.answer for p in found] == ['["18","18.0"]', "Paris", None]
    columns = {"answer": "answer.value", "aliases": "answer.aliases"}
    [one] = good(Source(path=jsonl(tmp_path / "b.jsonl", rows[3]), columns=columns))
    assert one.answer == '["JFK","John F. Kennedy"]'
    verify = ShortAnswer()
    assert [verify(said, one.answer).outcome for said in ("JFK", "John F. Kennedy", "Nixon")] == [
        Outcome.CORRECT,
        Outcome.CORRECT,
        Outcome.INCORRECT,
    ]
    assert reasons(Source(path=jsonl(tmp_path / "c.jsonl", {"problem": "x", "answer": [1, "one"]}))) == [
        "answers of mixed types"
    ]


def test_samples_from_elsewhere(tmp_path: Path) -> None:
    system, user = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2 + 2?"}
    said = {"role": "assistant", "content": "4"}
    rows = [
        {"question": "What is 2 + 2?", "answer": 4, "response": "It is 4.", "model": "m", "temp": 0.5},
        {"question": "What is 2 + 2?", "answer": 4, "response": "It is 5.", "finish_reason": "length"},
        {"messages": [system, user, said], "answer": 4},
        {"messages": [system, user], "completion": "4", "answer": 4, "problem_id": "mine", "index": 7},
        {"prompt": "What is 2 + 2?", "output": [said], "system": "Be brief.", "id": "own"},
        {"prompt": [user], "generation": ""},
        {"messages": [user]},
        {"question": " ", "response": "x"},
    ]
    files = [jsonl(tmp_path / f"{i}.jsonl", row) for i, row in enumerate(rows)]
    both = good(Source(path=jsonl(tmp_path / "both.jsonl", *rows[:2]), reads="samples"))
    asked = both[0].problem_id
    assert [s.id for s in both] == [f"{asked}/0", f"{asked}/1"]
    assert (both[0].index, both[1].index, both[1].finish_reason) == (0, 1, "length")
    assert to_builtins(both[0]) | {"id": "", "problem_id": ""} == to_builtins(
        Sampled(
            "", "", 0, user["content"], "4", ASKED, "It is 4.", "stop", 0, 0, model="m", meta='{"temp":0.5}'
        )
    )
    [problem] = good(Source(path=jsonl(tmp_path / "p.jsonl", {"problem": user["content"], "answer": "4"})))
    assert problem.id == asked, "samples meet the problems of another file"
    [whole] = good(Source(path=files[2], reads="samples"))
    [sent] = good(Source(path=files[3], reads="samples"))
    assert whole.messages == sent.messages == (Message("system", "Be brief."), *ASKED)
    assert (whole.completion, whole.problem, sent.id, sent.index) == ("4", user["content"], "mine/7", 7)
    [own] = good(Source(path=files[4], reads="samples"))
    assert (own.id, own.messages, own.completion) == ("own", whole.messages, "4")
    assert [reasons(Source(path=f, reads="samples")) for f in files[5:]] == [
        ["message is empty"],
        ["no completion"],
        ["problem is empty"],
    ]


def test_passages(tmp_path: Path) -> None:
    rows = [{"context": "Cats sleep.", "title": "Cats", "topic": 1}, {"context": None}, {"context": "Dogs."}]
    first, bad, second = read(Source(path=jsonl(tmp_path / "a.jsonl", *rows), reads="passages"))
    assert first == Passage(first.id, "Cats sleep.", "Cats", '{"topic":1}')
    assert (bad.reason, bad.row) == ("row does not fit the record", 2)
    assert second == Passage(second.id, "Dogs.")
    pl.DataFrame({"body": ["x"]}).write_csv(tmp_path / "a.csv")
    assert [
        p.text for p in good(Source(path=str(tmp_path / "a.csv"), reads="passages", columns={"text": "body"}))
    ] == ["x"]


def test_options_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    for options, message in (
        ({"path": "a", "run": "b"}, "only one"),
        ({}, "give one of"),
        ({"path": "a", "stage": "s"}, "'stage' is of a former run"),
        ({"run": "a", "columns": {"id": "x"}}, "'columns' is for files"),
    ):
        with pytest.raises(ValueError, match=message):
            Source(**options)
