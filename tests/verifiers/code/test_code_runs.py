"""A run whose verifier runs programs names the sandbox, or refuses before anything is paid for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sandboxes import USABLE

from gristmill.core.errors import RecipeError
from gristmill.pipelines import run
from gristmill.pipelines.rundir.summary import table
from gristmill.verifiers.code import sandbox
from gristmill.verifiers.code.verifier import Code

TEXTS = ["```python\ndef f(x): return x\n```", "```python\n!\n```"]
ENGINE = {"kind": "scripted", "replies": [{"texts": TEXTS}]}
SUITE = json.dumps({"calls": [{"function": "f", "args": [1], "expected": 1}]})


@pytest.fixture
def place(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(workspace.path)
    monkeypatch.delenv("GRISTMILL_LOG", raising=False)
    row = {"problem": "identity", "answer": SUITE}
    (workspace.path / "problems.jsonl").write_text(json.dumps(row) + "\n")
    return workspace


@pytest.mark.parametrize("within", [False, True])
def test_every_row_and_the_run_name_the_sandbox(place: Any, within: bool) -> None:
    verifier: dict[str, Any] = {"kind": "code", "options": {"sandbox": USABLE, "allow_root": True}}
    if within:
        verifier = {"kind": "combine", "options": {"parts": [{"kind": "code", **verifier["options"]}]}}
    used = Code(sandbox=USABLE, allow_root=True).sandbox_used
    stages = [{"stage": "sample", "samples": 8}]
    done = run(place.write_recipe(ENGINE, stages=stages, verifier=verifier), quiet=True)
    assert done.summary.sandboxes == {"verifier": used}
    assert f"programs ran in: {used} (verifier)" in table(done.summary)
    verdicts = done.rows("sample").collect()["verdict"].to_list()
    assert {v["outcome"] for v in verdicts} == {"correct", "incorrect"}
    assert all(used in v["detail"] for v in verdicts)


def test_without_a_sandbox_a_run_is_refused_before_it_asks_for_anything(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_problem", lambda kind, drops: "it is not there")
    recipe = place.write_recipe(ENGINE, stages=[{"stage": "sample"}], verifier={"kind": "code"})
    with pytest.raises(RecipeError, match=r"no sandbox that was asked for works here.*set sandbox: none"):
        run(recipe, quiet=True)
    assert not (place.path / "runs/test/summary.json").exists()
    recipe = place.write_recipe(ENGINE, name="plain", stages=[{"stage": "sample", "verify": False}])
    assert run(recipe, quiet=True).summary.sandboxes == {}
