"""``gristmill eval refusal``: on recipes and on runs, by part and column, with its report."""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from gristmill.cli.evaluate import app
from gristmill.core.errors import MissingExtraError, RecipeError
from gristmill.core.knowledge import Certainty, Response
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.pipelines.evaluate import refusal as er
from gristmill.pipelines.evaluate import refusal_report
from gristmill.pipelines.evaluate.refusal import MeasureSettings, evaluate, gather, table, trial_of
from gristmill.pipelines.recipe.recipe import from_dict
from gristmill.pipelines.rundir.directory import SUMMARY, hold
from gristmill.pipelines.rundir.parts import Parts
from gristmill.pipelines.rundir.summary import StageCounts, Summary
from gristmill.synth.refusal.ask import AskOrRefuse
from gristmill.synth.refusal.texts import SURE_QUESTION


def completion(text: str, probability: float, **others: float) -> dict[str, Any]:
    top = [{"token": t, "logprob": math.log(p)} for t, p in {text: probability, **others}.items()]
    return {"text": text, "logprobs": [{**top[0], "top": top}]}


def scripted(sure: float, *replies: tuple[str, str, float]) -> dict[str, Any]:
    asked = completion(" sure", sure, **{" unsure": 1 - sure})
    made = [{"match": match, "texts": [completion(text, p)]} for match, text, p in replies]
    return {"kind": "scripted", "replies": [{"match": SURE_QUESTION, "texts": [asked]}, *made]}


BEFORE = scripted(0.9, ("Japan", "Tokyo", 0.9), ("Peru", "Cusco", 0.8), ("Fiji", "Apia", 0.7))
AFTER = scripted(
    0.6, ("Japan", "Tokyo", 0.9), ("Peru", "I don't know the answer.", 0.9), ("Fiji", "Suva", 0.5)
)
PROBLEMS = [
    {"id": "j", "problem": "Capital of Japan?", "answer": "Tokyo", "continent": "Asia"},
    {"id": "p", "problem": "Capital of Peru?", "answer": "Lima", "continent": "America"},
    {"id": "f", "problem": "Capital of Fiji?", "answer": "Suva"},
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRISTMILL_LOG", raising=False)
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(p) + "\n" for p in PROBLEMS))
    recipe = {
        "name": "facts",
        "engine": BEFORE,
        "engines": {"tuned": AFTER | {"model": "tuned"}, "unused": AFTER},
        "source": {"path": "problems.jsonl"},
        "verifier": {"kind": "short_answer", "workers": 1},
        "stages": [{"stage": "sample", "verify": False}],
    }
    (tmp_path / "facts.yaml").write_text(json.dumps(recipe))
    return tmp_path


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["refusal", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def row(text: str, begins: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(begins))
    return re.split(r"\s{2,}", line.strip())[1:]


def test_engines_of_a_recipe_side_by_side(place: Path) -> None:
    text = invoke("facts.yaml", "--engine", "engine", "--engine", "tuned", "--draws", "50")
    assert re.split(r"\s{2,}", next(ln for ln in text.splitlines() if "tuned - engine" in ln).strip()) == [
        "engine",
        "tuned",
        "tuned - engine",
    ]
    assert [cell.split(" [")[0] for cell in row(text, "accuracy ")] == ["0.333", "1.000", "+0.667"]
    assert [cell.split(" [")[0] for cell in row(text, "refusal_rate")] == ["0.000", "0.333", "+0.333"]
    assert row(text, "declined in words") == ["0", "1"]
    again = invoke("facts.yaml", "--engine", "engine", "--engine", "tuned", "--draws", "50")
    assert "0 requests" in again  # the log has them all
    assert not (place / "runs" / "facts").exists()


def test_two_engines_of_one_model_name_are_refused_before_anything_is_asked(place: Path) -> None:
    with pytest.raises(RecipeError, match="both the model 'scripted'"):
        gather(["facts.yaml"], runs=place / "runs", engines=["engine", "unused"])
    assert not (place / "runs").exists()


def test_only_the_engines_that_are_asked_are_opened_and_a_wrong_name_is_refused(place: Path) -> None:
    recipe = from_dict(json.loads((place / "facts.yaml").read_text()))
    tuned = trial_of(recipe, engines=["tuned"])
    assert [e.name for e in tuned.engines] == ["tuned"]
    assert tuned.engine == tuned.engines[0].options
    assert trial_of(recipe).engines == ()
    with pytest.raises(RecipeError, match="tune"):
        trial_of(recipe, engines=["tune"])
    with pytest.raises(RecipeError, match="method"):
        trial_of(recipe, method="bold")
    assert isinstance(trial_of(recipe, method="plain").stages[0].stage, AskOrRefuse)


def test_a_recipe_that_asks_itself_is_run_as_it_is(place: Path) -> None:
    recipe = trial_of(from_dict(json.loads((place / "facts.yaml").read_text())))
    assert trial_of(recipe).stages == recipe.stages
    with pytest.raises(RecipeError, match="says itself"):
        trial_of(recipe, engines=["tuned"])


RIGHT, WRONG = Verdict(Outcome.CORRECT, 1.0), Verdict(Outcome.INCORRECT, 0.0)


def responses(n: int, seed: int, lift: float, *, part: bool = True) -> list[Response]:
    rng = random.Random(seed)
    made = []
    for i in range(n):
        right = rng.random() < 0.4
        sure = min(1.0, max(0.0, rng.gauss(0.5 + (lift if right else -lift), 0.2)))
        meta = json.dumps({"relation": f"P{i % 3}"})
        said = Response(f"q{i}", "q", "a", meta, "x", RIGHT if right else WRONG, False, rng.random(), sure)
        made.append(replace(said, part=("test", "test_ood")[i % 2]) if part else said)
    return made


def write_run(path: Path, **stages: Sequence[Any]) -> Path:
    with hold(path) as rundir:
        for i, (name, rows) in enumerate(stages.items()):
            made = Parts(rundir.stage(i, name), type(rows[0]), 1000)
            asyncio.run(made.add(rows))
            made.finish()
        rundir.write(SUMMARY, Summary(path.name, 0, "m", [StageCounts(n) for n in stages]).encode())
    return path


def split(n: int) -> list[Certainty]:
    known = ("sure", "unsure", None)
    one = Certainty("", "q", "a", "{}", None, None, None, 0.0, (), None, 0, 0, 0.0, 1.0, None, "test")
    return [
        replace(one, id=f"q{i}", certain=known[i % 3], part="test_ood" if i < n / 2 else "test")
        for i in range(n)
    ]


def test_two_runs_by_part_and_by_column(place: Path) -> None:
    write_run(place / "runs" / "before", ask=responses(60, 0, 0.0))
    write_run(place / "runs" / "after", ask=responses(60, 0, 0.3))
    text = invoke("before", "after", "--draws", "20")
    assert [ln for ln in text.splitlines() if re.fullmatch(r".*: \d+ questions", ln)] == [
        "all: 60 questions",
        "test: 30 questions",
        "test_ood: 30 questions",
    ]
    by = invoke("before", str(place / "runs" / "after"), "--draws", "20", "--by", "relation")
    assert "P2: 20 questions" in by


def test_a_run_with_several_stages_is_a_table_of_them(place: Path) -> None:
    write_run(place / "runs" / "both", plain=responses(9, 0, 0.0), tuned=responses(9, 0, 0.3))
    assert list(gather(["both"], runs=place / "runs")) == ["plain", "tuned"]
    write_run(place / "runs" / "other", plain=responses(9, 1, 0.0))
    assert list(gather(["both", "other"], runs=place / "runs")) == ["both/plain", "both/tuned", "other"]


def test_what_was_known_comes_from_a_split(place: Path) -> None:
    write_run(place / "runs" / "asked", ask=responses(60, 0, 0.3, part=False))
    write_run(place / "runs" / "split", early=split(60), split=split(30))
    found = gather(["asked"], runs=place / "runs", known="split:early")["asked"]
    assert [r.known for r in found[:3]] == [True, False, None]
    assert {r.part for r in found} == {"test", "test_ood"}
    text = invoke("asked", "--known", "split", "--draws", "20")
    assert row(text, "known before") == ["10"]
    assert "(not told): 30 questions" in text
    assert row(text, "willingness")
    with pytest.raises(RecipeError, match="no split of questions"):
        gather(["asked"], runs=place / "runs", known="asked")


def test_a_run_without_responses_is_refused(place: Path) -> None:
    write_run(place / "runs" / "split", split=split(3))
    with pytest.raises(RecipeError, match="holds no responses"):
        gather(["split"], runs=place / "runs")


@pytest.mark.parametrize(("option", "value"), [("--rule", "never"), ("--score", "luck")])
def test_a_wrong_option_is_an_error_before_anything_is_asked(place: Path, option: str, value: str) -> None:
    with pytest.raises(RecipeError, match=value):
        CliRunner().invoke(app, ["refusal", "facts.yaml", option, value], catch_exceptions=False)
    assert not (place / "runs").exists()


def report(by: str = "part") -> er.RefusalReport:
    systems = {"before": responses(120, 0, 0.0), "after": responses(120, 0, 0.3)}
    return evaluate(systems, MeasureSettings(draws=20, by=by))


def test_the_report_is_one_page_with_its_diagrams_inside_and_same_input_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    files = refusal_report.write(report(), tmp_path / "out")
    first = {f.name: f.read_bytes() for f in files}
    assert set(first) == {"refusal.json", "refusal.html", "reliability.png", "risk-coverage.png"}
    for name in ("reliability.png", "risk-coverage.png"):
        assert first[name].startswith(b"\x89PNG")
        width, height = struct.unpack(">II", first[name][16:24])
        assert width > 400 < height
    page = first["refusal.html"].decode()
    assert page.count("data:image/png;base64,") == 6
    assert not re.search(r"https?://|<script|<link|url\(", page)
    assert {f.name: f.read_bytes() for f in refusal_report.write(report(), tmp_path / "out")} == first


def test_the_json_holds_every_number_and_reads_back() -> None:
    found = report()
    assert msgspec.json.decode(found.encode(), type=er.RefusalReport) == found


def test_hostile_names_stay_text_in_page_and_table(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    name = "<script>alert(1)</script> $\\frac{$ \x1b[31m"
    hostile = [replace(r, part="<img src=x>") if i % 2 else r for i, r in enumerate(responses(20, 0, 0.1))]
    found = evaluate({name: hostile, "_b": hostile}, MeasureSettings(draws=5))
    assert "\x1b" not in table(found)
    page = refusal_report.html(found).decode()
    assert "<script" not in page
    assert "<img src=x" not in page


def test_a_system_without_scores_has_a_page_too() -> None:
    pytest.importorskip("matplotlib")
    bare = [replace(r, confidence=None, sure=None) for r in responses(10, 0, 0.1)]
    assert b"<td>aurc</td>" not in refusal_report.html(evaluate({"bare": bare}, MeasureSettings(draws=5)))


def test_without_matplotlib_the_extra_is_named_before_anything_is_asked(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"gristmill\[report\]"):
        CliRunner().invoke(app, ["refusal", "facts.yaml", "--out", "report"], catch_exceptions=False)
    assert not (place / "runs").exists()
    assert "accuracy" in invoke("facts.yaml", "--draws", "5")


def test_the_command_writes_the_report(place: Path) -> None:
    pytest.importorskip("matplotlib")
    text = invoke("facts.yaml", "--draws", "5", "--by", "continent", "--out", "report")
    assert (place / "report" / "refusal.html").is_file()
    assert str(Path("report") / "reliability.png") in text
    assert "Asia: 1 questions" in text
    assert "(not told): 1 questions" in text
