"""``filtration_fit``: the rule by which a reward can be trusted most."""

from __future__ import annotations

import pytest
from table_rows import RIGHT, WRONG, out, sample, samples

from gristmill.core.errors import GristmillError
from gristmill.core.records import Sampled, Score
from gristmill.filters import FiltrationFit


def _rows(problems: int) -> list[Sampled]:
    """Rewards that tell best and worst apart and nothing in between."""
    rewards = [(1.0, RIGHT), (0.2, WRONG), (0.1, RIGHT), (0.0, WRONG), (-1.0, WRONG)]
    return [
        sample(f"p{n}", i, verdict=verdict, scores=(Score("rm", reward),))
        for n in range(problems)
        for i, (reward, verdict) in enumerate(rewards)
    ]


def test_each_rule_has_its_fit_and_one_is_best() -> None:
    made = out(FiltrationFit(of="rm"), samples(*_rows(20), sample("q", 0)))
    assert made["rule"].to_list() == ["none", "bon", "br", "bw"]
    fits = dict(zip(made["rule"], made["r_squared"], strict=True))
    assert fits["bw"] == pytest.approx(1) and fits["bon"] == 0 and fits["none"] < fits["bw"]
    assert made.filter("best")["rule"].to_list() == ["bw"] and set(made["answers"]) == {100}


def test_without_both_numbers_there_is_nothing_to_compare() -> None:
    assert out(FiltrationFit(of="rm"), samples()).is_empty()
    with pytest.raises(GristmillError, match="no answer has both 'rm' and 'verdict'"):
        FiltrationFit(of="rm")([samples(sample("q", 0))], 0)
