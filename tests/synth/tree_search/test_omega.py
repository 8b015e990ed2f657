"""OmegaPRM: its formulas, the division of a rollout, selection, and the search for the first error."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omega_solver import PROBLEM, Solver, grow

from gristmill.core.engine import Completion, Request
from gristmill.core.records import Judged, Problem
from gristmill.core.steps import Node, Tree, tally
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.synth.step_values.steps import Split
from gristmill.synth.tree_search.grow import Growing, Live
from gristmill.synth.tree_search.omega import OmegaPRM
from gristmill.synth.tree_search.omega_search import (
    AFTER_ERROR,
    FIRST_ERROR,
    RolloutPool,
    Selection,
    cut,
    piece_count,
    token_count,
)

PAPER = Selection()


@pytest.mark.parametrize(
    ("value", "tokens", "quality"), [(0.75, 250, 0.797744), (0.125, 100, 0.533884), (0.5, 500, 0.636396)]
)
def test_q_vectors(value: float, tokens: int, quality: float) -> None:
    assert PAPER.quality(value, tokens) == pytest.approx(quality, abs=5e-7)


def test_u_vectors_and_their_sum() -> None:
    assert PAPER.exploration(2, 10) == pytest.approx(0.131762, abs=5e-7)
    assert PAPER.exploration(0, 10) == pytest.approx(0.395285, abs=5e-7)
    assert PAPER.quality(0.75, 250) + PAPER.exploration(2, 10) == pytest.approx(0.929506, abs=1e-6)


@given(st.text(alphabet="ab \n\\.漢", max_size=200), st.integers(1, 20))
def test_cutting_is_lossless_and_no_piece_is_empty(text: str, pieces: int) -> None:
    ends = cut(text, pieces)
    assert list(ends) == sorted(set(ends))
    assert len(ends) <= pieces
    parts = [text[a:b] for a, b in zip((0, *ends), ends, strict=False)]
    assert "".join(parts) == text
    assert all(part.strip() for part in parts) or not text.strip()


def test_pieces_are_nearly_equal_and_end_before_white_space() -> None:
    text = " ".join(f"word{i:02d}" for i in range(64))
    ends = cut(text, 16)
    assert len(ends) == 16
    words = [text[a:b].split() for a, b in zip((0, *ends), ends, strict=False)]
    assert {len(w) for w in words} <= {3, 4, 5}
    assert all(text[end] == " " for end in ends[:-1])


def test_no_piece_is_shorter_than_a_sixteenth_of_the_mean() -> None:
    assert piece_count(500, 500, 16) == 16
    assert piece_count(2000, 500, 16) == 16  # 16 longer pieces
    assert piece_count(124, 500, 16) == 3  # 124 / (500 / 16) = 3.97
    assert piece_count(10, 500, 16) == 1


def test_length_is_the_engines_token_count_else_a_quarter_of_the_characters() -> None:
    assert token_count(Completion("a word or two", completion_tokens=9)) == 9
    assert token_count(Completion("nine char")) == 3


def test_the_defaults_are_the_papers() -> None:
    stage = OmegaPRM()
    assert (stage.alpha, stage.beta, stage.length, stage.c_puct) == (0.5, 0.9, 500.0, 0.125)
    assert (stage.k, stage.searches, stage.pieces, stage.filter_rollouts) == (8, 100, 16, 32)


class Scripted:
    """The root's first rollout is wrong from step ``error`` on, all others are right as far as may be.

    ``visited`` are the lengths, in steps, of the prefixes asked for.
    """

    def __init__(self, steps: int, error: int) -> None:
        self.steps = steps
        self.error = error
        self.visited: list[int] = []

    def __call__(self, request: Request, index: int) -> str:
        done = request.prefix.split()
        if done and index == 0:
            self.visited.append(len(done))
        bad = any("BAD" in word for word in done) or (not done and index == 0)
        words = [
            f"step{i}{'BAD' if bad and not done and i == self.error else 'ok'}"
            for i in range(len(done) + 1, self.steps + 1)
        ]
        if words:
            words[-1] += f"\\boxed{{{13 if bad else 42}}}"
        return (" " if done else "") + " ".join(words)


@pytest.mark.parametrize(("error", "order"), [(1, [4, 2, 1]), (4, [4, 2, 3]), (7, [4, 6, 7]), (8, [4, 6, 7])])
def test_binary_search_looks_at_these_prefixes_of_eight(error: int, order: list[int]) -> None:
    solver = Scripted(8, error)
    tree = grow(OmegaPRM(), solver)
    assert solver.visited == order
    assert tree.completions == 8 + 24  # the root's, and 3 prefixes: 64 if each of the 8 got 8
    [found] = [n for n in tree.nodes if n.note == FIRST_ERROR]
    assert tree.prefix(found.index).split()[-1].startswith(f"step{error}BAD")
    assert tree.prefix(found.parent).count("step") == error - 1 if found.parent else error == 1
    assert tree.stopped == "exhausted"


def test_binary_search_of_twenty_steps_costs_35_rollouts_of_160_on_average() -> None:
    evaluations = 0
    for error in range(1, 21):
        solver = Scripted(20, error)
        tree = grow(OmegaPRM(split=Split(by="tokens", window=1)), solver)
        evaluations += len(solver.visited)
        assert tree.completions == 8 + 8 * len(solver.visited)
    assert evaluations / 20 == 4.4
    assert evaluations * 8 / 20 == 35.2


def test_visited_prefixes_before_the_error_become_states_with_their_rollouts() -> None:
    tree = grow(OmegaPRM(), Scripted(8, 7))
    states = [n for n in tree.nodes[1:] if n.note == ""]
    assert [len(tree.prefix(n.index).split()) for n in states] == [4, 6]
    assert all(len(n.rollouts) == 8 and n.value == 1.0 for n in states)
    assert [tree.path(n.index) for n in states] == [(0, 1), (0, 1, 2)]


def test_a_wrong_middle_prefix_is_no_state_and_no_sibling_of_the_first_error() -> None:
    """Defect of openr: it adds an incorrect middle prefix as a sibling."""
    tree = grow(OmegaPRM(), Scripted(8, 1))
    notes = [(n.note, len(tree.prefix(n.index).split()), n.parent) for n in tree.nodes[1:]]
    assert notes == [(FIRST_ERROR, 1, 0), (AFTER_ERROR, 2, 1), (AFTER_ERROR, 4, 2)]
    assert all(n.value == 0.0 and n.visits == 0 for n in tree.nodes[1:])


def rollout(outcome: Outcome, text: str, tokens: int) -> Judged:
    return Judged(Completion(text, completion_tokens=tokens), Verdict(outcome))


def test_q_uses_tokens_not_words() -> None:
    """Defect of openr: length in words. Few words may be many tokens."""
    tree = Growing("p", "", "42", (), "omega-prm")
    root = tree.nodes[0]
    root.rollouts = [
        rollout(Outcome.CORRECT, "x", 5),
        rollout(Outcome.INCORRECT, "one", 400),
        rollout(Outcome.INCORRECT, "one two three", 3),
    ]
    root.value = 1 / 3
    chosen = RolloutPool(tree, PAPER).best()
    assert chosen is not None and chosen[1].completion.text == "one two three"


def test_only_wrong_answers_of_states_between_0_and_1_are_chosen_and_ties_go_to_the_first() -> None:
    tree = Growing("p", "", "42", (), "omega-prm")
    wrong = [rollout(Outcome.INCORRECT, t, 10) for t in ("a", "a", "b")]
    others = [rollout(o, "c", 1) for o in (Outcome.CORRECT, Outcome.UNPARSEABLE, Outcome.TIMEOUT)]
    for value in (0.0, 1.0, 0.5, 0.5):
        node = tree.add(0, f"{len(tree.nodes)}")
        node.rollouts, node.value = [*others, *wrong], value
    pool = RolloutPool(tree, PAPER)
    taken = []
    while (best := pool.best()) is not None:
        taken.append((best[0].index, best[1].completion.text))
        best[0].visits += 1
    # The first of the equal states; then the other, whose U is larger; the same text is not searched twice.
    assert taken == [(3, "a"), (4, "a"), (3, "b"), (4, "b")]


def test_what_a_check_adds_to_a_state_changes_nothing_in_the_pool() -> None:
    tree = Growing("p", "", "42", (), "omega-prm")
    node = tree.add(0, "a")
    node.value = 0.5
    node.rollouts = [rollout(Outcome.INCORRECT, t, n) for t, n in (("b", 10), ("c", 20))]
    pool = RolloutPool(tree, PAPER, first=2)
    taken = []
    while (best := pool.best()) is not None:
        taken.append(best[1].completion.text)
        node.visits += 1
        # A shorter rollout would go before the one that was taken, and that one come back.
        node.rollouts.append(rollout(Outcome.INCORRECT, f"d{len(taken)}", 1))
        pool.admit(node)
    assert taken == ["b", "c"]


def naive(tree: Growing, taken: set[tuple[int, int]]) -> tuple[int, int] | None:
    """The best state and rollout, all formed anew. Only the k first rollouts of a state are candidates."""
    total = sum(n.visits for n in tree.nodes)
    best: tuple[float, int, int] | None = None
    for node in tree.nodes:
        seen = tally(node.rollouts)
        if not 0 < seen.correct < seen.decided:
            continue
        texts: set[str] = set()
        for i, r in enumerate(node.rollouts[: None if node.index == 0 else 8]):
            if r.verdict.outcome is not Outcome.INCORRECT or r.completion.text in texts:
                continue
            texts.add(r.completion.text)
            score = PAPER.quality(seen.correct / seen.decided, r.completion.completion_tokens)
            score += PAPER.exploration(node.visits, total)
            if (node.index, i) not in taken and (best is None or score > best[0]):
                best = (score, node.index, i)
    return best and best[1:]


@pytest.mark.parametrize("repeat", [0, 6])
def test_every_choice_is_the_best_of_all_states_and_what_is_popped_stays_popped(
    monkeypatch: pytest.MonkeyPatch, repeat: int
) -> None:
    """Defects of openr: only the selected state's priorities are refreshed, the popped rollout comes back,
    and N rises with every estimate. Checks give a state more rollouts after some of its own were taken."""
    taken: set[tuple[int, int]] = set()
    best: Callable[[RolloutPool], tuple[Live, Judged] | None] = RolloutPool.best

    def checked(pool: RolloutPool) -> tuple[Live, Judged] | None:
        chosen = best(pool)
        expected = naive(pool.tree, taken)
        if chosen is None:
            assert expected is None
        else:
            at = next(i for i, r in enumerate(chosen[0].rollouts) if r is chosen[1])
            assert (chosen[0].index, at) == expected
            assert (chosen[0].index, at) not in taken
            taken.add((chosen[0].index, at))
        return chosen

    monkeypatch.setattr(RolloutPool, "best", checked)
    tree = grow(OmegaPRM(searches=40, repeat=repeat), Solver(slip=0.1))
    assert len(taken) >= 12 and len({state for state, _ in taken}) >= 4
    for node in tree.nodes:
        assert node.visits == sum(state == node.index for state, _ in taken)
    assert sum(n.visits for n in tree.nodes) == tree.iterations == len(taken)


def found_errors(tree: Tree) -> list[Node]:
    return [n for n in tree.nodes if n.note == FIRST_ERROR]


def is_first_error(tree: Tree, node: Node) -> bool:
    """Whether the step holds the hidden first error."""
    return "BAD" in node.text and "BAD" not in tree.prefix(node.parent)


def test_it_finds_the_hidden_first_errors() -> None:
    found = [
        is_first_error(tree, node)
        for i in range(12)
        for tree in [grow(OmegaPRM(searches=6), Solver(slip=0.05), Problem(f"p{i}", f"Problem {i}", "42"))]
        for node in found_errors(tree)
    ]
    assert len(found) > 40
    assert all(found)


def test_a_repeated_check_makes_it_robust_where_right_prefixes_often_fail() -> None:
    """Two rollouts from a right prefix fail together often enough to mislead a search."""

    def share(repeat: int) -> float:
        stage = OmegaPRM(k=2, repeat=repeat, searches=6)
        trees = [grow(stage, Solver(slip=0.12), Problem(f"p{i}", f"Problem {i}", "42")) for i in range(30)]
        found = [is_first_error(t, n) for t in trees for n in found_errors(t)]
        return sum(found) / len(found)

    assert share(0) < 0.85
    assert share(8) > 0.95


def test_splitting_at_blank_lines_leaves_no_empty_step() -> None:
    """Defect of openr."""
    rng = random.Random(0)

    def solver(request: Request, index: int) -> str:
        if request.prefix:
            return "so \\boxed{13}" if "BAD" in request.prefix else "so \\boxed{42}"
        blank = "\n\n\n \n\n" if rng.random() < 0.5 else "\n\n"
        end = "\\boxed{13}" if index % 2 else "\\boxed{42}"
        return f"first{blank}second{' BAD' if index % 2 else ''}\n\n\n\n{end}\n\n\n"

    tree = grow(OmegaPRM(split=Split()), solver)
    assert len(tree.nodes) > 2
    assert all(n.text.strip() for n in tree.nodes[1:])
    assert {n.text.split()[-1] for n in found_errors(tree)} == {"BAD"}


def test_the_answer_is_verified_never_looked_for_in_the_last_sentence() -> None:
    """Defect of openr: the reference is a substring of the last sentence."""

    def solver(request: Request, index: int) -> str:
        if not request.prefix and index == 1:
            return "so \\boxed{42}"
        return "It is far from 42, in fact it is 142: \\boxed{142}"

    tree = grow(OmegaPRM(searches=1), solver)
    assert tally(tree.nodes[0].rollouts).correct == 1


def test_text_that_two_rollouts_share_is_never_paid_for_twice() -> None:
    solver = Solver(slip=0.1)
    grow(OmegaPRM(searches=60), solver)
    assert max(solver.asked.values()) == 1


def test_a_rollout_that_was_cut_off_counts_against_its_state_but_is_not_searched() -> None:
    def solver(request: Request, index: int) -> str | Completion:
        return Completion("\\boxed{13}", "length") if index % 2 else "\\boxed{42}"

    tree = grow(OmegaPRM(), solver, PROBLEM)
    assert (tree.nodes[0].value, tree.stopped, tree.iterations) == (0.5, "exhausted", 0)
