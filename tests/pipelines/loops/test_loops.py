"""Loops: what a round does, in which order, with which model, and that nothing is done twice.

It is longer than most: its tests share one loop, which every one of them changes a little.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from paths import ROOT

from gristmill.core.errors import RecipeError, RunError
from gristmill.pipelines.loops import Loop, LoopMeasure, Rounds, run_loop
from gristmill.pipelines.loops import rounds as at_work
from gristmill.pipelines.loops.checking import check
from gristmill.pipelines.loops.measuring import mean_of
from gristmill.pipelines.loops.table import markdown, write
from gristmill.pipelines.recipe.plain import convert, document

RIGHT = {"kind": "scripted", "replies": [{"texts": [r"It is \boxed{2}.", r"It is \boxed{3}."]}]}
SAMPLED = {"stage": "sample", "samples": 2}
SAMPLE = {
    "name": "any",
    "engine": RIGHT,
    "source": {"path": "problems.jsonl"},
    "stages": [SAMPLED, {"stage": "where", "as": "right", "condition": "verdict == 'correct'"}],
}
CHEAP = {"source": {"path": "problems.jsonl"}, "stages": [{"stage": "where", "condition": "answer = '2'"}]}
LOOP: dict[str, Any] = {
    "name": "raft",
    "model": "base",
    "rounds": 2,
    "steps": [
        {"name": "made", "run": SAMPLE},
        {"name": "reward", "train": "reward", "data": ["pairs.jsonl"]},
        {
            "name": "tuned",
            "train": "sft",
            "data": ["rows.jsonl"],
            "with": {"epochs": 2, "lora": {"targets": ["${base}", "${round}", "${reward}"]}},
        },
        {"name": "mixed", "merge": ["average", "${base}", "${tuned}"], "next": False},
    ],
    "evaluate": {"run": {**SAMPLE, "stages": [SAMPLED]}},
    "measures": {
        "accuracy": {"value": "verdict == 'correct'"},
        "kept": {"of": "made", "stage": "right"},
    },
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the loop names, at work in it."""
    monkeypatch.chdir(tmp_path)
    problems = [{"problem": "1 + 1?", "answer": "2"}, {"problem": "3 - 1?", "answer": "2"}]
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in problems))
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "pairs.jsonl").write_text('{"chosen": "a", "rejected": "b"}\n')
    (tmp_path / "base").mkdir()
    return tmp_path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that a loop gives, none of which is carried out."""
    words: list[list[str]] = []
    monkeypatch.setattr(at_work, "gristmill", lambda given, log: words.append(list(given)))
    return words


def loop(**changes: Any) -> Loop:
    return convert({**LOOP, **changes}, Loop, "")


def done(given: Loop, place: Path, out: str = "out") -> list[Rounds]:
    return run_loop(given, place / out, log=place / "log.sqlite", say=lambda _: None)


def options(place: Path, number: int, step: str = "tuned") -> dict[str, Any]:
    """What a training was told."""
    told: dict[str, Any] = json.loads((place / f"round-{number}" / f"{step}.json").read_text())
    return told


def test_each_round_trains_the_model_of_the_one_before(place: Path, asked: list[list[str]]) -> None:
    [found] = done(loop(), place)
    assert [words[0] for words in asked] == ["train", "train", "merge"] * 2
    out = place / "out"
    first, second = options(out, 1), options(out, 2)
    models = [f"{one['output']}/model" for one in (first, second)]
    assert (first["model"], first["seed"], first["epochs"]) == ("base", 1, 2)
    assert (second["model"], second["seed"]) == (models[0], 2)
    # Neither the reward model nor a merge that is told not to lead is what the loop goes on with.
    assert second["lora"]["targets"] == ["base", "2", str(out / "round-2" / "reward" / "model")]
    assert asked[2] == ["merge", "average", "base", models[0], "--out", str(out / "round-1" / "mixed")]
    assert [r.model for r in found.rounds] == ["base", *models]


def test_the_table_has_the_model_as_it_was_and_every_round(place: Path, asked: list[list[str]]) -> None:
    [found] = done(loop(), place)
    before, _, after = found.rounds
    assert before.measures.keys() == {"accuracy"} and after.measures.keys() == {"accuracy", "kept"}
    accuracy = after.measures["accuracy"].value
    assert accuracy is not None and 0 < accuracy < 1 and after.measures["accuracy"].rows == 4
    assert after.measures["kept"].value in range(5)
    write([found], place / "out", "raft")
    lines = markdown([found]).splitlines()
    assert lines[0] == "| round | accuracy | kept |" and lines[2].endswith("| - |") and len(lines) == 5
    page = (place / "out" / "rounds.html").read_text()
    assert page.count("<svg") == 2 and "accuracy" in page


def test_what_is_done_is_not_done_again_and_more_rounds_go_on(place: Path, asked: list[list[str]]) -> None:
    once = done(loop(), place)
    count = len(asked)
    assert done(loop(), place) == once and len(asked) == count
    more = done(loop(rounds=3), place)
    assert more[0].rounds[:3] == once[0].rounds and len(asked) == count * 3 // 2


def test_a_loop_that_was_stopped_continues_at_the_step(
    place: Path, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = msgspec.to_builtins(done(loop(), place, "whole"))
    expected = [words[:2] for words in asked]
    for stop in (0, 2, 4):
        asked.clear()

        def command(words: list[str], log: Path, stop: int = stop) -> None:
            if len(asked) == stop:
                raise RunError("killed.", remedy="Again.")
            asked.append(list(words))

        with monkeypatch.context() as patched:
            patched.setattr(at_work, "gristmill", command)
            with pytest.raises(RunError, match="killed"):
                done(loop(), place, f"out{stop}")
        again = json.dumps(msgspec.to_builtins(done(loop(), place, f"out{stop}")))
        assert [words[:2] for words in asked] == expected
        assert json.loads(again.replace(f"out{stop}", "whole")) == whole


def test_another_loop_does_not_take_the_folder(place: Path, asked: list[list[str]]) -> None:
    done(loop(), place)
    with pytest.raises(RunError, match=r"out belongs to a loop with another model: 'base' rather than"):
        done(loop(model="rows.jsonl"), place)
    for steps in (LOOP["steps"][:-1], [*LOOP["steps"], {"name": "late", "run": CHEAP}]):
        with pytest.raises(RunError, match=r"other steps: round-1 is done .*remove .*round-1 and the rounds"):
            done(loop(steps=steps, measures={}), place)
    with pytest.raises(RunError, match=r"round-0 is done with another 'evaluate'"):
        done(loop(evaluate={"run": SAMPLE}), place)
    done(loop(measures={}), place)


def test_a_step_that_is_not_done_may_still_be_put_right(
    place: Path, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(words: list[str], log: Path) -> None:
        raise RunError("killed.", remedy="Again.")

    made, reward, *rest = LOOP["steps"]
    made = {**made, "run": CHEAP}

    def given(*steps: dict[str, Any]) -> Loop:
        return loop(rounds=1, evaluate=None, measures={}, steps=[*steps, *rest])

    with monkeypatch.context() as patched:
        patched.setattr(at_work, "gristmill", command)
        with pytest.raises(RunError, match="killed"):
            done(given(made, reward), place)
    with pytest.raises(RunError, match="round-1 is done with another 'made'"):
        done(given({**made, "set": ["seed=3"]}, reward), place)
    with pytest.raises(RunError, match="another 'first'"):  # a step before one that is done comes too late
        done(given({"name": "first", "run": CHEAP}, made, reward), place)
    done(given(made, {**reward, "with": {"centre": 0.5}}), place)
    assert options(place / "out", 1, "reward")["centre"] == 0.5


@pytest.mark.parametrize(
    ("number", "changes", "rule"),
    [
        (0, {"run": {**SAMPLE, "stages": [{"stage": "sampel"}]}}, r"'made': stages\[0\].*'sample'"),
        (0, {"set": ["stages.0.samples=none"]}, r"the step 'made': stages\[0\]\.samples"),
        (0, {"run": "nosuch.yaml"}, r"the step 'made': nosuch.yaml: there is no such recipe"),
        (1, {"data": ["made:rigth"]}, r"the step 'reward': data: 'made' has no stage 'rigth'.*'right'"),
        (1, {"data": ["previous.mde:right"]}, r"'mde' is not a step that runs a recipe.*'made'"),
        (2, {"with": {"epoch": 2}}, r"the step 'tuned': with\.epoch: unknown key.*'epochs'"),
        (2, {"with": {"epochs": "two"}}, r"with\.epochs: 'two' is refused.*docs/training\.md"),
        (2, {"with": {"lora": {"targets": ["${rewrd}"]}}}, r"the step 'tuned': .*rewrd.*'reward'"),
        (3, {"merge": ["average", "${made.gguf}"]}, r"the step 'mixed': .*'made' is not a model"),
    ],
)
def test_what_is_written_wrongly_is_told_before_the_first_step(
    place: Path, asked: list[list[str]], number: int, changes: dict[str, Any], rule: str
) -> None:
    steps = [dict(step) for step in LOOP["steps"]]
    steps[number] |= changes
    with pytest.raises(RecipeError, match=rule):
        done(loop(steps=steps), place)
    assert not (place / "out").exists()


@pytest.mark.parametrize("file", sorted((ROOT / "data" / "loops").glob("*.yaml")), ids=lambda p: p.stem)
def test_a_shipped_loop_has_nothing_that_is_written_wrongly(file: Path) -> None:
    check(convert(document(file), Loop, ""), file.parent)


def test_a_measure_of_a_stage_that_is_not_there_is_told_before_the_first_step(place: Path) -> None:
    with pytest.raises(RecipeError, match=r"measures\.kept\.stage: 'made' has no stage 'rigth'.*'right'"):
        done(loop(measures={"kept": {"of": "made", "stage": "rigth"}}), place)
    assert not (place / "out").exists()


def test_a_recipe_that_reads_a_step_is_looked_at_when_the_step_is_done(
    place: Path, asked: list[list[str]]
) -> None:
    later = {**SAMPLE, "source": {"path": "${made}/exports/rows.jsonl"}, "stages": [{"stage": "sampel"}]}
    steps = [{"name": "made", "run": CHEAP}, {"name": "again", "run": later}]
    with pytest.raises(RecipeError, match="sampel"):
        done(loop(steps=steps, evaluate=None, measures={}), place)
    assert (place / "out" / "round-1" / "made").is_dir()


def test_several_seeds_are_a_loop_each(place: Path, asked: list[list[str]]) -> None:
    found = done(loop(seeds=2, rounds=1), place)
    assert [one.seed for one in found] == [0, 1000]
    assert "0.500 (0.500 0.500)" in markdown(found)
    assert [options(place / "out" / f"seed-{n}", 1)["seed"] for n in (0, 1000)] == [1, 1001]


def test_a_second_seed_joins_a_loop_of_one(place: Path, asked: list[list[str]]) -> None:
    [one] = done(loop(rounds=1), place)
    first, second = done(loop(seeds=2, rounds=1), place)
    assert first == one and len(asked) == 6 and second.seed == 1000
    assert (place / "out" / "seed-1000" / "loop.json").exists() and not (place / "out" / "seed-0").exists()
    done(loop(seeds=2, rounds=1), place, "two")
    done(loop(rounds=1), place, "two")  # the first of two alone
    assert len(asked) == 12 and not (place / "two" / "loop.json").exists()


def test_what_a_run_found_is_told_to_later_steps_and_rounds(place: Path, asked: list[list[str]]) -> None:
    # Each round the number of right rows is put into the rate, and the first round has one of its own.
    tried = {
        "name": "tried",
        "run": {**CHEAP, "stages": [{"stage": "derive", "columns": {"rate": "0.25 * ${round}"}}]},
        "values": {
            "rate": {"value": "rate"},
            "who": {"value": "problem", "where": "problem LIKE '1%'"},
        },
    }
    rates = {"learning_rate": "${previous.tried.rate or 0.5}", "warmup": "${tried.rate}"}
    names = {"lora": {"targets": ["${tried.who}", "at ${tried.rate}"]}}
    tuned = {"name": "tuned", "train": "sft", "data": ["rows.jsonl"], "with": {**rates, **names}}
    done(loop(steps=[tried, tuned], measures={}), place)
    first, second = options(place / "out", 1), options(place / "out", 2)
    assert (first["learning_rate"], first["warmup"]) == (0.5, 0.25)
    assert (second["learning_rate"], second["warmup"]) == (0.25, 0.5)
    assert second["lora"]["targets"] == ["1 + 1?", "at 0.5"]


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ({"value": "problem"}, r"values\.x: 'problem' is to give one .*'1 \+ 1\?', '3 - 1\?'"),
        ({"value": "answer", "where": "answer = '9'"}, "give none.*Say with 'where'"),
        ({"value": "answer", "stage": "wher"}, "values.x.stage: 'made' has no stage 'wher'.*'where'"),
    ],
)
def test_a_value_that_is_not_one_is_refused(
    place: Path, asked: list[list[str]], value: dict[str, Any], rule: str
) -> None:
    steps = [{"name": "made", "run": CHEAP, "values": {"x": value}}]
    with pytest.raises(RecipeError, match=rule):
        done(loop(steps=steps, measures={}, evaluate=None), place)


def test_a_step_that_is_done_once_is_known_to_later_rounds(place: Path, asked: list[list[str]]) -> None:
    values = {"who": {"value": "problem", "where": "problem LIKE '1%'"}}
    steps = [
        {"name": "seen", "run": CHEAP, "once": True, "values": values},
        {"name": "judge", "train": "reward", "data": ["pairs.jsonl"], "once": True},
        {
            "name": "tuned",
            "train": "sft",
            "data": ["rows.jsonl"],
            "with": {"lora": {"targets": ["${previous.tuned or judge}", "${seen}", "${seen.who}"]}},
        },
    ]
    done(loop(steps=steps, measures={}), place)
    assert [words[1] for words in asked] == ["reward", "sft", "sft"]
    one, out = place / "out" / "round-1", place / "out"
    seen = [str(one / "seen"), "1 + 1?"]
    assert options(out, 1)["lora"]["targets"] == [str(one / "judge" / "model"), *seen]
    assert options(out, 2)["lora"]["targets"] == [str(one / "tuned" / "model"), *seen]


def test_a_training_reads_a_file_that_a_run_exported(place: Path, asked: list[list[str]]) -> None:
    engine = {"kind": "scripted", "replies": [{"texts": ["It is 2.", "2"]}]}
    measure = {"stage": "measure", "scores": {"size": "words"}}
    stages = [{**SAMPLED, "samples": 8}, measure, {"stage": "pairs", "by": "scores.size"}]
    exports = [{"format": "trl-reward", "from": "pairs", "score": "size", "path": "p.jsonl"}]
    made = {"name": "made", "run": {**SAMPLE, "engine": engine, "stages": stages, "exports": exports}}
    step = {"name": "t", "train": "preference", "data": ["${made}/exports/p.jsonl"], "with": {"loss": "copg"}}
    done(loop(rounds=1, steps=[made, step], measures={}), place)
    rows = (place / "out" / "round-1" / "t.jsonl").read_text().splitlines()
    assert [json.loads(row)["margin"] for row in rows] == [2.0] * len(rows) and rows


def test_a_run_with_a_seed_of_its_own_is_the_same_in_every_round(place: Path, asked: list[list[str]]) -> None:
    steps = [
        {"name": "own", "run": {**CHEAP, "name": "any", "seed": 7}, "own_seed": True},
        {"name": "other", "run": {**CHEAP, "name": "any", "seed": 7}},
    ]
    done(loop(steps=steps, evaluate={"run": {**CHEAP, "name": "any"}, "own_seed": True}, measures={}), place)
    seeds = [
        [document(place / "out" / f"round-{n}" / name / "recipe.yaml")["seed"] for n in (1, 2)]
        for name in ("own", "other", "evaluate")
    ]
    assert seeds == [[7, 7], [8, 9], [0, 0]]


def test_a_grid_of_averages_is_a_file_that_later_steps_read(place: Path, asked: list[list[str]]) -> None:
    steps = [
        {"name": "grid", "merge": ["grid", "--base", "${base}"]},
        {"name": "front", "merge": ["front", "${grid}"]},
    ]
    [found] = done(loop(rounds=1, steps=steps, measures={}), place)
    out = place / "out" / "round-1"
    assert asked == [
        ["merge", "grid", "--base", "base", "--out", str(out / "grid.jsonl")],
        ["merge", "front", str(out / "grid.jsonl"), "--out", str(out / "front.json")],
    ]
    assert found.rounds[1].model == "base"
    for text, rule in (("${grid.gguf}", "'grid' is not a model"), ("${grd}", "not known here")):
        with pytest.raises(RecipeError, match=rule):
            check(loop(steps=[steps[0], {"name": "m", "merge": ["average", text]}], measures={}), place)
    with pytest.raises(RecipeError, match="'merge grid' writes no model"):
        loop(steps=[{**steps[0], "next": True}], measures={})


def test_the_gain_of_a_correction_has_an_interval(place: Path, asked: list[list[str]]) -> None:
    replies = [
        {"match": "right?", "texts": ["No. [VERIFY] wrong."]},
        {"match": "Again", "texts": [r"\boxed{2}"]},
        {"match": "1 + 1?", "texts": [r"\boxed{3}"]},
        {"texts": [r"\boxed{2}"]},
    ]
    prompts = {
        "evaluation": {"messages": [{"role": "user", "content": "{problem} {attempt} Is it right?"}]},
        "correction": {"messages": [{"role": "user", "content": "{problem} Again"}]},
    }
    trial = {
        **SAMPLE,
        "engine": {"kind": "scripted", "replies": replies},
        "stages": [{"stage": "self_correction_trial", "prompts": prompts}],
    }
    measures = {name: {"value": name} for name in ("turn1", "final", "delta")}
    steps = [LOOP["steps"][1]]
    [found] = done(loop(rounds=1, steps=steps, evaluate={"run": trial}, measures=measures), place)
    told = found.rounds[0].measures
    assert (told["turn1"].value, told["final"].value) == (0.5, 1.0)
    assert told["delta"] == mean_of([1.0, 0.0]) and told["delta"].low is not None


def test_models_are_packed_as_precise_as_the_loop_says(place: Path, asked: list[list[str]]) -> None:
    targets = {"lora": {"targets": ["${model.gguf}"]}}
    step = {"name": "tuned", "train": "sft", "data": ["rows.jsonl"], "with": targets}
    done(loop(rounds=1, precision="q8_0", steps=[step], evaluate=None, measures={}), place)
    assert asked[0][:2] == ["train", "gguf"] and asked[0][-2:] == ["--precision", "q8_0"]


def test_rows_of_the_round_before_are_trained_too(place: Path, asked: list[list[str]]) -> None:
    stages = [SAMPLED, {"stage": "demonstrations", "outcomes": []}]
    made = {"name": "made", "run": {**SAMPLE, "stages": stages}}
    step = {"name": "tuned", "train": "sft", "data": ["made", "previous.made:demonstrations"]}
    done(loop(steps=[made, step], measures={}), place)
    first, second = ((place / "out" / f"round-{n}" / "tuned.jsonl").read_text().splitlines() for n in (1, 2))
    assert len(first) == 4 and len(second) == 8 and second[4:] == first


@pytest.mark.parametrize(
    ("step", "rule"),
    [
        ({"name": "a"}, "it must have one of run, train and merge, but has none"),
        ({"name": "a", "run": "x.yaml", "train": "sft", "data": ["b:c"]}, "has run and train"),
        ({"name": "a", "train": "sft"}, "does not say what to train on"),
        ({"name": "model", "run": "x.yaml"}, "a loop uses that name itself"),
        ({"name": "a", "train": "sfd", "data": ["b:c"]}, "sfd"),
        ({"name": "a", "train": "sft", "data": ["b"], "values": {"x": {"value": "y"}}}, "values but no run"),
    ],
)
def test_a_step_that_says_too_much_or_too_little_is_refused(step: dict[str, Any], rule: str) -> None:
    with pytest.raises(RecipeError, match=rule):
        loop(steps=[step], measures={})


def test_rows_and_places_that_are_not_known_are_refused(place: Path, asked: list[list[str]]) -> None:
    unknown = [{"name": "t", "train": "sft", "data": ["nothing:x"]}]
    with pytest.raises(RecipeError, match="'nothing:x' is neither a step's rows nor a file"):
        done(loop(steps=unknown, measures={}), place)
    wrong = [{"name": "m", "merge": ["average", "${modl}"]}]
    with pytest.raises(RecipeError, match=r"\$\{modl\} is not known here.*'model'"):
        done(loop(steps=wrong, measures={}), place, "b")
    with pytest.raises(RecipeError, match=r"measures\.a\.of: 'mde'.*'made'"):
        loop(measures={"a": {"of": "mde"}})


def test_rows_for_another_training_are_refused(place: Path, asked: list[list[str]]) -> None:
    steps = [
        {"name": "made", "run": {**SAMPLE, "stages": [SAMPLED, {"stage": "pairs"}]}},
        {"name": "t", "train": "process_reward", "data": ["made:pairs"]},
    ]
    with pytest.raises(RecipeError, match=r"process_reward takes .*gristmill train preference"):
        done(loop(steps=steps, measures={}), place)


def test_a_mean_has_the_interval_of_its_kind() -> None:
    share = mean_of([1.0, 1.0, 0.0, 1.0])
    assert share.value == 0.75 and share.low == pytest.approx(0.300636, abs=1e-5)
    mean = mean_of([1.0, 2.0, 3.0])
    assert mean.low == pytest.approx(2 - 1.959964 / 3**0.5, abs=1e-6)
    assert mean_of([]).value is None and mean_of([5.0]).low is None
    assert LoopMeasure().of == "evaluate"


def test_a_merge_that_was_finished_when_the_loop_was_killed_is_not_done_again(
    place: Path, asked: list[list[str]]
) -> None:
    (place / "out" / "round-1" / "mixed").mkdir(parents=True)
    done(loop(rounds=1), place)
    assert [words[0] for words in asked] == ["train", "train"]


def test_rows_of_files_stay_apart_where_a_file_ends_without_a_line_break(
    place: Path, asked: list[list[str]]
) -> None:
    (place / "rows.jsonl").write_text('{"text": "a"}')
    step = {"name": "tuned", "train": "sft", "data": ["rows.jsonl", "rows.jsonl"]}
    done(loop(rounds=1, steps=[step], measures={}), place)
    assert (place / "out" / "round-1" / "tuned.jsonl").read_text() == '{"text": "a"}\n' * 2
