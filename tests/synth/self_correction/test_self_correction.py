"""Sampling, trajectories and pairs, on a scripted model whose every answer is known.

This file is longer than others: one model and its helpers serve sampling, selection and defects alike.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Callable

import pytest

from gristmill.core.engine import Completion, Request
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.records import Base, Evaluation, Exploration, Judged, Pair, Problem, Style, Trajectory
from gristmill.core.stages import Context, Rejection
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.self_correction import CorrectionPairs, Explore, Trajectories, Trial, measure
from gristmill.synth.self_correction.goals import Beta, Want
from gristmill.synth.self_correction.prompts import CorrectionDialogue
from gristmill.synth.self_correction.scheme import CheckHolds
from gristmill.synth.self_correction.trial import triple

PROBLEM = Problem("p", "What is 7 + 5?", "12")
Script = Callable[[int, str, int], str | Completion]


async def verify(completion: str, reference: str) -> Verdict:
    found = re.findall(r"\\boxed\{(\w+)\}", completion)
    if not found:
        return Verdict(Outcome.UNPARSEABLE)
    if found[-1] == "slow":
        return Verdict(Outcome.TIMEOUT)
    return Verdict(Outcome.CORRECT if found[-1] == reference else Outcome.INCORRECT, extracted=found[-1])


class Model:
    """A scripted model that counts what it is asked: script(turn, last assistant text, index) -> answer."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.calls: Counter[int] = Counter()

    def __call__(self, request: Request, index: int) -> str | Completion:
        said = [m.content for m in request.messages if m.role == "assistant"]
        self.calls[len(said)] += 1
        return self.script(len(said), said[0] if said else "", index)

    def run(self, stage: Explore | Trial, problem: Problem = PROBLEM, seed: int = 0) -> Exploration:
        async def go() -> Exploration:
            async with ScriptedEngine(self) as engine:
                return (await stage(problem, Context(engine, verify, seed)))[0]

        return asyncio.run(go())


def trajectories(found: Exploration, stage: Trajectories | None = None) -> list[Trajectory | Rejection]:
    context = Context(ScriptedEngine(lambda r, i: ""), verify, 0)
    return asyncio.run((stage or Trajectories())(found, context))  # type: ignore[return-value]


def pairs(found: Exploration, stage: CorrectionPairs | None = None) -> list[Pair | Rejection]:
    context = Context(ScriptedEngine(lambda r, i: ""), verify, 0)
    return asyncio.run((stage or CorrectionPairs())(found, context))  # type: ignore[return-value]


def answer(value: object, index: int) -> str:
    return f"try {index}: \\boxed{{{value}}}"


def judge_all_right_or_wrong(turn: int, attempt: str, index: int) -> str:
    """Attempts 0-2 of 5 are wrong, every evaluation alternates, corrections are right."""
    if turn == 0:
        return answer(13 if index % 5 < 3 else 12, index)
    if turn == 1:
        return f"check {index} [VERIFY] {'wrong' if index % 2 == 0 else 'correct'}."
    return answer(12, index)


def test_fixed_scheme_draws_the_papers_numbers() -> None:
    """Vector A.3: |G_wrong| = 30 and |G_correct| = 20 cost 8 * 30 + 4 * 20 = 320 corrections."""
    model = Model(judge_all_right_or_wrong)
    found = model.run(Explore(scheme="fixed"))
    assert model.calls == {0: 50, 1: 50 * 8, 2: 320}
    assert len(found.bases) == 50
    assert found.stopped == "budget"


def test_at_most_one_trajectory_of_each_first_attempt() -> None:
    found = Model(judge_all_right_or_wrong).run(Explore(scheme="fixed"))
    made = [t for t in trajectories(found) if isinstance(t, Trajectory)]
    assert len({t.id for t in made}) == len(made) == 50
    assert Counter(t.subset for t in made) == {"D1": 30, "D2": 10, "D3": 10}


def test_adaptive_sampling_stops_when_it_has_what_is_wanted() -> None:
    model = Model(judge_all_right_or_wrong)
    found = model.run(Explore(want=Want(d1=1, d2=0, d3=1)))
    assert found.stopped == "wanted"
    assert {t.subset for t in trajectories(found)} == {"D1", "D3"}  # type: ignore[union-attr]
    # Attempts 0..3 (two a round) hold the first right one; it needs two evaluations, the wrong one one.
    assert model.calls == {0: 4, 1: 3, 2: 1}


def test_adaptive_sampling_gives_up_on_a_hopeless_problem() -> None:
    model = Model(lambda turn, attempt, i: answer(13, i) if turn != 1 else f"{i} [VERIFY] wrong.")
    found = model.run(Explore(want=Want(d1=1, d2=0, d3=0)))
    assert found.stopped == "hopeless"
    assert model.calls.total() < 60
    assert trajectories(found) == [Rejection("p", "no trajectory: no right correction")]


def test_a_fixed_seed_and_a_larger_budget_share_their_samples() -> None:
    """Adaptive and fixed sampling ask for the same samples, so one log serves both."""
    seen: list[tuple[int | None, int, int]] = []

    def spy(request: Request, index: int) -> str:
        turn = sum(m.role == "assistant" for m in request.messages)
        seen.append((request.seed, turn, index))
        attempt = next((m.content for m in request.messages if m.role == "assistant"), "")
        return judge_all_right_or_wrong(turn, attempt, index)

    async def go(stage: Explore) -> set[tuple[int | None, int, int]]:
        seen.clear()
        async with ScriptedEngine(spy) as engine:
            await stage(PROBLEM, Context(engine, verify, 3))
        return set(seen)

    assert asyncio.run(go(Explore())) <= asyncio.run(go(Explore(scheme="fixed")))


def test_a_truncated_completion_is_never_an_answer() -> None:
    def script(turn: int, attempt: str, index: int) -> str | Completion:
        if turn == 0:
            return Completion(answer(12, index), "length") if index == 0 else answer(13, index)
        if turn == 1:
            text = f"{index} [VERIFY] wrong."
            return Completion(text, "length") if index == 0 else text
        return Completion(answer(12, index), "length") if index == 0 else answer(12, index)

    found = Model(script).run(Explore(scheme="fixed", attempts=2, evaluations=2, corrections_of_wrong=2))
    first, second = found.bases
    assert first.attempt.verdict.outcome is Outcome.UNPARSEABLE
    assert first.evaluations == ()
    assert [e.says_correct for e in second.evaluations] == [None, False]
    assert [c.verdict.outcome for c in second.corrections] == [Outcome.UNPARSEABLE, Outcome.CORRECT]
    (made,) = trajectories(found)
    assert isinstance(made, Trajectory)
    assert made.turns[-1].content == answer(12, 1)


def test_an_undecided_attempt_is_neither_right_nor_wrong() -> None:
    """A time-out of the verifier must not make a first attempt "wrong"."""
    found = Model(lambda t, a, i: answer("slow", i) if t == 0 else "[VERIFY] wrong.").run(Explore(attempts=4))
    assert all(b.evaluations == () for b in found.bases)
    assert trajectories(found) == [Rejection("p", "no trajectory: no attempt with a decided answer")]


def test_attempts_of_the_same_text_are_worked_once() -> None:
    def script(turn: int, attempt: str, index: int) -> str:
        return "\\boxed{13}" if turn == 0 else "[VERIFY] wrong." if turn == 1 else "\\boxed{12}"

    found = Model(script).run(Explore(scheme="fixed", attempts=6))
    assert [len(b.evaluations) for b in found.bases] == [8, 0, 0, 0, 0, 0]
    assert len(trajectories(found)) == 1


def test_a_problem_without_an_answer_is_rejected_by_name() -> None:
    with pytest.raises(RowRejected, match="'p' has no answer"):
        Model(judge_all_right_or_wrong).run(Explore(), Problem("p", "?", None))


def base(index: int, right: bool, says: list[bool | None], outcomes: list[bool]) -> Base:
    """A first attempt with evaluations and corrections of known outcome."""
    verdicts = {True: Verdict(Outcome.CORRECT), False: Verdict(Outcome.INCORRECT)}
    words = {True: f"e{index} [VERIFY] correct.", False: f"e{index} [VERIFY] wrong.", None: "?"}
    return Base(
        index,
        Judged(Completion(f"a{index}"), verdicts[right]),
        tuple(Evaluation(Completion(words[s]), s) for s in says),
        tuple(Judged(Completion(f"c{index}.{k}"), verdicts[o]) for k, o in enumerate(outcomes)),
    )


def explored(*bases: Base, style: Style = "verify") -> Exploration:
    return Exploration("p", "P?", "12", style, bases, "budget")


# Defect A.3.2: the released comparison of verdict (bool) with reward (1, -0.5, -1) kept only
# (True, 1.0) and (False, 0.0), so every wrong attempt vanished.
@pytest.mark.parametrize(
    ("right", "says", "kept"),
    [(True, True, ["D3"]), (False, False, ["D1"]), (True, False, ["D2"]), (False, True, [])],
)
def test_verdict_and_truth_decide_the_subset(right: bool, says: bool, kept: list[str]) -> None:
    made = trajectories(explored(base(0, right, [says], [True])))
    assert [t.subset for t in made if isinstance(t, Trajectory)] == kept


def test_answers_without_a_box_do_not_shift_later_verdicts() -> None:
    """Defect A.3.1 (vector): [boxed, boxed, none, boxed] with [right, wrong, none, right]."""
    answers = ["\\boxed{12}", "\\boxed{13}", "no box here", "again \\boxed{12}"]
    found = Model(lambda t, a, i: answers[i] if t == 0 else "?").run(Explore(scheme="fixed", attempts=4))
    assert [b.attempt.verdict.outcome.value for b in found.bases] == [
        "correct",
        "incorrect",
        "unparseable",
        "correct",
    ]
    assert [b.attempt.completion.text for b in found.bases] == answers


def test_limits_hold_for_right_and_wrong_attempts_alike() -> None:
    """Defect A.3.3: the cap of the script did not apply to the correct class."""
    bases = [base(i, i % 2 == 0, [True, False], [True]) for i in range(12)]
    made = trajectories(explored(*bases), Trajectories(want=Want(d1=2, d2=1, d3=2)))
    assert Counter(t.subset for t in made if isinstance(t, Trajectory)) == {"D1": 2, "D2": 1, "D3": 2}


def test_every_problem_is_sampled_whatever_the_number_of_workers() -> None:
    """Defect A.3.5 dropped the last len % world_size prompts and forgot the first reward."""
    problems = [Problem(f"p{i}", f"{i}?", "12") for i in range(7)]
    found = [Model(judge_all_right_or_wrong).run(Explore(), p) for p in problems]
    assert [f.id for f in found] == [p.id for p in problems]
    assert all(b.attempt.verdict.decided for f in found for b in f.bases)


def test_selection_is_the_same_for_the_same_input() -> None:
    """Defect A.3.6: rows were shuffled without a seed. Here nothing is drawn at all."""
    found = Model(judge_all_right_or_wrong).run(Explore(scheme="fixed"))
    assert trajectories(found) == trajectories(found)


def test_worked_examples_never_reach_the_data() -> None:
    made = trajectories(
        explored(base(0, False, [False], [True])),
        Trajectories(dialogue=CorrectionDialogue(system="S", evaluate="CHECK", correct="REVISE")),
    )
    (t,) = made
    assert isinstance(t, Trajectory)
    assert [(x.role, x.content, x.train) for x in t.turns] == [
        ("system", "S", False),
        ("user", "P?", False),
        ("assistant", "a0", False),
        ("user", "CHECK", False),
        ("assistant", "e0\n[VERIFY] wrong.", True),
        ("user", "REVISE", False),
        ("assistant", "c0.0", True),
    ]


def test_pair_sets_and_their_exclusion() -> None:
    found = explored(
        base(0, False, [False], [True, False]),  # M-D1
        base(1, True, [False], [False, True]),  # M-D2
        base(2, False, [False, True], [True]),  # M-D3, wrong attempt
        base(3, True, [True, False], [False]),  # M-D3, right attempt
        base(4, False, [False, True], [False]),  # (w, "wrong", w) against (w, "correct"): never
        base(5, True, [True, False], [True]),  # both sides end right: no preference
    )
    made = [p for p in pairs(found) if isinstance(p, Pair)]
    assert [p.id for p in made] == ["p/0/M-D1", "p/1/M-D2", "p/2/M-D3w", "p/3/M-D3r"]
    text = {p.kind: ([m.content for m in p.chosen], [m.content for m in p.rejected]) for p in made}
    assert text["M-D1"] == (["c0.0"], ["c0.1"])
    assert text["M-D2"] == (["c1.1"], ["c1.0"])
    assert text["M-D3w"][0][0] == "e2\n[VERIFY] wrong."
    assert text["M-D3w"][0][-1] == "c2.0"
    assert text["M-D3w"][1] == ["e2\n[VERIFY] correct."]
    assert text["M-D3r"] == (
        ["e3\n[VERIFY] correct."],
        ["e3\n[VERIFY] wrong.", made[0].prompt[-1].content, "c3.0"],
    )
    for p in made:
        assert p.prompt[-1].role == "user"
        assert p.prompt[2].content.startswith("a"), "both sides share the first attempt"


def test_no_pair_where_nothing_differs() -> None:
    assert pairs(explored(base(0, False, [False], [True, True]))) == [
        Rejection("p", "no pair: no two samples of one attempt differ in outcome")
    ]


@pytest.mark.parametrize("style", ["verify", "yes_no", "merged"])
def test_pairs_share_their_prompt_in_every_style(style: Style) -> None:
    one = base(0, False, [False], [True, False])
    if style == "yes_no":
        one = Base(0, one.attempt, (Evaluation(Completion("No."), False),), one.corrections)
    (pair,) = pairs(explored(one, style=style))
    assert isinstance(pair, Pair)
    assert pair.prompt[-1].role == "user"
    assert pair.chosen != pair.rejected
    assert {m.role for m in (*pair.chosen, *pair.rejected)} == {"assistant"}


def test_goals_of_pairs_are_sampled_for() -> None:
    def script(turn: int, attempt: str, index: int) -> str:
        if turn == 0:
            return answer(13, index)
        return f"{index} [VERIFY] wrong." if turn == 1 else answer(12 if index == 2 else 13, index)

    found = Model(script).run(Explore(want=Want(d1=0, d2=0, d3=0, m_d1=1)))
    assert found.stopped == "wanted"
    assert [p.kind for p in pairs(found)] == ["M-D1"]  # type: ignore[union-attr]


def test_posterior_chance_of_any_success() -> None:
    # Beta(1, 1): P(no success in m trials) = 1 / (m + 1).
    assert Beta(1, 1).any_of(4) == pytest.approx(1 - 1 / 5)
    assert Beta(1, 1).given(0, 9).any_of(1) == pytest.approx(1 / 11)
    assert Beta(0.6, 1.2).any_of(0) == 0.0


def test_trial_asks_for_a_correction_only_after_wrong() -> None:
    def script(turn: int, attempt: str, index: int) -> str:
        return answer(13, 0) if turn == 0 else "[VERIFY] wrong." if turn == 1 else answer(12, 0)

    model = Model(script)
    assert triple(model.run(Trial())) == (False, False, True)
    assert model.calls == {0: 1, 1: 1, 2: 1}
    silent = Model(lambda t, a, i: answer(12, 0) if t == 0 else "no verdict")
    assert triple(silent.run(Trial())) == (True, None, None)
    assert silent.calls == {0: 1, 1: 1}
    assert measure([triple(model.run(Trial()))]).i_to_c == 1.0


def test_trial_is_greedy_unless_told_otherwise() -> None:
    heat: list[float] = []

    async def go(stage: Trial) -> None:
        def spy(request: Request, index: int) -> str:
            heat.append(request.sampling.temperature)
            return "[VERIFY] wrong."

        async with ScriptedEngine(spy) as engine:
            await stage(PROBLEM, Context(engine, verify, 0))

    asyncio.run(go(Trial()))
    asyncio.run(go(Trial(temperature=None)))
    assert heat == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]


def test_a_right_answer_by_a_false_equation_counts_for_nothing() -> None:
    def script(turn: int, attempt: str, index: int) -> str:
        if turn == 0:
            return f"7 + 5 = {13 - index % 2}. \\boxed{{12}}"
        return f"7 + 5 = 12. {index} [VERIFY] correct."

    wanted = Explore(scheme="fixed", attempts=4, sound_arithmetic=True, statements=1)
    found = Model(script).run(wanted)
    assert [b.attempt.sound for b in found.bases] == [False, True, False, True]
    assert [len(b.evaluations) for b in found.bases] == [0, 8, 0, 0], "the fourth repeats the second"
    (made,) = trajectories(found)
    assert isinstance(made, Trajectory)
    assert made.id == "p/1"


def test_a_fitting_verdict_needs_what_its_check_has_to_hold() -> None:
    checks = [
        "No numbers. [VERIFY] wrong.",
        "7 + 5 = 11. So 11 for 13. [VERIFY] wrong.",
        "7 + 5 = 12. So 12 for 14. [VERIFY] wrong.",
        "7 + 5 = 12. So 12 for 13. [VERIFY] wrong.",
    ]

    def script(turn: int, attempt: str, index: int) -> str:
        return "\\boxed{13}" if turn == 0 else checks[index] if turn == 1 else "7 + 5 = 12. \\boxed{12}"

    found = Model(script).run(
        Explore(
            want=Want(d1=1, d2=0, d3=0),
            min_chance=0,
            sound_arithmetic=True,
            statements=1,
            check_holds=CheckHolds(wrong="So {reference} for {answer}."),
        )
    )
    assert [e.sound for e in found.bases[0].evaluations] == [False, False, False, True]
    (made,) = trajectories(found)
    assert isinstance(made, Trajectory)
    assert made.turns[4].content.startswith("7 + 5 = 12. So 12 for 13.")


def test_the_reasoning_of_a_false_verdict_does_not_matter() -> None:
    """In D2 it is never trained."""
    unsound = Base(
        0,
        Judged(Completion("a"), Verdict(Outcome.CORRECT)),
        (Evaluation(Completion("1 + 1 = 3 [VERIFY] wrong."), False, sound=False),),
        (Judged(Completion("c"), Verdict(Outcome.CORRECT)),),
    )
    assert [t.subset for t in trajectories(explored(unsound)) if isinstance(t, Trajectory)] == ["D2"]
    unsound_correction = Base(
        0, unsound.attempt, unsound.evaluations, (Judged(Completion("c"), Verdict(Outcome.CORRECT), False),)
    )
    assert not [t for t in trajectories(explored(unsound_correction)) if isinstance(t, Trajectory)]


def test_nothing_is_drawn_for_ever_at_no_least_chance() -> None:
    model = Model(lambda turn, attempt, i: answer(13, i) if turn != 1 else "no verdict")
    found = model.run(Explore(min_chance=0, attempts=5))
    assert found.stopped == "budget"
    assert model.calls == {0: 5, 1: 5 * 8}


def test_only_answers_are_verified() -> None:
    """Defect A.3.6: the labelling script was run on the texts of verdicts too, which hold no answer."""
    seen: list[str] = []

    async def spy(completion: str, reference: str) -> Verdict:
        seen.append(completion)
        return await verify(completion, reference)

    async def go() -> None:
        async with ScriptedEngine(Model(judge_all_right_or_wrong)) as engine:
            await Explore(scheme="fixed", attempts=5)(PROBLEM, Context(engine, spy, 0))

    asyncio.run(go())
    assert len(seen) == 5 + 3 * 8 + 2 * 4
    assert not [text for text in seen if "[VERIFY]" in text]


def test_a_wish_that_the_prior_gives_up_at_once_is_refused() -> None:
    """Else a recipe with small budgets would draw attempts, and never anything from them."""
    with pytest.raises(RecipeError, match=r"want: D1 has a chance of 0\.16 .* min_chance 0\.3"):
        Explore(evaluations=2, corrections_of_wrong=1)
    Explore(evaluations=2, corrections_of_wrong=1, corrections_of_right=1, min_chance=0.1)
    Explore(evaluations=2, corrections_of_wrong=0, corrections_of_right=0, want=Want(d1=0, d2=0))
