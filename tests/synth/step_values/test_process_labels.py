from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from gristmill.core.engine import Completion, Message
from gristmill.core.errors import RecipeError
from gristmill.core.records import Judged
from gristmill.core.schema import from_frame, to_frame
from gristmill.core.shares import wilson
from gristmill.core.stages import Context, Rejection
from gristmill.core.steps import ProcessRow, Step, StepAction, Tally, ValuedSolution, tally
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.step_values.labels import ProcessLabels, StepActions, name_of
from gristmill.synth.step_values.steps import Split
from gristmill.synth.step_values.values import er_prm
from gristmill.verifiers.math import Math

RIGHT, WRONG = Verdict(Outcome.CORRECT, 1.0), Verdict(Outcome.INCORRECT, 0.0)
LOST, SLOW = Verdict(Outcome.UNPARSEABLE), Verdict(Outcome.TIMEOUT)


def rollouts(correct: int, wrong: int, *more: Verdict) -> tuple[Judged, ...]:
    return tuple(Judged(Completion("x"), v) for v in (*[RIGHT] * correct, *[WRONG] * wrong, *more))


def solution(steps: Sequence[Step], verdict: Verdict = WRONG, **more: Any) -> ValuedSolution:
    said = (Message("user", "2 + 2?"),)
    record = ValuedSolution("p/0", "p", "2 + 2?", "4", said, tuple(steps), verdict, "fixed", "done")
    return msgspec.structs.replace(record, **more)


def counted(*correct: int, of: int = 8, verdict: Verdict = WRONG, **more: Any) -> ValuedSolution:
    steps = [Step(f"step {i}\n\n", rollouts(c, of - c)) for i, c in enumerate(correct)]
    return solution(steps, verdict, **more)


def made(stage: Any, record: ValuedSolution) -> list[Any]:
    async def verify(text: str, answer: str) -> Verdict:
        raise AssertionError("no verifier is called")

    return list(asyncio.run(stage(record, Context(ScriptedEngine(lambda r, i: "no"), verify, 0))))


def values(record: ValuedSolution, *kinds: str, **options: Any) -> list[tuple[float, ...]]:
    rows = made(ProcessLabels(kinds=kinds, **options), record)
    assert [r.kind for r in rows] == [name_of(k) for k in kinds]
    return [r.values for r in rows]


def test_one_set_of_rollouts_gives_every_kind_with_counts_and_intervals() -> None:
    record = counted(16, 4, 0, of=16)
    kinds = (
        "hard",
        "soft",
        "er-prm(1)",
        "er-prm(-1)",
        "er-prm(0)",
        "er-prm(inf)",
        "er-prm(-inf)",
        "er-prm(1000)",
    )
    rows = made(ProcessLabels(kinds=kinds, last="rollouts"), record)
    assert [r.values[1] for r in rows] == pytest.approx(
        [1, 0.25, 0.357374, 0.172011, 0.25, 1, 0, 0.998614], abs=1e-6
    )
    assert {r.values[::2] for r in rows} == {(1.0, 0.0)}
    for row, kind in zip(rows, kinds, strict=True):
        assert (row.id, row.kind, row.solved) == (f"p/0/{kind}", kind, False)
        assert (row.correct, row.decided) == ((16, 4, 0), (16, 16, 16))
        assert list(zip(row.low, row.high, strict=True)) == [wilson(c, 16) for c in (16, 4, 0)]
        assert row.steps == ("step 0\n\n", "step 1\n\n", "step 2\n\n") and row.prompt == record.messages
    assert from_frame(to_frame(rows, ProcessRow), ProcessRow) == rows
    assert made(ProcessLabels(confidence=0.5), solution(record.steps, SLOW))[0].high[2] < rows[0].high[2]


def test_truncation_after_the_first_error() -> None:
    # C.5: counts of 8 [8, 5, 1, 0, 0].
    record = counted(8, 5, 1, 0, 0)
    assert values(record, "hard", "soft", cut_after_error=True) == [(1, 1, 1, 0), (1, 0.625, 0.125, 0)]
    assert values(record, "hard", "soft") == [(1, 1, 1, 0, 0), (1, 0.625, 0.125, 0, 0)]
    # The first zero counts, though later prefixes recover; and a right solution is cut there as well.
    assert values(counted(8, 0, 3, 2, verdict=RIGHT), "soft", cut_after_error=True) == [(1, 0)]
    assert values(counted(8, 8, 8), "hard", cut_after_error=True) == [(1, 1, 0)]


def test_the_last_step_has_its_own_verdict_unless_that_decides_nothing() -> None:
    def last(verdict: Verdict, how: Any = "verdict") -> Any:
        row = made(ProcessLabels(kinds=("soft",), last=how), counted(8, 2, verdict=verdict))[0]
        return row.values[1], row.decided[1], (row.low[1], row.high[1]), row.solved

    assert last(RIGHT) == (1.0, 0, (0.0, 1.0), True)
    assert last(WRONG) == (0.0, 0, (0.0, 1.0), False)
    assert last(LOST) == (0.0, 0, (0.0, 1.0), False)  # no readable answer: it did not reach the right one
    assert last(SLOW) == (0.25, 8, wilson(2, 8), None)
    assert last(RIGHT, "rollouts") == (0.25, 8, wilson(2, 8), True)


def test_undecided_rollouts_are_no_evidence_and_too_few_reject_the_kind() -> None:
    record = solution(
        [Step("a", rollouts(1, 1, SLOW, SLOW, LOST)), Step("b", rollouts(0, 0, SLOW)), Step("c")]
    )
    found = made(ProcessLabels(kinds=("hard", "soft")), record)
    assert [(r.id, r.reason) for r in found] == [
        ("p/0/hard", "a step without enough decided rollouts"),
        ("p/0/soft", "a step without enough decided rollouts"),
    ]
    assert found[0].detail == "step 2 of 3 has 0, fewer than 1"
    first = solution([Step("a", rollouts(1, 1, SLOW, SLOW, LOST)), Step("c")])
    assert values(first, "soft") == [(pytest.approx(1 / 3), 0)]
    assert isinstance(made(ProcessLabels(least=4), first)[0], Rejection)
    assert values(first, "soft", least=3) == [(pytest.approx(1 / 3), 0)]
    assert made(ProcessLabels(), solution([]))[0].reason == "no steps"


def test_binary_search_gives_the_kinds_that_can_be_inferred() -> None:
    # 5 steps, error in step 3 (index 2); prefixes 2 and 3 were sampled.
    steps = [Step("a"), Step("b", rollouts(3, 5)), Step("c", rollouts(0, 8)), Step("d"), Step("e")]
    record = solution(steps, scheme="binary", first_error=2, valued=8)
    found = made(ProcessLabels(kinds=("hard", "soft", "er-prm(inf)", "er-prm(1)")), record)
    hard, soft, infinite, regular = found
    assert hard.values == infinite.values == (1, 1, 0, 0, 0)
    assert hard.decided == (0, 8, 8, 0, 0) and hard.low[0] == 0 and hard.high[0] == 1
    assert isinstance(soft, Rejection) and isinstance(regular, Rejection)
    assert values(record, "hard", cut_after_error=True) == [(1, 1, 0)]
    # Every step before the error sampled: what follows is 0 by any kind.
    sampled = solution([Step("a", rollouts(8, 0)), *steps[1:]], scheme="binary", first_error=2, valued=8)
    assert values(sampled, "soft") == [(1, 0.375, 0, 0, 0)]
    none = solution([Step("a"), Step("b")], RIGHT, scheme="binary", first_error=-1)
    assert values(none, "hard") == [(1, 1)]
    unknown = solution([Step("a"), Step("b")], RIGHT, scheme="binary", first_error=None)
    assert isinstance(made(ProcessLabels(kinds=("hard",)), unknown)[0], Rejection)


def test_hard_labels_are_those_of_the_scheme_that_located_the_error() -> None:
    # Few rollouts of the first step failed, but a later prefix succeeds, so the first is right as well;
    # and one lucky rollout behind the error does not make that step right.
    steps = [
        Step("a", rollouts(0, 4)),
        Step("b", rollouts(2, 2)),
        Step("c", rollouts(0, 9)),
        Step("d", rollouts(1, 9)),
    ]
    record = solution([*steps, Step("e")], scheme="adaptive", first_error=2, valued=4)
    [hard, soft] = made(ProcessLabels(kinds=("hard", "soft")), record)
    assert hard.values == (1, 1, 0, 0, 0) and hard.correct == (0, 2, 0, 1, 0)
    # Of each the first four, whatever came after them.
    assert soft.values == (0, 0.5, 0, 0.25, 0) and soft.decided == (4, 4, 4, 4, 0)
    assert values(record, "hard", "soft", cut_after_error=True) == [(1, 1, 0), (0, 0.5, 0)]
    assert values(msgspec.structs.replace(record, scheme="fixed"), "hard") == [(0, 1, 0, 1, 0)]


def test_rollouts_that_a_search_stopped_by_what_they_came_to_give_no_shares() -> None:
    steps = [Step("a", rollouts(1, 3)), Step("b", rollouts(0, 16)), Step("c")]
    for scheme in ("adaptive", "binary"):
        record = solution(steps, scheme=scheme, first_error=1, start=rollouts(1, 3))
        hard, soft, infinite, regular = made(
            ProcessLabels(kinds=("hard", "soft", "er-prm(inf)", "er-prm(1)")), record
        )
        assert hard.values == infinite.values == (1, 0, 0)
        assert set(zip(hard.low, hard.high, strict=True)) == {(0.0, 1.0)}
        for refused in (soft, regular, *made(StepActions(), record)[:2]):
            assert isinstance(refused, Rejection)
            assert refused.reason == "rollouts of a search without value_k"
            assert "set value_k in step_values" in refused.detail and scheme in refused.detail


def test_graded_rewards_change_soft_kinds_only() -> None:
    half = Verdict(Outcome.INCORRECT, 0.5)
    step = Step("a", tuple(Judged(Completion("x"), v) for v in (RIGHT, half, half, LOST, SLOW)))
    every = ("hard", "soft", "er-prm(1)")
    rows = made(ProcessLabels(kinds=every, graded=True, last="rollouts"), solution([step]))
    assert [r.values[0] for r in rows] == [1, 0.5, er_prm([1, 0.5, 0.5, 0], 1)]
    assert values(solution([step]), "soft", last="rollouts") == [(0.25,)]


def test_only_the_mathematics_of_a_step_may_be_kept() -> None:
    record = counted(8, 4, 0)
    texts = ("We add, so 2 + 2 = 4.\n", "That was easy.\n", "Hence $x=4$.")
    steps = tuple(Step(t, s.rollouts) for t, s in zip(texts, record.steps, strict=True))
    [row] = made(ProcessLabels(kinds=("soft",), keep="mathematical"), solution(steps))
    assert (row.steps, row.values, row.correct) == (("2 + 2 = 4", "$x=4$"), (1, 0), (8, 0))
    said = Verdict(Outcome.INCORRECT, 0.0, "18")
    ends = (
        "That is 2 * 9 = 18.\n",
        "We are done, as 1 + 1 = 2.\n",
        "He has 18 apples.\n",
        "I hope this helps!",
    )
    record = solution([Step(t, rollouts(1, 0)) for t in ends], said)
    [row] = made(ProcessLabels(kinds=("soft",), keep="mathematical"), record)
    assert row.steps == ("2 * 9 = 18", "1 + 1 = 2", "He has 18 apples.")
    # Where the verdict names no answer, the last step is the one that gives it.
    found = made(ProcessLabels(kinds=("soft",), keep="mathematical"), solution(steps[1:2]))
    assert found[0].steps == ("That was easy.",)


def test_kinds_are_checked_and_have_one_name() -> None:
    assert [name_of(k) for k in ("er-prm(+1.0)", "er-prm(-0)", "er-prm(1e-1)", "er-prm(+inf)", "soft")] == [
        "er-prm(1)",
        "er-prm(0)",
        "er-prm(0.1)",
        "er-prm(inf)",
        "soft",
    ]
    for wrong in ("er-prm", "er-prm(nan)", "er-prm()", "Hard", "soft "):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"kinds": [wrong]}, ProcessLabels)
    with pytest.raises(RecipeError, match="twice"):
        ProcessLabels(kinds=("er-prm(1)", "er-prm(1.0)"))
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"kinds": []}, ProcessLabels)
    assert values(counted(1, 0), "er-prm(0.123456789)")[0][0] == er_prm(Tally(1, 8), 0.123456789)


# The script of ER-PRM, as algorithms.md describes it (B.1, B.5), small enough to be read beside the tests.


def script_value(
    labels: Sequence[float], coefficient: float = 1.0, *, flag: str = "1", sign: int = 1
) -> float:
    """``sign`` is the 1 that the source has before the coefficient in the exponent, to be edited."""
    coefficient = int(flag)  # the flag is an int, and replaces the function's own argument
    n = len(labels)
    mean = labels.count(0) / n + labels.count(1) / n * math.exp(sign * coefficient)
    return round(math.fabs(1 / coefficient * math.log(mean)), 3)


def script_gsm_label(completion: str, reference: str) -> int:
    numbers = re.findall(r"-?\d+(?:\.\d+)?", completion)
    number = float(numbers[-1]) if numbers else None
    if not number:  # 0 counts as no answer
        return 0
    return int(number == float(int(reference)))


def script_prefixes(prefixes: list[str]) -> list[str]:
    kept = [prefixes[0]]
    for prefix in prefixes[1:-1]:
        if len(prefix) - len(kept[-1]) > 30:
            kept.append(prefix)
    return [*kept, prefixes[-1]]


@pytest.mark.parametrize("flag", ["1", "2", "10", "-1", "-2"])
def test_er_prm_equals_the_published_script_where_that_is_right(flag: str) -> None:
    record = counted(*range(17), of=16, verdict=RIGHT)
    [ours] = values(record, f"er-prm({flag})")
    labels = [[1] * c + [0] * (16 - c) for c in range(16)]
    theirs = [script_value(row, flag=flag) for row in labels] + [round(float(record.verdict.correct), 3)]
    assert [round(v, 3) for v in ours] == theirs


def test_the_script_takes_eta_for_an_int_and_ignores_its_own_argument() -> None:
    labels = [1] * 4 + [0] * 12
    for flag in ("0.5", "inf"):
        with pytest.raises(ValueError):
            script_value(labels, flag=flag)
    with pytest.raises(ZeroDivisionError):
        script_value(labels, flag="0")
    with pytest.raises(OverflowError):
        script_value(labels, flag="1000")
    found = values(counted(4, 0, of=16), "er-prm(0.5)", "er-prm(inf)", "er-prm(0)", "er-prm(1000)")
    assert [v[0] for v in found] == pytest.approx(
        [2 * math.log(0.75 + 0.25 * math.exp(0.5)), 1, 0.25, 1 - math.log(4) / 1000]
    )
    assert script_value(labels, -1.0) == script_value(labels, 10.0) == script_value(labels) == 0.357
    assert round(er_prm(Tally(4, 16), -1), 3) == 0.172


def test_the_script_hides_the_sign_of_a_value_by_fabs() -> None:
    # Edited to the other sign in the exponent alone, 1/eta log E exp(-eta r) is negative. fabs makes it
    # the value of -eta, under the flag of eta: nothing in the output says which form was used. Here eta says.
    labels = [1] * 4 + [0] * 12
    assert script_value(labels, flag="1", sign=-1) == script_value(labels, flag="-1") == 0.172
    assert name_of("er-prm(-1)") == "er-prm(-1)"
    assert [round(v[0], 3) for v in values(counted(4, 0, of=16), "er-prm(1)", "er-prm(-1)")] == [0.357, 0.172]
    # A graded reward is neither 0 nor 1 to it: its share is lost, the logarithm negative, the sign hidden.
    rewards = [1, 0.5, 0.5, 0.5]
    assert script_value(rewards) == 0.386
    assert er_prm(rewards, 1) == pytest.approx(math.log((math.e + 3 * math.exp(0.5)) / 4))
    assert er_prm([1, 0, 0, 0], 1) == pytest.approx(script_value([1, 0, 0, 0]), abs=5e-4)
    with pytest.raises(ValueError, match="domain"):
        script_value([0.5, 0.5])
    # What cannot be a reward is refused rather than given a sign.
    with pytest.raises(ValueError, match="in \\[0, 1\\]"):
        er_prm([-1.0, -0.5], 1)


def test_the_script_takes_an_answer_of_0_for_none() -> None:
    texts = ["So it is \\boxed{0}.", "The answer is 0.", "The answer is 3."]
    assert [script_gsm_label(t, "0") for t in texts] == [0, 0, 0]
    verdicts = [Math()(t, "0") for t in texts]
    assert [v.correct for v in verdicts] == [True, True, False]
    drawn = tuple(Judged(Completion(t), v) for t, v in zip(texts, verdicts, strict=True))
    ours = values(solution([Step("a", drawn), Step("b")], verdicts[0]), "soft", "er-prm(1)")
    assert ours == [(2 / 3, 1), (er_prm(Tally(2, 3), 1), 1)]
    assert script_value([script_gsm_label(t, "0") for t in texts]) == 0
    with pytest.raises(ValueError):
        script_gsm_label("The answer is 2.5.", "2.5")
    assert Math()("The answer is 2.5.", "2.5").correct


def test_the_script_loses_the_value_of_a_sentence_of_30_characters_or_less() -> None:
    sentences = ["First we add the two numbers that are given. ", "So x = 4. ", "But that is too small. ",
                 "Therefore we have to double it once more. ", "The answer is 8."]  # fmt: skip
    text = "".join(sentences)
    prefixes = ["".join(sentences[: i + 1]) for i in range(5)]
    assert Split(by="sentence")(text) == sentences
    assert script_prefixes(prefixes) == [prefixes[0], prefixes[2], prefixes[3], prefixes[4]]  # 4 of 5
    record = solution([Step(s, rollouts(c, 8 - c)) for s, c in zip(sentences, (6, 0, 1, 1, 0), strict=True)])
    # The value that would have shown the first error is the one that is lost.
    assert values(record, "hard") == [(1, 0, 1, 1, 0)]
    # Joined on purpose, short steps keep their text, and the last is no exception.
    assert Split(by="sentence", min_chars=31)(text) == [
        sentences[0],
        "".join(sentences[1:3]),
        "".join(sentences[3:]),
    ]
    # A solution of one sentence has two values there.
    assert script_prefixes(["One step."]) == ["One step.", "One step."]
    assert Split(by="sentence", min_chars=31)("One step.") == ["One step."]


def test_step_actions_under_the_best_of_k() -> None:
    record = solution(
        [Step("a\n", rollouts(5, 5)), Step("b\n", rollouts(2, 8)), Step("c")], RIGHT, start=rollouts(3, 7)
    )
    first, second, last = made(StepActions(), record)
    assert (first.value, first.advantage, first.reward) == (0.5, pytest.approx(0.1776), pytest.approx(0.5888))
    assert second.advantage == pytest.approx((1 - 0.8**4) - 0.9375) and second.advantage < 0
    assert (last.value, last.advantage) == (1, pytest.approx(0.8**4))
    assert [(r.id, r.prefix, r.action) for r in (first, second, last)] == [
        ("p/0/0", "", "a\n"),
        ("p/0/1", "a\n", "b\n"),
        ("p/0/2", "a\nb\n", "c"),
    ]
    assert from_frame(to_frame([first], StepAction), StepAction) == [first]
    assert sum(r.advantage for r in (first, second, last)) == pytest.approx(1 - 0.7599)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"k": 1}, StepActions)  # the policy itself


def test_step_actions_under_the_rollouts_of_a_prover() -> None:
    steps = [Step("a", rollouts(1, 7), rollouts(4, 4)), Step("b", rollouts(2, 6)), Step("c", rollouts(0, 1))]
    record = solution(steps, SLOW, start_prover=rollouts(2, 6))
    first, second, third = made(StepActions(prover="rollouts", alpha=3), record)
    assert (first.value, first.advantage, first.reward) == (0.125, 0.25, 0.875)
    assert isinstance(second, Rejection) and isinstance(third, Rejection)
    assert (second.id, second.reason) == ("p/0/1", "a step without enough decided rollouts")
    assert second.detail == "the prover's before or after step 2"
    assert made(StepActions(), solution([]))[0].reason == "no steps"
    # They were paid for, and so they are the prover unless another one is asked for.
    assert made(StepActions(alpha=3), record)[0] == first
    assert made(StepActions(prover="best-of-k"), record)[0].detail == "the prover's before or after step 1"


def test_rollouts_that_screened_a_question_are_no_measure_of_it() -> None:
    steps = [Step("a", rollouts(5, 5)), Step("b")]
    screened = solution(steps, RIGHT, start=rollouts(1, 3), screened=4)
    first, second = made(StepActions(), screened)
    assert isinstance(first, Rejection) and first.reason == "the question's rollouts only screened it"
    assert second.value == 1
    held_out = solution(steps, RIGHT, start=(*rollouts(1, 3), *rollouts(2, 8)), screened=4)
    assert made(StepActions(k=2), held_out)[0].advantage == pytest.approx((1 - 0.5**2) - (1 - 0.8**2))


def test_tally_counts_what_labels_count() -> None:
    assert tally(rollouts(1, 2, LOST, SLOW)) == Tally(1, 4)
