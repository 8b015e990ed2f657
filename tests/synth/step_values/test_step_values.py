"""The stage ``step_values`` on a scripted model whose success from every prefix is known."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from gristmill.core.engine import Ability, Completion, Engine, Message, Request, Sampling
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.records import Problem, Sampled
from gristmill.core.stages import Context, Rejection, derive_seed
from gristmill.core.steps import ValuedSolution, tally
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.log.store import CompletionLog
from gristmill.engines.options import EngineOptions
from gristmill.engines.scripted import ABILITIES, ScriptedEngine
from gristmill.engines.session import Session
from gristmill.synth.sampling import Sample
from gristmill.synth.step_values.estimate import StepValues
from gristmill.synth.step_values.rollouts import Rollouts
from gristmill.synth.step_values.samples import RolloutSamples
from gristmill.verifiers.rules.choice import Choice

ASKED = (Message("user", "What is 7 + 5?"),)
STEPS = tuple(f"Step {j}: x{j} is {j * j}.\n\n" for j in range(1, 8))
TEXT = "".join(STEPS) + "Step 8: the answer is 13."
WRONG = Verdict(Outcome.INCORRECT, 0.0, "13")
SAMPLE = Sampled("p/0", "p", 0, "What is 7 + 5?", "12", ASKED, TEXT, "stop", 9, 40, WRONG)
QUICK = EngineOptions(backoff=0.001, max_backoff=0.01)


async def verify(completion: str, reference: str) -> Verdict:
    found = re.findall(r"answer is (\w+)", completion)
    if not found:
        return Verdict(Outcome.UNPARSEABLE)
    if found[-1] == "slow":
        return Verdict(Outcome.TIMEOUT)
    return Verdict(Outcome.CORRECT if found[-1] == reference else Outcome.INCORRECT, extracted=found[-1])


class Model:
    """Answers by ``answer(steps in the prefix, sample index)``; keeps what it was asked, and how often."""

    def __init__(self, answer: Callable[[int, int], object] = lambda steps, i: 12 if steps < 4 else 13):
        self.answer = answer
        self.requests: list[Request] = []
        self.drawn: Counter[tuple[bytes, int]] = Counter()

    def __call__(self, request: Request, index: int) -> str:
        self.requests.append(request)
        self.drawn[msgspec.json.encode(request), index] += 1
        steps = (request.prefix + "".join(m.content for m in request.messages[1:])).count("Step ")
        return f"{index} so the answer is {self.answer(steps, index)}."

    def engine(self, **options: object) -> ScriptedEngine:
        return ScriptedEngine(self, **options)  # type: ignore[arg-type]


def value(stage: StepValues, engine: Engine, *samples: Sampled, **engines: Engine) -> list[ValuedSolution]:
    async def run() -> list[ValuedSolution]:
        context = Context(engine, verify, 7, engines)
        made = await asyncio.gather(*(stage(s, context) for s in samples or (SAMPLE,)))
        return [record for records in made for record in records]

    return asyncio.run(run())


def counts(record: ValuedSolution) -> list[tuple[int, int]]:
    return [(t.correct, t.decided) for t in (tally(s.rollouts) for s in record.steps)]


def test_fixed_draws_k_from_each_prefix_in_one_request_and_none_from_the_whole() -> None:
    model = Model()
    engine = model.engine()
    [record] = value(StepValues(k=16), engine)
    assert counts(record) == [(16, 16)] * 3 + [(0, 16)] * 4 + [(0, 0)]
    assert engine.requests == 7
    assert "".join(s.text for s in record.steps) == TEXT
    assert (record.first_error, record.stopped, record.verdict) == (3, "drawn", WRONG)
    assert (record.id, record.scheme, record.answer, record.messages) == ("p/0", "fixed", "12", ASKED)


def test_every_prefix_has_its_own_seed_which_no_scheme_changes() -> None:
    model = Model()
    for scheme in ("fixed", "binary", "adaptive"):
        value(msgspec.convert({"scheme": scheme}, StepValues), model.engine())
    for request in model.requests:
        assert request.messages == ASKED
        assert TEXT.startswith(request.prefix)
        assert request.seed == derive_seed(7, "p/0", request.prefix.count("Step "))


@pytest.mark.parametrize(
    ("error", "looked"), [(1, [4, 2, 1]), (4, [4, 2, 3]), (7, [4, 6, 7]), (8, [4, 6, 7])]
)
def test_binary_search_takes_24_rollouts_of_8_steps(error: int, looked: list[int]) -> None:
    """C.1, through the stage."""
    model = Model(lambda steps, i: 12 if steps < error else 13)
    [record] = value(StepValues(scheme="binary", k=8, batch=8), model.engine())
    assert list(dict.fromkeys(r.prefix.count("Step ") for r in model.requests)) == looked
    assert sum(len(s.rollouts) for s in record.steps) == 24
    assert (record.first_error, record.stopped) == (error - 1, "located")


def test_adaptive_finds_the_error_for_less_than_fixed() -> None:
    [record] = value(StepValues(scheme="adaptive"), Model().engine())
    assert (record.first_error, record.stopped) == (3, "decided")
    assert sum(len(s.rollouts) for s in record.steps) < 56


def test_the_schemes_share_their_rollouts_through_the_log(tmp_path: Path) -> None:
    with CompletionLog(tmp_path / "log.sqlite") as log:
        model = Model(lambda steps, i: 12 if (i * 7 + steps) % 5 == 0 and steps < 6 else 13)
        [fixed] = value(StepValues(k=16), Session(model.engine(), QUICK, log))
        silent = Model()
        for options in ({"scheme": "binary"}, {"scheme": "adaptive", "k": 16, "confidence": 0.9}, {"k": 8}):
            [other] = value(msgspec.convert(options, StepValues), Session(silent.engine(), QUICK, log))
            for step, full in zip(other.steps, fixed.steps, strict=True):
                assert step.rollouts == full.rollouts[: len(step.rollouts)]
        assert not silent.requests, "all of it was in the log"
        more = Model()
        value(StepValues(k=20), Session(more.engine(), QUICK, log))
        assert sorted({i for _, i in more.drawn}) == [16, 17, 18, 19]


@pytest.mark.parametrize("options", [{"k": 6}, {"scheme": "binary", "repeat": 4}, {"scheme": "adaptive"}])
def test_a_run_that_is_killed_and_run_again_pays_for_nothing_twice(
    tmp_path: Path, options: dict[str, object]
) -> None:
    stage = msgspec.convert(options | {"start": 4}, StepValues)
    samples = [replace(SAMPLE, id=f"p{n}/0", problem_id=f"p{n}") for n in range(6)]
    one_by_one = ABILITIES - {Ability.MANY}
    whole, model = Model(), Model()
    with CompletionLog(tmp_path / "other.sqlite") as log:
        expected = value(stage, Session(whole.engine(abilities=one_by_one), QUICK, log), *samples)
    paid = len(whole.requests)
    with CompletionLog(tmp_path / "log.sqlite") as log:
        for limit in (paid // 4, paid // 3):
            engine = Mortal(model, limit, abilities=one_by_one, concurrency=1)
            with pytest.raises(asyncio.CancelledError):
                value(stage, Session(engine, QUICK, log), *samples)
        found = value(stage, Session(model.engine(abilities=one_by_one), QUICK, log), *samples)
    assert found == expected
    assert set(model.drawn.values()) == {1}
    assert len(model.drawn) == paid


class Mortal(ScriptedEngine):
    """Is cancelled, as by a kill, after so many requests."""

    def __init__(self, model: Model, limit: int, **options: object) -> None:
        super().__init__(model, **options)  # type: ignore[arg-type]
        self.limit = limit

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        if self.requests >= self.limit:
            raise asyncio.CancelledError
        return await super().generate(request, first=first, n=n)


@pytest.mark.parametrize("scheme", ["fixed", "binary", "adaptive"])
def test_the_order_in_which_requests_finish_changes_nothing(scheme: str) -> None:
    stage = msgspec.convert({"scheme": scheme, "repeat": 4, "start": 3, "prover": "strong"}, StepValues)
    samples = [replace(SAMPLE, id=f"p{n}/0") for n in range(5)]
    answer = lambda steps, i: 12 if (i * 3 + steps) % 4 == 0 and steps < 5 else 13  # noqa: E731
    runs = [
        value(
            stage,
            Model(answer).engine(latency=latency),
            *samples,
            strong=Model(answer).engine(latency=latency),
        )
        for latency in (0.0, 0.002)
    ]
    assert msgspec.json.encode(runs[0]) == msgspec.json.encode(runs[1])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"answer": None}, "no reference answer"),
        ({"finish_reason": "length"}, "unfinished solution"),
        ({"verdict": None}, "solution without a verdict"),
        ({"verdict": Verdict(Outcome.TIMEOUT)}, "solution without a verdict"),
        ({"verdict": Verdict(Outcome.UNPARSEABLE)}, "solution without a verdict"),
        ({"verdict": Verdict(Outcome.CORRECT)}, "solution is right"),
        ({"completion": ""}, "solution without steps"),
    ],
)
def test_what_cannot_be_valued_is_rejected_and_costs_nothing(change: dict[str, object], reason: str) -> None:
    model, stage = Model(), StepValues(only="wrong", start=4)
    with pytest.raises(RowRejected) as caught:
        value(stage, model.engine(), replace(SAMPLE, **change))
    assert caught.value.reason == reason
    assert not model.requests
    assert stage.estimate(replace(SAMPLE, **change)).completions_max == 0


def test_a_right_solution_may_be_valued_too() -> None:
    right = replace(SAMPLE, verdict=Verdict(Outcome.CORRECT))
    [record] = value(StepValues(k=2), Model(lambda steps, i: 12).engine(), right)
    assert (record.first_error, counts(record)) == (-1, [(2, 2)] * 7 + [(0, 0)])
    with pytest.raises(RowRejected, match="p/0"):
        value(StepValues(only="right"), Model().engine())


@pytest.mark.parametrize(
    ("answer", "solved", "reason", "drawn"),
    [
        (13, False, "never solved", 6),
        (12, True, "always solved", 6),
        (12, False, None, 4),
        (13, True, None, 4),
    ],
)
def test_problems_always_or_never_solved_are_skipped(
    answer: int, solved: bool, reason: str | None, drawn: int
) -> None:
    model = Model(lambda steps, i: answer if not steps else 13)
    sample = replace(SAMPLE, verdict=Verdict(Outcome.CORRECT if solved else Outcome.INCORRECT))
    stage = StepValues(scheme="binary", start=6, skip_certain=True)
    if reason is None:
        [record] = value(stage, model.engine(), sample)
        assert len(record.start) == drawn, "the first draw already differs from the solution"
    else:
        with pytest.raises(RowRejected) as caught:
            value(stage, model.engine(), sample)
        assert caught.value.reason == reason
        assert len(model.requests) == drawn
    with pytest.raises(RecipeError, match="start"):
        StepValues(skip_certain=True)


def test_rollouts_from_the_question_are_shared_by_solutions_and_by_the_sample_stage(tmp_path: Path) -> None:
    model = Model()
    sampling = Sampling(temperature=0.8)
    with CompletionLog(tmp_path / "log.sqlite") as log:
        session = Session(model.engine(), QUICK, log)
        stage = StepValues(k=1, start=4, rollouts=Rollouts(sampling=sampling))
        a, b = value(stage, session, SAMPLE, replace(SAMPLE, id="p/1"))
        assert a.start == b.start
        assert sum(not r.prefix for r in model.requests) == 4
        before = len(model.requests)
        problem = Problem("p", "What is 7 + 5?", "12")
        samples = asyncio.run(Sample(samples=4, sampling=sampling)(problem, Context(session, verify, 7)))
        assert len(model.requests) == before
        assert [s.completion for s in samples] == [r.completion.text for r in a.start]  # type: ignore[union-attr]


def test_a_prover_draws_from_every_prefix_and_the_question_with_seeds_of_its_own() -> None:
    policy, strong = Model(), Model(lambda steps, i: 12)
    stage = StepValues(scheme="binary", start=2, prover="strong", prover_k=3)
    [record] = value(stage, policy.engine(), strong=strong.engine())
    assert [len(s.prover) for s in record.steps] == [3] * 7 + [0]
    assert tally(record.start_prover).mean == 1.0
    assert len(strong.requests) == 24
    assert not {r.seed for r in strong.requests} & {r.seed for r in policy.requests}
    with pytest.raises(RecipeError, match="strong"):
        value(stage, policy.engine())


def test_an_engine_that_cannot_continue_gets_the_fallback_or_is_refused() -> None:
    model = Model()
    able = ABILITIES - {Ability.CONTINUE}
    [record] = value(StepValues(k=2), model.engine(abilities=able))
    assert record.first_error == 3
    assert all(not r.prefix and r.messages[1].role == "assistant" for r in model.requests)
    strict = StepValues(rollouts=Rollouts(fallback=""))
    assert strict.needs == {Ability.CHAT, Ability.CONTINUE}
    assert StepValues().needs == {Ability.CHAT}
    with pytest.raises(RecipeError, match="fallback"):
        value(strict, model.engine(abilities=able))


def test_rollouts_without_a_verdict_leave_the_error_undecided() -> None:
    [record] = value(StepValues(k=4), Model(lambda steps, i: "slow" if steps == 2 else 12).engine())
    assert counts(record)[1] == (0, 0)
    assert record.first_error is None


def test_a_prefix_that_already_holds_the_answer_may_be_followed_by_nothing() -> None:
    text = "I think the answer is 12. \n\n  Done, that was it."
    sample = replace(SAMPLE, completion=text, verdict=Verdict(Outcome.CORRECT))
    seen: list[Request] = []

    def nothing(request: Request, index: int) -> Completion:
        seen.append(request)
        return Completion("")

    stage = StepValues(k=2)
    [record] = value(stage, ScriptedEngine(nothing), sample)
    assert counts(record)[0] == (2, 2)
    # A solution of one step has no prefix to draw from.
    one = replace(sample, completion="the answer is 12")
    assert [s.rollouts for s in value(stage, ScriptedEngine(nothing), one)[0].steps] == [()]
    assert len(seen) == 2


def test_spaces_at_the_end_of_a_prefix_are_not_sent() -> None:
    request = Rollouts().request(Model().engine(), ASKED, "It is so. ", 1)
    assert request.prefix == "It is so."
    assert Rollouts().request(Model().engine(), ASKED, "So.\n\n", 1).prefix == "So.\n\n"


@pytest.mark.parametrize("options", [{}, {"scheme": "binary"}, {"scheme": "binary", "repeat": 8}])
def test_the_estimate_bounds_what_is_drawn(options: dict[str, object]) -> None:
    for extra in ({}, {"start": 5}, {"start": 5, "skip_certain": True}, {"prover": "strong", "start": 1}):
        stage = msgspec.convert(options | extra, StepValues)
        for error in range(1, 9):
            model = Model(lambda steps, i, error=error: 12 if steps < error else 13)  # type: ignore[misc]
            value(stage, model.engine(), strong=model.engine())
            estimate = stage.estimate(SAMPLE)
            assert estimate.completions_min <= len(model.requests) <= estimate.completions_max


def rollout_samples(stage: RolloutSamples, record: ValuedSolution) -> Sequence[Sampled | Rejection]:
    return asyncio.run(stage(record, Context(Model().engine(), verify, 0)))


def test_rollouts_are_samples_with_the_text_from_the_beginning() -> None:
    [record] = value(StepValues(k=2, start=1), Model().engine())
    made = rollout_samples(RolloutSamples(), record)
    assert len(made) == 15
    assert len({s.id for s in made}) == 15
    first, second = made[0], made[1]
    assert isinstance(first, Sampled)
    assert isinstance(second, Sampled)
    assert (first.id, first.completion) == ("p/0/0.0", "0 so the answer is 12.")
    assert (second.id, second.completion) == ("p/0/1.0", STEPS[0] + "0 so the answer is 12.")
    assert (second.index, second.problem_id, second.messages) == (1, "p", ASKED)
    assert second.verdict == Verdict(Outcome.CORRECT, extracted="12")


def test_rollouts_that_are_not_wanted_are_dropped_with_a_reason() -> None:
    [record] = value(StepValues(k=2, start=1), Model().engine())
    made = rollout_samples(RolloutSamples(only="wrong", start=False), record)
    assert Counter(s.reason for s in made if isinstance(s, Rejection)) == {"rollout is right": 6}
    assert sum(isinstance(s, Sampled) for s in made) == 8
    record = replace(record, steps=(replace(record.steps[0], rollouts=record.steps[0].rollouts[:1] * 2),))
    made = rollout_samples(RolloutSamples(distinct=True, start=True), replace(record, start=()))
    assert made[1] == Rejection("p/0/1.1", "rollout with the text of another")


@pytest.mark.parametrize("scheme", ["adaptive", "binary"])
def test_value_k_continues_what_a_search_looked_at_and_all_before_the_error(scheme: str) -> None:
    stage = msgspec.convert({"scheme": scheme, "value_k": 10}, StepValues)
    plain = msgspec.convert({"scheme": scheme}, StepValues)
    [record], [search] = value(stage, Model().engine()), value(plain, Model().engine())
    assert (record.valued, record.first_error, search.valued) == (10, 3, 0)
    for index, (step, looked) in enumerate(zip(record.steps[:-1], search.steps[:-1], strict=True)):
        needed = 10 if index < 3 or looked.rollouts else 0
        assert len(step.rollouts) == max(needed, len(looked.rollouts))
        assert len(record.evidence(index)) == needed
    right = replace(SAMPLE, verdict=Verdict(Outcome.CORRECT, 1.0, "12"))
    [solved] = value(stage, Model().engine(), right)
    assert [len(s.rollouts) for s in solved.steps] == [10] * 7 + [0]
    assert stage.estimate(right).completions_min == stage.estimate(right).completions_max == 70
    with pytest.raises(RecipeError, match="max_rollouts"):
        msgspec.convert({"scheme": scheme, "value_k": 10, "max_rollouts": 30}, StepValues)


@pytest.mark.parametrize("scheme", ["fixed", "binary"])
def test_rollouts_that_screen_a_question_are_held_apart_from_those_that_value_it(scheme: str) -> None:
    model = Model(lambda steps, i: 12 if i == 1 else 13)
    stage = msgspec.convert(
        {"scheme": scheme, "k": 4, "start": 6, "skip_certain": True, "value_k": 5}, StepValues
    )
    [record] = value(stage, model.engine())
    assert record.screened == (6 if scheme == "fixed" else 4)
    assert len(record.evidence(-1)) == 5 and tally(record.evidence(-1)).correct == 0
    assert len(record.start) == record.screened + 5


@pytest.mark.parametrize("where", ["text", "columns"])
def test_choice_gets_the_options_of_the_problem(where: str) -> None:
    """The rollout names the option's content, the reference its letter; the row joins them."""
    listed = "What is 7 + 5?\n(A) 13\n(B) 12\n(C) 35"
    columns = json.dumps({"choices": ["13", "12", "35"]})
    sample = {
        "text": replace(SAMPLE, problem=listed, answer="B"),
        "columns": replace(SAMPLE, answer="B", meta=columns),
    }[where]

    async def choose(text: str, reference: str) -> Verdict:
        return Choice()(text, reference)

    async def run() -> ValuedSolution:
        context = Context(Model(lambda steps, i: 12).engine(), choose, 7, refer={"": Choice.for_problem})
        [record] = await StepValues(k=2)(sample, context.about(sample))
        return record

    assert counts(asyncio.run(run()))[:-1] == [(2, 2)] * 7
