"""Verifiers with options, in this process and in a worker."""

import sys
from pathlib import Path

import pytest

from gristmill.core.errors import RecipeError
from gristmill.core.verdicts import Outcome
from gristmill.verifiers.loading import load
from gristmill.verifiers.pool.pool import Pool

MODULE = """
from msgspec import Struct
from gristmill.core.verdicts import Outcome, Verdict

class Within(Struct, frozen=True, forbid_unknown_fields=True):
    tolerance: float = 0.0

    def __call__(self, completion, reference):
        near = abs(float(completion) - float(reference)) <= self.tolerance
        return Verdict(Outcome.CORRECT if near else Outcome.INCORRECT)

def plain(completion, reference):
    return Verdict(Outcome.CORRECT)
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "within_verifier.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "within_verifier", raising=False)


@pytest.mark.parametrize(("tolerance", "outcome"), [(0.0, Outcome.INCORRECT), (0.5, Outcome.CORRECT)])
def test_options_reach_the_verifier_here_and_in_a_worker(tolerance: float, outcome: Outcome) -> None:
    options = {"tolerance": tolerance}
    assert load("within_verifier:Within", options)("3.0", "3.4").outcome is outcome
    with Pool("within_verifier:Within", workers=1, options=options) as pool:
        assert pool.verify("3.0", "3.4").outcome is outcome


def test_a_wrong_option_names_the_right_one() -> None:
    with pytest.raises(RecipeError, match=r"no option 'tolerence'\. Did you mean 'tolerance'"):
        load("within_verifier:Within", {"tolerence": 1})
    with pytest.raises(RecipeError, match="tolerance"):
        load("within_verifier:Within", {"tolerance": "much"})
    with pytest.raises(RecipeError, match="has no options"):
        load("within_verifier:plain", {"tolerance": 1})
