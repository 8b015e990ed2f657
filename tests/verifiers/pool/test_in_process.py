from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from msgspec import Struct

from gristmill.core.errors import RecipeError
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.verifiers import Math, as_trl_reward, as_verl_reward
from gristmill.verifiers.pool import InProcess, Pool, pool_for

SCRIPT = """
from msgspec import Struct
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.verifiers import as_trl_reward

class Mine(Struct, frozen=True):
    right: str = "4"

    def __call__(self, completion, reference):
        return Verdict(Outcome.CORRECT if completion == self.right else Outcome.INCORRECT)

print(as_trl_reward(Mine(right="yes"))(completions=["yes", "no"], answer=["", ""]))
"""


def test_a_class_of_a_script_is_a_reward_and_says_that_it_runs_in_process(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100)
    assert ran.stdout == "[1.0, 0.0]\n", ran.stderr
    assert "__main__:Mine runs in this process, without a deadline" in ran.stderr
    assert "defined in a script or notebook" in ran.stderr
    assert "memory_mb" not in ran.stderr


def raises(completion: str, reference: str) -> Verdict:
    raise ValueError(completion)


class Loose:
    def __call__(self, completion: str, reference: str) -> Verdict:
        return Verdict(Outcome.CORRECT)


def test_verdicts_in_process_are_those_of_a_pool() -> None:
    class Inner(Struct):
        def __call__(self, completion: str, reference: str) -> Verdict:
            return raises(completion, reference) if completion == "bad" else Verdict(Outcome.CORRECT)

    with pytest.warns(UserWarning, match="defined inside a function"), pool_for(Inner()) as pool:
        assert isinstance(pool, InProcess)
        found = pool.verdicts([("good", ""), ("bad", "")])
        assert [v.outcome for v in found] == ["correct", "error"]
        assert found[1].detail == "ValueError: bad"
        assert pool.verify("good", "") == found[0]
    with pytest.raises(RuntimeError, match="shutdown"):
        pool.submit("good", "")


def test_what_a_worker_can_import_runs_in_workers() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for verifier in ("math", "gristmill.verifiers.math:Math", Math(tolerance_relative=0.1)):
            with pool_for(verifier, workers=1) as pool:
                assert isinstance(pool, Pool)
    with pool_for(Math(tolerance_relative=0.1), workers=1) as pool:
        assert pool.verify("\\boxed{1.55}", "1.5").correct


def test_what_cannot_be_made_anew_runs_in_process() -> None:
    with pytest.warns(UserWarning, match="not a msgspec.Struct"):
        assert isinstance(pool_for(Loose()), InProcess)
    with pytest.warns(UserWarning, match="inside a function"):
        assert isinstance(pool_for(lambda completion, reference: Verdict(Outcome.CORRECT)), InProcess)


@pytest.mark.parametrize("thing", [Math, 7, None])
def test_what_is_not_a_verifier_is_refused(thing: object) -> None:
    with pytest.raises(RecipeError, match=r"is not a verifier.*Math\(\)"):
        pool_for(thing)  # type: ignore[arg-type]


def test_a_reward_warns_when_it_is_made_and_not_at_its_first_row() -> None:
    with pytest.warns(UserWarning, match="in this process"):
        reward = as_verl_reward(lambda completion, reference: Verdict(Outcome.CORRECT))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reward("data", "text", "4") == 1.0
    with pytest.warns(UserWarning, match="in this process"):
        assert as_trl_reward(Loose())(["a"], answer=["b"]) == [1.0]
