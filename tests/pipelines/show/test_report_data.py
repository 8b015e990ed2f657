"""What a report says and which rows it holds, without a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from typer.testing import CliRunner
from written_runs import Stages, write_run

from gristmill.cli.main import app
from gristmill.core.engine import Completion, Message
from gristmill.core.errors import GristmillError, RunError
from gristmill.core.knowledge import Knowledge
from gristmill.core.records import Judged, Pair, Problem, Sampled, Score
from gristmill.core.schema import to_frame
from gristmill.core.stages import Rejection
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.pipelines.rundir.parts import encode
from gristmill.pipelines.show.blocks import MOST, blocks, head, kind_of, verdict_of
from gristmill.pipelines.show.document import document, inside
from gristmill.pipelines.show.figures import agreement, figures
from gristmill.pipelines.show.picked import picked, shares
from gristmill.pipelines.show.report import data_of, html, write
from gristmill.pipelines.show.subject import open_subject

RIGHT, WRONG = Verdict(Outcome.CORRECT, 1.0), Verdict(Outcome.INCORRECT, 0.0)
ASK = (Message("user", "What is 2 + 3?"),)


def sample(n: int, verdict: Verdict = RIGHT, text: str = "It is 5.", **more: Any) -> Sampled:
    return Sampled(f"p{n}/0", f"p{n}", 0, "What is 2 + 3?", "5", ASK, text, "stop", 9, 4, verdict, **more)


def run_of(path: Path, count: int = 6) -> Path:
    stages: Stages = {
        "sample": (Sampled, [sample(n, RIGHT if n % 2 else WRONG) for n in range(count)], ()),
        "kept": (
            Sampled,
            [sample(n) for n in range(1, count, 2)],
            [Rejection(f"p{n}/0", "where: wrong", "verdict") for n in range(0, count, 2)],
        ),
    }
    return write_run(path, stages)


def the_block(row: dict[str, Any], kind: str) -> dict[str, Any]:
    [found] = [block for block in blocks(row) if block["is"] == kind]
    return found


def test_rows_of_trainers_formats_show_turns_and_what_is_trained() -> None:
    asked, said = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}
    shared = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]
    known, unknown = [("user", False), ("assistant", True)], [("user", None), ("assistant", None)]
    rows: list[tuple[dict[str, Any], Any]] = [
        ({"prompt": "Q", "completion": "A"}, known),
        ({"messages": [asked | {"train": False}, said | {"train": True}]}, known),
        ({"conversations": shared}, unknown),
        ({"instruction": "Q", "input": "", "output": "A"}, known),
        ({"prompt": [asked], "completion": [said], "label": True}, known),
    ]
    for row, expected in rows:
        turns = the_block(row, "turns")["turns"]
        assert [(t["role"], t["train"]) for t in turns] == expected, row
        assert [t["pieces"] for t in turns] == [[["Q", "", ""]], [["A", "", ""]]], row
        assert head(row) == "Q"


def test_only_the_spans_of_a_trained_turn_are_marked_and_no_text_is_lost() -> None:
    spans = [{"start": 1, "end": 3}]
    said = {"role": "assistant", "content": "ab😀cd", "train": True, "spans": spans, "reasoning": "hm"}
    row = {"turns": [said]}
    [turn] = the_block(row, "turns")["turns"]
    assert turn["pieces"] == [["a", "out", ""], ["b😀", "loss", ""], ["cd", "out", ""]]
    assert turn["thought"] == "hm"


def test_a_pair_without_a_prompt_shares_the_turns_that_both_sides_begin_with() -> None:
    asked = {"role": "user", "content": "Q"}
    sides = {s: [asked, {"role": "assistant", "content": s}] for s in ("chosen", "rejected")}
    pair = the_block(sides, "pair")
    assert [t["pieces"][0][0] for t in pair["prompt"]] == ["Q"] and pair["prompt"][0]["train"] is False
    assert [[t["pieces"][0][0] for t in pair[s]] for s in ("chosen", "rejected")] == [
        ["chosen"],
        ["rejected"],
    ]


def test_kinds_of_self_correction_are_said_in_words() -> None:
    sides = {"prompt": "Q", "chosen": "A", "rejected": "B"}
    kinds = ["M-D1", "M-D3w", "M-D1", "M-D3w"]
    rows = [{"id": str(n), "kind": kind, **sides} for n, kind in enumerate(kinds)]
    assert the_block(rows[0], "note")["text"].startswith("M-D1: after a wrong first answer")
    [told] = [one["told"] for one in figures({"": pl.LazyFrame(rows)}) if "Rows by kind" in one["svg"]]
    assert told.startswith("M-D1: after a wrong") and "M-D3w: a wrong first answer, judged wrong" in told
    assert not [block for block in blocks({"kind": "other", **sides}) if block["is"] == "note"]


def test_the_parts_of_an_answer_that_no_passage_supports_are_marked() -> None:
    from gristmill.verifiers.grounding import Grounding

    text = "The mill was built in 1820. It has forty rooms."
    held = {"passages": [{"title": "The mill", "text": "The mill was built in 1820."}]}
    verdict = Grounding()(text, '["The mill was built in 1820."]')
    row = to_frame(
        [sample(1, text=text, scores=(Score("grounding", verdict=verdict),), meta=json.dumps(held))], Sampled
    )
    turn = the_block(row.row(0, named=True), "turns")["turns"][-1]
    assert "".join(piece[0] for piece in turn["pieces"]) == text
    assert [piece[0] for piece in turn["pieces"] if piece[1] == "unsupported"] == ["It has forty rooms."]
    assert the_block(row.row(0, named=True), "passages")["passages"] == [
        ["The mill", "The mill was built in 1820."]
    ]


def test_probes_and_steps_with_labels_are_shown_as_what_they_are() -> None:
    known = Knowledge(
        "k", "Q", "A", "{}", ASK, None, (Judged(Completion("A"), RIGHT), Judged(Completion("B"), WRONG))
    )
    [group] = the_block(to_frame([known], Knowledge).row(0, named=True), "answers")["groups"]
    assert [(a["text"], a["outcome"]) for a in group["answers"]] == [("A", "correct"), ("B", "incorrect")]
    drawn = the_block({"prompt": "Q", "completions": ["x", "y"], "labels": [True, False]}, "drawing")[
        "drawing"
    ]
    assert [m.get("value") for m in drawn["marks"]] == [None, 1.0, 0.0]


def test_any_other_row_has_its_columns_and_a_long_text_is_cut_and_says_so() -> None:
    row = {"id": "a", "n": 3, "deep": {"b": [1]}, "text": "x" * (MOST + 5), "empty": ""}
    assert the_block(row, "fields")["fields"] == [["n", "3"], ["deep", '{"b":[1]}']]
    assert the_block(row, "text")["text"].endswith("x… (5 more characters are in the file)")
    assert (kind_of(row), verdict_of(row)) == ("", "")
    table = {"id": "row 1", "Type": "Adversarial", "Question": "Why?", "Best Answer": "So."}
    assert head(table) == "Why?" and the_block(table, "text")["title"] == "Question"


def test_what_one_does_not_want_goes_to_the_others() -> None:
    assert shares([1, 100, 100], 21) == [1, 10, 10]
    assert shares([3, 4], 100) == [3, 4]
    assert shares([], 5) == []


def test_rows_are_chosen_by_their_ids_alone_and_shown_in_order(tmp_path: Path) -> None:
    many, few = (write_run(tmp_path / name, {"s": (Sampled, rows, ())}) for name, rows in (
        ("many", [sample(n) for n in range(400)]),
        ("few", [sample(n) for n in range(0, 400, 2)]),
    ))  # fmt: skip
    shown, views = picked(open_subject(str(many)), rows=60)
    ids = [msgspec.json.decode(view)["id"] for view in views]
    assert (shown[0].rows, shown[0].shown) == (400, 60)
    assert ids == sorted(ids, key=lambda one: int(one[1:-2])) and len(set(ids)) == 60
    others = {msgspec.json.decode(view)["id"] for view in picked(open_subject(str(few)), rows=60)[1]}
    assert {one for one in ids if int(one[1:-2]) % 2 == 0} <= others


def test_a_page_of_very_long_rows_holds_fewer_of_them(tmp_path: Path) -> None:
    path = write_run(tmp_path / "r", {"s": (Sampled, [sample(n, text="y" * 9_000) for n in range(50)], ())})
    shown, views = picked(open_subject(str(path)), size=100_000)
    assert 5 < shown[0].shown == len(views) < 12


def test_a_rejected_row_is_shown_as_it_came_to_the_stage(tmp_path: Path) -> None:
    found = data_of([open_subject(str(run_of(tmp_path / "r")))])
    lost = [msgspec.json.decode(row) for row in found["rows"]][-3:]
    assert [row["reason"] for row in lost] == ["where: wrong"] * 3
    assert lost[0]["verdict"] == "incorrect" and lost[0]["blocks"][0]["is"] == "turns"


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    path = str(run_of(tmp_path / "r"))
    assert html([open_subject(path)]) == html([open_subject(path)])


def test_no_text_ends_the_element_that_holds_it_and_only_these_scripts_may_run() -> None:
    attack = "</script><!-- <img src=x onerror=alert(1)> \u2028 & __SCRIPT__"
    page = document("trees.html", [attack], scripts=("base.js",), title=attack, mark=attack)
    assert (
        page.count("</script>") == 2
        and "<img" not in page
        and "<!--" not in page
        and "\u2028" not in inside(attack)
    )
    assert json.loads(re.search(r'id="data">(.*?)</script>', page)[1]) == [attack]  # type: ignore[index]
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)[0]
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{allowed}'" in page and "unsafe-inline" not in page


def test_scorers_that_say_the_same_agree(tmp_path: Path) -> None:
    rows = [
        sample(
            n,
            RIGHT if n % 2 else WRONG,
            scores=(Score("a", n % 2), Score("b", -n, RIGHT if n % 2 else WRONG)),
        )
        for n in range(8)
    ]
    found = {tuple(one["scorers"]): one for one in agreement(to_frame(rows, Sampled).lazy())}
    both = found["b", "verifier"]
    assert (both["rows"], both["same"], both["kappa"]) == (8, 1.0, 1.0)
    assert found["a", "verifier"]["rank"] == pytest.approx(1.0) and found["a", "verifier"]["same"] is None
    assert agreement(to_frame([sample(1)], Sampled).lazy()) == []


def test_scorers_of_pairs_agree_on_which_side_is_better() -> None:
    sides = [(Message("assistant", text),) for text in ("good", "bad")]
    scores = (
        Score("chosen_a", 1.0),
        Score("rejected_a", 0.0),
        Score("chosen_b", 0.9),
        Score("rejected_b", 0.1),
    )
    pairs = [Pair(f"x{n}", f"x{n}", "k", ASK, sides[0], sides[1], scores=scores) for n in range(3)]
    [found] = agreement(to_frame(pairs, Pair).lazy())
    assert (found["scorers"], found["rows"], found["same"]) == (["a", "b"], 3, 1.0)


def test_a_run_at_work_is_shown_as_far_as_it_got(tmp_path: Path) -> None:
    path = run_of(tmp_path / "r")
    (path / "summary.json").rename(path / "partial.json")
    new = path / ".02-next.new"
    new.mkdir()
    whole = encode(to_frame([sample(1)], Sampled))
    (new / "part-00000.parquet").write_bytes(whole)
    (new / "part-00001.parquet").write_bytes(whole[: len(whole) // 2])
    subject = open_subject(str(path))
    assert subject.mark.startswith("PARTIAL")
    last = subject.tables[-1]
    assert (last.stage, last.state) == ("next", "more rows are being written")
    assert last.frame.select(pl.len()).collect().item() == 1


def test_a_run_that_has_only_begun_has_a_page_too(tmp_path: Path) -> None:
    path = run_of(tmp_path / "r")
    for folder in path.glob("0*"):
        folder.rename(tmp_path / folder.name)
    (path / "summary.json").rename(path / "partial.json")
    assert data_of([open_subject(str(path))])["rows"] == []


def test_the_command_takes_a_run_a_file_or_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_of(Path("runs/one"))
    Path("rows.jsonl").write_text('{"prompt": "Q", "completion": "A"}\n')
    Path("rows.json").write_text('[{"instruction": "Q", "output": "A"}]')
    for args, made in (
        (["one"], "one-report.html"),
        (["page", "one", "--out", "x/y.html"], "x/y.html"),
        (["rows.jsonl", "one"], "rows-one-report.html"),
        (["rows.json", "--rows", "1"], "rows-report.html"),
    ):
        result = CliRunner().invoke(app, ["report", *args])
        assert (result.exit_code, result.output) == (0, f"written: {made}\n"), result.output
        assert Path(made).read_text().startswith("<!doctype html>")


def test_what_cannot_be_reported_on_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="Did you mean 'one'"):
        run_of(tmp_path / "one")
        write(["onne"], runs=tmp_path)
    with pytest.raises(GristmillError, match="there is no such file"):
        write(["gone.jsonl"], runs=tmp_path)
    result = CliRunner().invoke(app, ["report", "a", "b", "c"])
    assert "3 runs or files are given" in str(result.exception)


def test_the_group_still_has_its_commands() -> None:
    assert "page" in (shown := CliRunner().invoke(app, ["report", "--help"]).output)
    assert "pairs" in shown and "votes" in shown


def test_a_problem_set_has_a_report(tmp_path: Path) -> None:
    path = write_run(
        tmp_path / "r", {"source": (Problem, [Problem("p", "What?", "5", 2, '{"topic": "sums"}')], ())}
    )
    [row] = [msgspec.json.decode(one) for one in data_of([open_subject(str(path))])["rows"]]
    assert row["head"] == "What?" and ["meta.topic", "sums"] in row["blocks"][-1]["fields"]
