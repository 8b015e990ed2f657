"""Exports for further trainers: each in its consumer's layout, with what is written beside the data."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
import yaml

from gristmill.core.engine import Message
from gristmill.core.errors import GristmillError, RecipeError, RowRejected, RunError
from gristmill.core.exports import Export
from gristmill.core.records import Demonstration, Labelled, Pair, Problem, Sampled, Score, Turn
from gristmill.core.registry import find, names
from gristmill.core.schema import gives, to_frame
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.pipelines.exports import (
    Alpaca,
    AxolotlChat,
    AxolotlDpo,
    AxolotlKto,
    LlamaFactoryKto,
    LlamaFactoryOpenAi,
    LlamaFactoryRanking,
    LlamaFactoryShareGpt,
    OpenRlhfDpo,
    OpenRlhfPrompts,
    OpenRlhfSft,
    PairQuestions,
    Rows,
    ShareGpt,
    TrlDpo,
    TrlPrompts,
    TrlReward,
    TrlSft,
    UrpoPairs,
    UrpoProblems,
    VerlPrompts,
    VerlSft,
    write,
)
from gristmill.testing import check_export

SYSTEM, ASK = Message("system", "Be brief."), Message("user", "2 + 3?")
FIVE, SIX = Message("assistant", "5"), Message("assistant", "6", "2 and 4")
PAIR = Pair(
    "a", "p", "made", (SYSTEM, ASK), (FIVE,), (SIX,), scores=(Score("chosen", 0.9), Score("rejected", 0.4))
)
LABELLED = Labelled("a", "p", (SYSTEM, ASK), (FIVE,), True)
PROBLEM, OPEN = Problem("a", "2 + 3?", "5"), Problem("b", "Write a poem.")
TURNS = (Turn("system", "Be brief.", False), Turn("user", "2 + 3?", False), Turn("assistant", "6", False))
TALK = Demonstration(
    "a", "p", "2 + 3?", "5", "made", (*TURNS, Turn("user", "Check.", False), Turn("assistant", "5", True))
)
PLAIN = Demonstration("b", "p", "2 + 3?", "5", "made", (*TURNS[:2], Turn("assistant", "5", True)))
ROLES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 3?"}]
GOOD, BAD = {"role": "assistant", "content": "5"}, {"role": "assistant", "content": "6"}
SAID = [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "2 + 3?"}]
GPT_GOOD, GPT_BAD = {"from": "gpt", "value": "5"}, {"from": "gpt", "value": "6"}
SHARE = {"conversations": [*SAID, GPT_GOOD]}
TRUTH = {"style": "rule", "ground_truth": "5"}
LAYOUTS: list[tuple[Export, Any, dict[str, Any]]] = [
    (ShareGpt(), PLAIN, SHARE),
    (LlamaFactoryShareGpt(), PLAIN, SHARE),
    (LlamaFactoryOpenAi(), PLAIN, {"messages": [*ROLES, GOOD]}),
    (LlamaFactoryRanking(), PAIR, {"conversations": SAID, "chosen": GPT_GOOD, "rejected": GPT_BAD}),
    (LlamaFactoryKto(), LABELLED, {**SHARE, "kto_tag": True}),
    (
        Alpaca(untrained="keep"),
        TALK,
        {
            "instruction": "Check.",
            "input": "",
            "output": "5",
            "system": "Be brief.",
            "history": [["2 + 3?", "6"]],
        },
    ),
    (AxolotlDpo(), PAIR, {"messages": ROLES, "chosen": GOOD, "rejected": BAD}),
    (AxolotlKto(), LABELLED, {"completion": [*ROLES, GOOD], "label": True}),
    (OpenRlhfSft(), PLAIN, {"input": ROLES, "output": [GOOD]}),
    (OpenRlhfDpo(), PAIR, {"prompt": ROLES, "chosen": [GOOD], "rejected": [BAD]}),
    (OpenRlhfPrompts(), PROBLEM, {"input": ROLES[1:], "label": "5", "datasource": "gristmill"}),
    (VerlSft(), PLAIN, {"messages": [*ROLES, GOOD]}),
    (TrlReward(), PAIR, {"prompt": ROLES, "chosen": [GOOD], "rejected": [BAD], "margin": 0.5}),
    (
        TrlPrompts(system="Be brief."),
        PROBLEM,
        {"prompt": ROLES, "problem": "2 + 3?", "solution": "5", "verifier": "math"},
    ),
    (
        VerlPrompts(split="test"),
        PROBLEM,
        {
            "data_source": "gristmill",
            "prompt": ROLES[1:],
            "ability": "math",
            "reward_model": TRUTH,
            "extra_info": {"split": "test", "index": 0, "id": "a", "problem": "2 + 3?", "verifier": "math"},
        },
    ),
    (
        UrpoProblems(),
        OPEN,
        {
            "kind": "open",
            "prompt": [{"role": "user", "content": "Write a poem."}],
            "candidates": [],
            "ranks": [],
            "solution": "",
        },
    ),
]


def plain(row: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(row))


@pytest.mark.parametrize(("export", "record", "layout"), LAYOUTS, ids=lambda x: type(x).__name__)
def test_a_row_is_in_the_layout_of_its_consumer(export: Export, record: Any, layout: dict[str, Any]) -> None:
    [row] = check_export(export, [record])
    made = plain(row)
    if "extra_info" in made:
        assert 0 <= made["extra_info"]["index"] < 2**31
        made["extra_info"]["index"] = 0
    assert made == {"id": made["id"], **layout}
    assert list(made) == ["id", *layout]


def refusal(export: Export, record: Any) -> str:
    """The reason for which a record is rejected."""
    with pytest.raises(RowRejected) as caught:
        export.rows(record)
    return caught.value.reason


def written(folder: Path, export: Export, records: list[Any], name: str) -> tuple[Path, Counter[str]]:
    part, notes = folder / "part.parquet", Counter[str]()
    to_frame(records, type(records[0])).write_parquet(part)
    write(export, [part], folder / name, notes)
    return folder / name, notes


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("kind", [ShareGpt, LlamaFactoryOpenAi, Alpaca])
def test_an_untrained_answer_is_never_trained_unless_that_is_wanted(kind: type[Any], tmp_path: Path) -> None:
    assert "has an assistant turn that must not be trained" in refusal(kind(), TALK)
    assert len(kind(untrained="keep").rows(TALK)) == 1
    both = msgspec.structs.replace(TALK, turns=(*PLAIN.turns, *TALK.turns[3:]))
    rows = kind(untrained="split").rows(both)
    assert [row.id for row in rows] == ["a#1", "a#2"]
    assert len(plain(rows[0])) == len(plain(rows[1])) and plain(rows[0]) != plain(rows[1])
    assert kind(untrained="split").settings(tmp_path / "x.jsonl")["mask_history"] is True
    assert "mask_history" not in kind().settings(tmp_path / "x.jsonl")
    assert kind(untrained="split").remarks(both)["rows of which only the last turn is to be trained"] == 2


def test_turns_that_llama_factory_would_skip_are_rejected() -> None:
    twice = msgspec.structs.replace(PLAIN, turns=(*PLAIN.turns, PLAIN.turns[-1]))
    cut = msgspec.structs.replace(PLAIN, turns=PLAIN.turns[:-1])
    assert "do not alternate" in refusal(LlamaFactoryShareGpt(), twice)
    assert "does not end with a turn of the assistant" in refusal(LlamaFactoryShareGpt(), cut)
    answered = msgspec.structs.replace(PAIR, prompt=(ASK, FIVE))
    assert "does not end with a turn of the user" in refusal(LlamaFactoryRanking(), answered)


@pytest.mark.parametrize("export", [LlamaFactoryRanking(), AxolotlDpo()])
def test_trainers_of_one_message_get_no_longer_side(export: Export) -> None:
    longer = msgspec.structs.replace(PAIR, chosen=(FIVE, Message("user", "Sure?"), FIVE))
    assert plain(export.rows(longer)[0])["chosen"] == plain(export.rows(PAIR)[0])["chosen"]
    two = msgspec.structs.replace(PAIR, chosen=(FIVE, FIVE))
    assert "more than one turn on a side" in refusal(export, two)


def test_reasoning_is_left_out_or_in_tags() -> None:
    assert plain(LlamaFactoryRanking(reasoning="tags").rows(PAIR)[0])["rejected"]["value"].startswith(
        "<think>"
    )
    assert plain(AxolotlDpo(reasoning="tags").rows(PAIR)[0])["rejected"]["content"].startswith("<think>")


def test_a_margin_needs_two_scores_that_prefer_the_chosen_side() -> None:
    assert "has no scores for a margin" in refusal(TrlReward(score="length"), PAIR)
    tied = msgspec.structs.replace(PAIR, scores=(Score("chosen", 1.0), Score("rejected", 1.0)))
    assert "do not prefer the chosen side" in refusal(TrlReward(), tied)


@pytest.mark.parametrize("export", [TrlPrompts(), VerlPrompts(), OpenRlhfPrompts()])
def test_a_problem_without_an_answer_has_no_reward(export: Export) -> None:
    assert "has no reference answer" in refusal(export, OPEN)


def test_prompts_are_made_of_problems_once_and_name_a_registered_verifier() -> None:
    assert gives(Problem, TrlPrompts.reads) and not gives(Sampled, TrlPrompts.reads)
    with pytest.raises(RecipeError, match="'maths' is not a registered verifier") as caught:
        TrlPrompts(verifier="maths")
    assert "math" in (caught.value.remedy or "")


def test_urpo_has_one_layout_for_its_three_kinds(tmp_path: Path) -> None:
    pairs = [msgspec.structs.replace(PAIR, id=f"p{i}") for i in range(8)]
    one, _ = written(tmp_path, UrpoPairs(), pairs, "pairs.jsonl")
    two, _ = written(tmp_path, UrpoProblems(), [PROBLEM, OPEN], "problems.jsonl")
    rows = lines(one) + lines(two)
    assert len({tuple(row) for row in rows}) == 1
    assert [row["kind"] for row in rows[-3:]] == ["preference", "verifiable", "open"]
    best = {row["candidates"][row["ranks"].index(1)] for row in rows[:8]}
    assert best == {"5"}
    assert {tuple(row["ranks"]) for row in rows[:8]} == {(1, 2), (2, 1)}
    tie = msgspec.structs.replace(PAIR, rejected=(FIVE,))
    assert "both sides are the same text" in refusal(UrpoPairs(), tie)


def test_dataset_info_gets_an_entry_and_keeps_what_it_had(tmp_path: Path) -> None:
    info = tmp_path / "dataset_info.json"
    info.write_text('{"mine": {"file_name": "mine.json"}, "sft": {"file_name": "old.json"}}')
    written(tmp_path, LlamaFactoryShareGpt(), [PLAIN], "sft.jsonl")
    written(tmp_path, LlamaFactoryRanking(), [PAIR], "dpo.jsonl")
    known = json.loads(info.read_text())
    assert known["mine"] == {"file_name": "mine.json"}
    assert known["sft"]["file_name"] == "sft.jsonl"
    assert known["dpo"]["ranking"] is True
    assert set(known["dpo"]["columns"]) == {"messages", "chosen", "rejected"}
    info.write_text("[")
    with pytest.raises(RunError, match="is not a JSON object"):
        written(tmp_path, LlamaFactoryKto(), [LABELLED], "kto.jsonl")


def test_the_settings_that_axolotl_trains_wrongly_without_are_written(tmp_path: Path) -> None:
    written(tmp_path, AxolotlChat(with_config=True), [TALK], "chat.jsonl")
    [data] = yaml.safe_load((tmp_path / "chat.config.yaml").read_text())["datasets"]
    assert data["path"] == "chat.jsonl"
    assert data["message_field_training"] == "train"
    assert data["message_field_training_detail"] == "train_detail"
    written(tmp_path, TrlSft(with_config=True), [PLAIN], "sft.jsonl")
    assert yaml.safe_load((tmp_path / "sft.config.yaml").read_text())["assistant_only_loss"] is True
    written(tmp_path, OpenRlhfSft(with_config=True), [PLAIN], "open.jsonl")
    flags = (tmp_path / "open.config.flags").read_text().splitlines()
    assert flags[0] == "--data.dataset open.jsonl" and "--data.output_key output" in flags


def test_settings_are_refused_where_there_are_none(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="not one trainer's"):
        written(tmp_path, PairQuestions(with_config=True), [PAIR], "x.jsonl")
    with pytest.raises(RecipeError, match=r"does not read \.dataset"):
        written(tmp_path, TrlDpo(with_config=True), [PAIR], "x.dataset")
    assert not (tmp_path / "x.jsonl").exists()


@pytest.mark.parametrize(("export", "name"), [(TrlPrompts(), "reward"), (VerlPrompts(), "compute_score")])
def test_the_reward_file_is_what_the_settings_name(export: Any, name: str, tmp_path: Path) -> None:
    out = tmp_path / f"a-b.c{export.suffix}"
    [(file, text)] = export.beside(out).items()
    assert file == "a_b_c_reward.py"
    assert "a_b_c_reward" in json.dumps(export.settings(out))
    scope: dict[str, Any] = {}
    exec(compile(text, file, "exec"), scope)
    assert callable(scope[name])


def test_columns_carry_what_the_records_hold(tmp_path: Path) -> None:
    right = Verdict(Outcome.CORRECT, 1.0)
    sampled = Sampled(
        "s",
        "p",
        0,
        "2 + 3?",
        "5",
        (ASK,),
        "5",
        "stop",
        1,
        1,
        right,
        (Score("length", 2.0),),
        "m",
        '{"source": "x"}',
    )
    columns = ("verdict", "score", "model", "scores.length", "meta.source")
    for suffix in ("jsonl", "parquet"):
        out, _ = written(tmp_path, Rows(columns=columns), [sampled], f"out.{suffix}")
        [row] = lines(out) if suffix == "jsonl" else pl.read_parquet(out).to_dicts()
        assert list(row)[-5:] == ["verdict", "score", "model", "length", "source"]
        assert [row[key] for key in list(row)[-5:]] == ["correct", 1.0, "m", 2.0, "x"]
    out, _ = written(tmp_path, TrlDpo(columns={"what": "kind"}), [PAIR], "pairs.jsonl")
    assert lines(out)[0]["what"] == "made"


@pytest.mark.parametrize(
    ("columns", "message"), [(("prompt",), "a key 'prompt' already"), (("weigth",), "weigth")]
)
def test_columns_that_cannot_be_are_refused(columns: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(GristmillError, match=message):
        written(tmp_path, TrlDpo(columns=columns), [PAIR], "out.jsonl")


def test_no_key_appears_late(tmp_path: Path) -> None:
    """Rows with and without reasoning, marks and metadata have the same keys, all the way down."""

    def keys(value: Any) -> Any:
        if isinstance(value, dict):
            return tuple((k, keys(v)) for k, v in value.items() if isinstance(v, dict | list)), tuple(value)
        return frozenset(keys(v) for v in value) if isinstance(value, list) else None

    out, _ = written(tmp_path, AxolotlChat(columns=("kind",)), [PLAIN, TALK], "chat.jsonl")
    [message] = {frozenset(keys(row["messages"])) for row in lines(out)}
    assert len(message) == 1
    bare = msgspec.structs.replace(PAIR, id="b", meta='{"source": "x"}')
    out, _ = written(tmp_path, TrlDpo(columns=("meta.source",), reasoning="keep"), [PAIR, bare], "d.jsonl")
    assert len({tuple(row) for row in lines(out)}) == 1


def test_rows_are_the_records_in_every_kind_of_file(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    table, _ = written(tmp_path, Rows(), [PAIR], "rows.parquet")
    frame = pl.read_parquet(table)
    assert frame.to_dicts() == to_frame([PAIR], Pair).to_dicts()
    text, _ = written(tmp_path, Rows(columns=("kind",)), [PAIR], "rows.jsonl")
    assert lines(text) == [{"id": "a", "kind": "made"}]
    for _ in range(2):  # a folder takes the place of a former one
        folder, _ = written(tmp_path, Rows(), [PAIR], "rows.dataset")
    assert datasets.load_from_disk(str(folder)).to_list() == frame.to_dicts()


def test_every_format_shows_a_row_and_its_settings() -> None:
    from gristmill.pipelines.show.formats import formats_text

    text = formats_text()
    assert text.count("\n  row: {") == len(names("exports"))
    for name in names("exports"):
        assert f"{name}: " in text
        export = find("exports", name)
        assert not export.trainer or f"started by: {export.command} " in formats_text(name)
    with pytest.raises(RecipeError, match="'trl-dp' is not a format") as caught:
        formats_text("trl-dp")
    assert "trl-dpo" in (caught.value.remedy or "")
