"""Length rewards: the numbers of the papers, and what their code gets wrong."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shaped import answer, group, grouped, groups

from gristmill.core.shaping import Attempt, Shape
from gristmill.filters.rewards import (
    Conciseness,
    Drpo,
    ExplorationReward,
    GrpoLambda,
    KimiLength,
    Laser,
    LaserD,
    conciseness_labels,
    difficulty,
    laser_target,
    laser_targets,
    repeats,
)

SHAPES: list[Shape] = [
    Laser(target=50),
    LaserD(easy=20, medium=40, hard=80, explore=True),
    KimiLength(),
    GrpoLambda(share=1.0),
    Drpo(longest=100),
    Conciseness(),
    ExplorationReward(longest=100),
]


def test_laser_is_inclusive() -> None:
    rows = [answer(True, 3000), answer(True, 4096), answer(True, 5000), answer(False, 3000), answer(None, 10)]
    assert Laser(target=4096)([rows]) == [[1.5, 1.5, 1.0, -0.5, None]]


def test_laser_d_chooses_targets_by_its_rule() -> None:
    lengths, candidates = [900, 1500, 3000, 3500], [1024, 2048, 4096]
    assert [laser_target(lengths, candidates, draws=draws) for draws in (1, 2, 5)] == [4096, 2048, 1024]
    # One draw demands all of them: a single long answer decides. A share does not.
    assert laser_target([900, 950, 980, 4000], candidates, draws=1) == 4096
    assert laser_target([900, 950, 980, 4000], candidates, coverage=0.5) == 1024
    assert laser_target([], candidates, coverage=0.5) == laser_target([9999], candidates, draws=2) == 4096
    with pytest.raises(ValueError, match="coverage"):
        laser_target(lengths, candidates, draws=1, coverage=0.5)


def test_a_group_on_a_boundary_has_one_difficulty_for_both_uses() -> None:
    assert [difficulty(right, 6) for right in range(7)] == ["hard"] * 2 + ["medium"] * 2 + ["easy"] * 3
    assert difficulty(0, 0) == "hard"
    on_third = group("p", (True, 100), (False, 9000), (False, 9000))
    made = laser_targets([on_third], [128, 4096])
    assert (made.easy, made.medium, made.hard) == (4096, 128, 4096)  # chosen from the group that is medium
    assert made([on_third])[0][0] == 1.5  # and used for it


def test_wrong_answers_do_not_raise_the_target() -> None:
    rambling = group("p", (True, 100), (True, 110), *[(False, 9000)] * 2)
    assert laser_targets([rambling], [128, 16384]).medium == 128


def test_laser_de_pays_for_long_wrong_answers_unless_they_repeat_themselves() -> None:
    shape = LaserD(easy=10, medium=10, hard=10, explore=True)
    sound = Attempt("a", False, 11, text="one two three")
    assert shape([[sound, Attempt("b", False, 11, text="one two three " * 20), Attempt("c", False, 10)]]) == [
        [0.0, -0.5, -0.5]
    ]
    assert repeats("a b c d e f g h i j " * 3) and not repeats("a b c d e f g h i j " * 2)


def test_kimi() -> None:
    lengths = (100, 200, 300, 400)
    right = KimiLength(right=0.0)([group("p", *[(True, n) for n in lengths])])[0]
    assert right == pytest.approx([0.5, 0.166667, -0.166667, -0.5], abs=1e-6)
    wrong = KimiLength()([group("p", *[(False, n) for n in lengths])])[0]
    assert wrong == pytest.approx([0, 0, -0.166667, -0.5], abs=1e-6)  # shortness is not paid for
    assert KimiLength()([group("p", (True, 7), (True, 7))]) == [[1.0, 1.0]]


@pytest.mark.parametrize(
    ("deviation", "wanted"),
    [("population", [0.863738, 0.7, 0.536262]), ("sample", [0.838635, 0.7, 0.561365])],
)
def test_grpo_lambda(deviation: str, wanted: list[float]) -> None:
    shape = GrpoLambda(share=1.0, deviation=deviation)  # type: ignore[arg-type]
    assert shape([group("p", (True, 100), (True, 200), (True, 300))])[0] == pytest.approx(wanted, abs=1e-6)
    assert shape([group("p", (True, 100), (False, 5))]) == [[0.7, 0.0]]  # one right answer


def test_grpo_lambda_keeps_length_to_the_groups_answered_best_and_never_pays_wrong_answers() -> None:
    easy = group("a", (True, 100), (True, 300), (True, 200), (False, 1))
    rest = [group(name, (True, 100), (True, 300), (False, 1), (None, 1)) for name in "bcde"]
    made = GrpoLambda()([*rest, easy])
    assert made[:4] == [[1.0, 1.0, 0.0, None]] * 4
    assert made[4][0] > made[4][2] > made[4][1] and made[4][3] == 0.0  # type: ignore[operator]
    assert GrpoLambda(share=1.0)([group("p", (False, 3), (False, 4)), []]) == [[0.0, 0.0], []]  # none right


def test_drpo_pays_every_right_answer_whatever_its_length() -> None:
    made = Drpo(longest=1000, temperature=0.5)([group("p", (True, 0), (True, 1000), (False, 1))])[0]
    assert made == pytest.approx([2 / (1 + 2.718281828**-2), 2 / (1 + 2.718281828**2), 0.0])
    assert Drpo(longest=1e-9)([group("p", (True, 1e9), (True, 2e9))]) == [[2.0, 0.0]]  # no overflow


def test_a_concise_answer_is_right_and_both_rule_and_judge_say_so() -> None:
    rows = [
        Attempt("a", True, 100, {"judge": 1.0}),
        Attempt("b", True, 150, {"judge": 0.0}),
        Attempt("c", True, 151, {"judge": 0.2}),
        Attempt("d", True, 100),
        Attempt("e", False, 10, {"judge": 1.0}),
    ]
    assert conciseness_labels(rows, 1.5) == ["concise", "concise", "verbose", "concise", None]
    assert conciseness_labels(rows, 1.5, "judge") == ["concise", None, "verbose", None, None]
    assert Conciseness(judge="judge")([rows]) == [[1.5, 1.0, 1.0, 1.0, 0.0]]


def test_exploration_never_pays_a_wrong_answer_more_than_a_right_one() -> None:
    rows = [answer(True, 0), answer(False, 5000), answer(False, 50)]
    assert ExplorationReward(longest=100)([rows])[0] == pytest.approx([0.8, 0.2, 0.1])
    padded = Attempt("x", False, 5000, text="let me think about this one more time with care " * 9)
    assert ExplorationReward(longest=100)([[padded]]) == [[0.0]]


@settings(max_examples=40, deadline=None)
@given(rows=groups(), shape=st.sampled_from(SHAPES))
def test_undecided_answers_get_nothing_and_change_nothing(rows: list[list[Attempt]], shape: Shape) -> None:
    made = grouped(shape, rows)
    decided = [[a for a in g if a.right is not None] for g in rows]
    assert all((made[a.id] is None) == (a.right is None) for g in rows for a in g)
    assert grouped(shape, decided) == {a.id: made[a.id] for g in decided for a in g}
    assert shape.lowest is not None
    assert all(reward >= shape.lowest for reward in made.values() if reward is not None)


@settings(max_examples=40, deadline=None)
@given(rows=groups(), shape=st.sampled_from(SHAPES), random=st.randoms(use_true_random=False))
def test_order_does_not_matter(rows: list[list[Attempt]], shape: Shape, random: object) -> None:
    mixed = [random.sample(g, len(g)) for g in rows]  # type: ignore[attr-defined]
    assert grouped(shape, mixed) == pytest.approx(grouped(shape, rows))
    assert grouped(shape, mixed[::-1]) == pytest.approx(grouped(shape, rows))
