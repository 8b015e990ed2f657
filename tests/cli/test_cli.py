"""The command line as a process, and what is shown of rows."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console

from gristmill.core.engine import Message
from gristmill.core.records import Pair, Sampled, Span, Trajectory, Turn
from gristmill.core.schema import to_frame
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.pipelines.show.terminal import render

HEAVY = ("torch", "vllm", "datasets", "sympy", "polars", "aiohttp", "pyarrow", "transformers")
ENGINE = {"kind": "scripted", "replies": [{"texts": ["[red]It is[/red] \x1b[31m\\boxed{2}\x07"]}]}


@pytest.fixture
def place(workspace: Any) -> Any:
    workspace.write_problems(6, answer="2")
    workspace.write_recipe(ENGINE)
    return workspace


@pytest.mark.parametrize("code", ["import gristmill", "from gristmill.cli import main"])
def test_importing_is_light(code: str) -> None:
    script = f"import sys; {code}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_help_names_the_commands(place: Any) -> None:
    done = place.gristmill("--help")
    assert done.returncode == 0
    for command in ("run", "plan", "show", "export", "eval", "log", "schema"):
        assert f"\n  {command} " in done.stdout


def test_version(place: Any) -> None:
    assert place.gristmill("--version").stdout.startswith("gristmill 0.")


def test_a_recipe_that_cannot_be_run_is_one_line_and_status_2(place: Any) -> None:
    done = place.gristmill("run", "test.yaml", "--set", "engine.conurrency=3")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert "concurrency" in done.stderr
    assert done.stderr.count("\n") == 1


def test_wrong_usage_is_status_2(place: Any) -> None:
    done = place.gristmill("run", "test.yaml", "--limit", "0")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_resume_and_fresh_exclude_each_other(place: Any) -> None:
    done = place.gristmill("run", "test.yaml", "--resume", "--fresh")
    assert done.returncode == 2
    assert "exclude each other" in done.stderr


def test_run_plan_show_export_and_log(place: Any) -> None:
    planned = place.gristmill("plan", "test.yaml")
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.splitlines()[0] == "test: 6 problems, 0 rows rejected. Still to be paid for:"
    assert planned.stdout.splitlines()[3].split()[:5] == ["sample", "6", "0", "0", "6"]

    done = place.gristmill("run", "test.yaml", "--limit", "4", "--set", "stages.0.samples=2")
    assert done.returncode == 0, done.stderr
    assert "8 completions" not in done.stdout
    assert "8 requests" in done.stdout or "4 requests" in done.stdout

    shown = place.gristmill("show", "test", "-n", "2")
    assert shown.returncode == 0, shown.stderr
    assert "── p0/1" in shown.stdout
    assert "── p1/0" not in shown.stdout
    assert "[red]It is[/red] \\x1b[31m\\boxed{2}\\x07" in shown.stdout
    assert "\x1b[31m" not in shown.stdout
    assert place.gristmill("show", "runs/test", "--stage", "source", "--rejected").returncode == 0
    missing = place.gristmill("show", "tst")
    assert missing.returncode == 1
    assert "Did you mean 'test'?" in missing.stderr

    exported = place.gristmill("export", "test", "--format", "trl-sft")
    assert exported.returncode == 2
    assert "trl-sft reads Dialogue records, and no stage of runs/test has them" in exported.stderr

    stats = place.gristmill("log", "stats")
    assert "scripted" in stats.stdout
    assert place.gristmill("log", "export", "all.jsonl").stdout == "8 completions: all.jsonl\n"
    assert len((place.path / "all.jsonl").read_text().splitlines()) == 8
    assert place.gristmill("log", "prune", "--older-than", "soon").returncode in (1, 2)
    assert place.gristmill("log", "prune", "--older-than", "1d").stdout.startswith("deleted 0 completions")
    assert place.gristmill("log", "prune", "--model", "scripted").stdout.startswith("deleted 8 completions")


def test_the_log_is_where_the_option_or_the_environment_says(place: Any) -> None:
    place.environment["GRISTMILL_LOG"] = "from_environment.sqlite"
    assert place.gristmill("run", "test.yaml").returncode == 0
    assert place.gristmill("run", "test.yaml", "--log", "from_option.sqlite", "--pay-again").returncode == 0
    assert sorted(p.name for p in place.path.glob("*.sqlite")) == [
        "from_environment.sqlite",
        "from_option.sqlite",
    ]
    assert not (place.path / ".gristmill").exists()


def test_schema_prints_json(place: Any) -> None:
    done = place.gristmill("schema")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_a_missing_recipe_names_the_nearest(place: Any) -> None:
    done = place.gristmill("run", "tets.yaml")
    assert done.returncode == 2
    assert "'test.yaml'" in done.stderr


def shown(record: Any) -> tuple[str, str]:
    """A record as the terminal gets it: plain, and with colours."""
    row = to_frame([record], type(record)).row(0, named=True)
    plain, coloured = (Console(width=200, color_system=c, force_terminal=bool(c)) for c in (None, "standard"))
    with plain.capture() as text:
        plain.print(render(row), soft_wrap=True)
    with coloured.capture() as colours:
        coloured.print(render(row), soft_wrap=True)
    return text.get(), colours.get()


def test_a_trajectory_shows_which_turns_are_trained() -> None:
    turns = (
        Turn("user", "1+1?", False),
        Turn("assistant", "3", False),
        Turn("assistant", "no, \x1b]0;title\x07 2", True, (Span(0, 2),)),
    )
    text, colours = shown(Trajectory("t1", "p1", "1+1?", "2", "D1", "verify", turns))
    assert "[user] not trained\n1+1?\n" in text
    assert "[assistant] not trained\n3\n" in text
    assert "[assistant] trained in part\nno, \\x1b]0;title\\x07 2" in text
    assert "subset: D1" in text
    assert "\x1b[1;32m[assistant]" in colours
    assert "\x1b]0;" not in colours


def test_a_pair_shows_both_sides() -> None:
    prompt, chosen, rejected = (
        (Message("user", "q"),),
        (Message("assistant", "a"),),
        (Message("assistant", "b"),),
    )
    text, colours = shown(Pair("x", "p", "M-D1", prompt, chosen, rejected))
    sides = (
        "[user] not trained\nq",
        "chosen\n[assistant] trained\na",
        "rejected\n[assistant] trained against\nb",
    )
    assert text.index(sides[0]) < text.index(sides[1]) < text.index(sides[2])
    assert "\x1b[1;31mrejected" in colours


@pytest.mark.parametrize(
    ("outcome", "code"), [(Outcome.CORRECT, "32"), (Outcome.INCORRECT, "31"), (Outcome.TIMEOUT, "33")]
)
def test_a_sample_shows_its_verdict(outcome: Outcome, code: str) -> None:
    message = (Message("user", "q"),)
    verdict = Verdict(outcome, extracted="[bold]2")
    text, colours = shown(Sampled("s", "p", 0, "q", "2", message, "two", "stop", 1, 1, verdict))
    assert f"verdict: {outcome} ([bold]2)" in text
    assert f"\x1b[1;{code}m{outcome}" in colours
