from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gristmill.core.engine import Ability, Completion, Message, Request, Sampling, TokenLogprob, TokenScore
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.knowledge import Knowledge
from gristmill.core.records import Problem, Sampled
from gristmill.core.stages import Context, derive_seed
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.log.store import CompletionLog
from gristmill.engines.options import EngineOptions
from gristmill.engines.scripted import ABILITIES, ScriptedEngine
from gristmill.engines.session import Session
from gristmill.synth.refusal.forms import Form
from gristmill.synth.refusal.probe import KnowledgeSamples, ProbeKnowledge, Shot, ended, likeliest_letter
from gristmill.synth.sampling import Sample
from gristmill.verifiers.rules.choice import Choice
from gristmill.verifiers.rules.short_answer import ShortAnswer

CAPITAL = Problem("p1", "What is the capital of France?", "Paris")
COLOURS = Problem("c1", "Which is a colour?", "B", meta='{"options": ["seven", "red", "dog"]}')
FEVER = ("supported", "not_supported", "partially_supported")
CLAIM = Problem(
    "w1", "The tower is tall.", "supported", meta='{"evidence": ["It has 300 m.", "It is in Paris."]}'
)
HOTPOT = Problem(
    "h1",
    "Who leads?",
    "Ann",
    meta='{"context": {"title": ["X", "Y"], "sentences": [["A b."], ["C.", "D."]]}}',
)
Answer = Callable[[Request, int], Completion | str]


def probe(
    stage: ProbeKnowledge,
    answer: Answer,
    problem: Problem = CAPITAL,
    verifier: Callable[[str, str], Verdict] | None = None,
    abilities: frozenset[Ability] = ABILITIES,
) -> tuple[Knowledge, list[Request], Counter[str]]:
    """The record, the distinct requests, and the verdicts that were counted for the summary."""
    asked: list[Request] = []
    verdicts: Counter[str] = Counter()
    judge = verifier or ShortAnswer()

    def record(request: Request, index: int) -> Completion | str:
        if request not in asked:
            asked.append(request)
        return answer(request, index)

    async def verify(completion: str, reference: str) -> Verdict:
        found = judge(completion, reference)
        count(found)
        return found

    def count(verdict: Verdict) -> None:
        verdicts[verdict.outcome] += 1

    engine = ScriptedEngine(record, abilities=abilities)
    [made] = asyncio.run(stage(problem, Context(engine, verify, 7, count=count)))
    return made, asked, verdicts


def outcomes(record: Knowledge) -> list[str]:
    return [judged.verdict.outcome.value for judged in record.samples]


def test_ten_samples_by_default_each_kept_with_its_verdict() -> None:
    made, [request], verdicts = probe(ProbeKnowledge(), lambda request, i: "Paris" if i % 3 else f"Rome {i}")
    assert [j.completion.text for j in made.samples][:3] == ["Rome 0", "Paris", "Paris"]
    assert outcomes(made) == ["incorrect" if i % 3 == 0 else "correct" for i in range(10)]
    assert made.greedy is None
    assert request == Request(
        (Message("user", CAPITAL.problem),), Sampling(temperature=0.7, max_tokens=32), derive_seed(7, "p1")
    )
    assert verdicts == {"correct": 6, "incorrect": 4}, "equal texts are judged once and counted each"


def test_the_papers_presets() -> None:
    made, [request], _ = probe(ProbeKnowledge(preset="r-tuning"), lambda request, i: "Paris")
    assert made.samples == ()
    assert made.greedy is not None
    assert made.greedy.verdict.correct
    assert request.sampling == Sampling(temperature=0, max_tokens=15)
    assert request.seed is None
    made, [request], _ = probe(ProbeKnowledge(preset="r-tuning-u"), lambda request, i: f"Paris {i}")
    assert (len(made.samples), made.greedy) == (5, None)
    assert request.sampling == Sampling(temperature=0.7, max_tokens=15)


def test_all_samples_survive_not_only_the_last() -> None:
    """A fault of the released ParaRel script: the list was made anew for each sample."""
    made, _, _ = probe(ProbeKnowledge(preset="r-tuning-u"), lambda request, i: f"answer {i}")
    assert [j.completion.text for j in made.samples] == [f"answer {i}" for i in range(5)]


def test_samples_and_a_greedy_answer_together() -> None:
    stage = ProbeKnowledge(
        samples=2, greedy=True, sampling=Sampling(temperature=1.2, max_tokens=9, stop=("\n",))
    )
    made, asked, _ = probe(stage, lambda r, i: "Paris" if r.sampling.temperature == 0 else "Rome")
    assert made.greedy is not None
    assert made.greedy.completion.text == "Paris"
    assert outcomes(made) == ["incorrect", "incorrect"]
    assert Sampling(temperature=0, max_tokens=9, stop=("\n",)) in [r.sampling for r in asked]


def test_nothing_to_draw_and_nothing_to_judge_by_are_refused() -> None:
    with pytest.raises(RecipeError, match="neither samples nor a greedy answer"):
        ProbeKnowledge(samples=0)
    with pytest.raises(RowRejected) as error:
        probe(ProbeKnowledge(), lambda r, i: "x", Problem("p", "Why?"))
    assert error.value.reason == "no reference answer"


@pytest.mark.parametrize(
    ("text", "cut", "wanted"),
    [
        ("Paris", "sentence", None),  # the released find('.') gave "Pari" here
        ("Paris.", "sentence", None),
        ("Paris. It is", "sentence", "Paris."),
        ("J. K. Rowling wrote it", "sentence", None),
        ("3.5 metres. Or so", "sentence", "3.5 metres."),
        (". Paris", "sentence", "."),
        (" Paris\nQuestion: What", "sentence", "Paris"),
        ("\n\nParis \nQuestion", "line", "Paris"),
        ("Paris. It is\nmore", "line", "Paris. It is"),
        ("Paris", "line", None),
        ("", "sentence", None),
        ("a\nb", "none", None),
    ],
)
def test_where_an_answer_ends(text: str, cut: Any, wanted: str | None) -> None:
    assert ended(text, cut) == wanted


def test_an_answer_that_ended_before_the_limit_is_an_answer() -> None:
    texts = ["Paris\nQuestion: What is", "Paris, which is the", "Rome\nQ"]
    made, _, _ = probe(ProbeKnowledge(samples=3), lambda r, i: Completion(texts[i], "length"))
    assert outcomes(made) == ["correct", "unparseable", "incorrect"]
    assert made.samples[1].verdict.rule == "unfinished"
    assert [j.completion.finish_reason for j in made.samples] == ["stop", "length", "stop"]
    judged, _, _ = probe(ProbeKnowledge(preset="r-tuning"), lambda r, i: Completion("Paris", "length"))
    assert judged.greedy is not None
    assert judged.greedy.verdict.correct, "the paper judges its 15 tokens as they are"


def test_plain_text_joins_shots_and_question_as_the_training_data_does() -> None:
    form = Form(kind="plain", question="Question: {problem}\nAnswer:")
    stage = ProbeKnowledge(form=form, samples=1, shots=(Shot(problem="1 + 1?", answer="2"),))
    made, _, _ = probe(stage, lambda r, i: "Paris")
    [message] = made.messages
    assert message == Message(
        "user", "Question: 1 + 1?\nAnswer: 2.\n\nQuestion: What is the capital of France?\nAnswer:"
    )
    # The joins of the training text, whatever the data set: asked + joint + answered.
    assert "".join(
        t.content
        for t in form.turns(("user", form.asked(CAPITAL), False), ("assistant", form.answered(CAPITAL), True))
    ) == ("Question: What is the capital of France?\nAnswer: Paris.")


def test_shots_of_a_conversation_are_turns_behind_the_system_message() -> None:
    form = Form(kind="system", system="Say so if you do not know.")
    made, _, _ = probe(
        ProbeKnowledge(form=form, samples=1, shots=(Shot(problem="1 + 1?", answer="2"),)), lambda r, i: ""
    )
    assert [(m.role, m.content) for m in made.messages] == [
        ("system", "Say so if you do not know."),
        ("user", "1 + 1?"),
        ("assistant", "2."),
        ("user", CAPITAL.problem),
    ]


def letters(*scores: tuple[str, float]) -> Completion:
    top = tuple(TokenScore(*s) for s in scores)
    return Completion("The", "length", logprobs=(TokenLogprob(top[0].token, top[0].logprob, top),))


def test_the_likeliest_letter_is_the_greedy_answer_where_there_are_log_probabilities() -> None:
    stage = ProbeKnowledge(preset="r-tuning", form=Form(task="multiple_choice"))
    answer = letters(("The", -0.1), (" A", -2.0), ("B", -3.0), (" B", -1.5), ("D", -0.5))
    made, [request], _ = probe(stage, lambda r, i: answer, COLOURS, Choice(), ABILITIES | {Ability.LOGPROBS})
    assert made.greedy is not None
    assert made.greedy.completion.text == "B", "of several tokens for a letter the likeliest counts"
    assert made.greedy.verdict.extracted == "B. red"
    assert made.greedy.verdict.correct
    assert request.sampling == Sampling(temperature=0, max_tokens=1, logprobs=20)


def test_option_letters_by_tie_beyond_the_options_and_missing() -> None:
    assert likeliest_letter(letters(("C", -1.0), ("A", -1.0)), 3) == "A"
    assert likeliest_letter(letters(("D", -0.1), ("▁(C", -4.0)), 3) == "C"
    assert likeliest_letter(letters(("AB", -0.1), ("a", -0.2)), 3) is None
    assert likeliest_letter(Completion("A"), 3) is None


@pytest.mark.parametrize("abilities", [ABILITIES, ABILITIES | {Ability.LOGPROBS}])
def test_without_a_letter_the_text_is_read(abilities: frozenset[Ability]) -> None:
    stage = ProbeKnowledge(preset="r-tuning", form=Form(task="multiple_choice"))

    def answer(request: Request, index: int) -> Completion | str:
        return letters(("The", -0.1)) if request.sampling.max_tokens == 1 else "red"

    made, asked, _ = probe(stage, answer, COLOURS, Choice(), abilities)
    assert made.greedy is not None
    assert made.greedy.verdict.correct
    estimate = stage.estimate(COLOURS)
    assert estimate.completions_min <= len(asked) <= estimate.completions_max


def test_samples_of_multiple_choice_are_judged_by_letter_or_content() -> None:
    texts = ["B", "dog", "(B) red", "E"]
    stage = ProbeKnowledge(samples=4, form=Form(task="multiple_choice"))
    made, _, _ = probe(stage, lambda r, i: texts[i], COLOURS, Choice())
    assert outcomes(made) == ["correct", "incorrect", "correct", "unparseable"]
    listed = Problem("c2", "Which is a colour?\nA. seven\nB. red", "red")
    made, _, _ = probe(stage, lambda r, i: texts[i], listed, Choice())
    assert outcomes(made)[:1] == ["correct"]
    assert made.messages[0].content.startswith("Which is a colour?\nA. seven\nB. red\n")


def test_labels_are_compared_whole() -> None:
    """In the released WiCE script "supported" was found in all three labels, so that all were right."""
    texts = ["supported", "not_supported", "Partially supported.", "not supported"]
    stage = ProbeKnowledge(samples=4, form=Form(task="claim", labels=FEVER))
    made, _, _ = probe(stage, lambda r, i: texts[i], CLAIM, ShortAnswer(labels=FEVER))
    assert outcomes(made) == ["correct", "incorrect", "incorrect", "incorrect"]
    assert "It has 300 m." in made.messages[0].content
    assert "partially_supported" in made.messages[0].content


@pytest.mark.parametrize("preset", ["default", "r-tuning", "r-tuning-u"])
@pytest.mark.parametrize(
    ("problem", "form"),
    [
        (CAPITAL, Form()),
        (COLOURS, Form(task="multiple_choice")),
        (CLAIM, Form(task="claim", labels=FEVER)),
        (HOTPOT, Form(task="multi_hop")),
        (Problem("m1", "1 + 1?", "2"), Form(task="math")),
    ],
    ids=["question", "multiple_choice", "claim", "multi_hop", "math"],
)
def test_every_kind_of_task_goes_with_every_preset(preset: Any, problem: Problem, form: Form) -> None:
    """In the released scripts WiCE and FEVER had no "uncertain" (a NameError), HotpotQA no "unknown"."""
    for kind in ("conversation", "plain", "system"):
        shown = msgspec.structs.replace(form, kind=kind)
        made, _, _ = probe(
            ProbeKnowledge(preset=preset, form=shown), lambda r, i: problem.answer or "", problem
        )
        assert bool(made.samples) != bool(made.greedy)


def test_mathematics_has_room_for_its_reasoning_and_is_not_cut() -> None:
    stage = ProbeKnowledge(samples=1, form=Form(task="math"))
    made, [request], _ = probe(stage, lambda r, i: "1 + 1\nis \\boxed{2}", Problem("m1", "1 + 1?", "2"))
    assert request.sampling.max_tokens == 1024
    assert made.samples[0].completion.text == "1 + 1\nis \\boxed{2}"
    assert outcomes(made) == ["correct"]


def test_a_problem_that_lacks_what_the_form_needs_is_rejected_and_costs_nothing() -> None:
    stage = ProbeKnowledge(form=Form(task="multi_hop"))
    with pytest.raises(RowRejected, match="passages"):
        probe(stage, lambda r, i: "x")
    assert stage.estimate(CAPITAL).completions_max == 0
    assert stage.estimate(HOTPOT).completions_max == 10


def test_the_same_seed_asks_the_same_and_another_does_not() -> None:
    def seeds(seed: int) -> list[int | None]:
        asked: list[int | None] = []

        def answer(request: Request, index: int) -> str:
            asked.append(request.seed)
            return "Paris"

        asyncio.run(ProbeKnowledge()(CAPITAL, Context(ScriptedEngine(answer), _right, seed)))
        return asked

    assert seeds(1) == seeds(1) != seeds(2)


async def _right(completion: str, reference: str) -> Verdict:
    return Verdict(Outcome.CORRECT, 1.0, completion)


def test_one_set_of_samples_in_the_log_serves_every_recipe(tmp_path: Path) -> None:
    engine = ScriptedEngine(lambda request, i: f"answer {i % 4}")

    def paid(*stages: Any) -> tuple[int, list[Any]]:
        async def run() -> tuple[int, list[Any]]:
            with CompletionLog(tmp_path / "log.sqlite") as log:
                async with Session(engine, EngineOptions(), log) as session:
                    context = Context(session, _right, 7)
                    records: list[Any] = [CAPITAL]
                    for stage in stages:
                        records = [made for r in records for made in await stage(r, context)]
                    return session.stats.completions, records

        return asyncio.run(run())

    count, [record] = paid(ProbeKnowledge())
    assert count == 10
    again, samples = paid(ProbeKnowledge(cut="sentence"), KnowledgeSamples())
    assert again == 0
    assert [s.completion for s in samples] == [j.completion.text for j in record.samples]
    # So does the stage ``sample`` where it asks the same, and a larger probe pays for what is new.
    by_sample = Sample(samples=10, sampling=Sampling(temperature=0.7, max_tokens=32))
    assert paid(by_sample)[0] == 0
    assert paid(ProbeKnowledge(samples=12))[0] == 2


def test_samples_carry_what_the_probe_found() -> None:
    stage = ProbeKnowledge(samples=2, greedy=True)
    made, _, _ = probe(stage, lambda r, i: "Paris" if r.seed is None else f"Rome {i}")
    samples = asyncio.run(
        KnowledgeSamples(greedy=True)(made, Context(ScriptedEngine(lambda r, i: ""), _right, 0))
    )
    assert all(isinstance(s, Sampled) for s in samples)
    assert [(s.id, s.index, s.completion, s.verdict.outcome) for s in samples] == [  # type: ignore[union-attr]
        ("p1/0", 0, "Rome 0", "incorrect"),
        ("p1/1", 1, "Rome 1", "incorrect"),
        ("p1/greedy", 2, "Paris", "correct"),
    ]
    assert {(s.problem_id, s.answer) for s in samples} == {("p1", "Paris")}  # type: ignore[union-attr]


def test_options_are_checked_as_a_recipe_gives_them() -> None:
    stage = msgspec.convert(
        {"preset": "r-tuning", "shots": [{"problem": "1?", "answer": "1"}]}, ProbeKnowledge
    )
    assert stage.plan.max_tokens == 15
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"sample": 3}, ProbeKnowledge)
    assert json.loads(msgspec.json.encode(stage))["shots"][0]["answer"] == "1"
