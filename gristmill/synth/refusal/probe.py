"""What a model knows of a question: its own answers, sampled and greedy, each with its verdict.

One set of answers serves the split into sure and unsure, difficulty and preference pairs: it is in the
completion log, and ``knowledge_samples`` hands it to every stage that reads samples.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Completion, Message, Request, Sampling, TokenScore
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.knowledge import Knowledge
from gristmill.core.prompts import within
from gristmill.core.records import Judged, Problem, Sampled
from gristmill.core.stages import Context, Estimate, Rejection, RowStage, alike
from gristmill.core.verdicts import Verdict, unfinished
from gristmill.synth.refusal.forms import Form
from gristmill.verifiers.rules.choice import key, read_key
from gristmill.verifiers.rules.listed import LETTERS, read_options
from gristmill.verifiers.text.words import sentences

Preset = Literal["default", "r-tuning", "r-tuning-u"]
Cut = Literal["none", "line", "sentence"]
CutOff = Literal["unparseable", "judge"]

_CHARS_PER_TOKEN = 4
"""For estimates only: English text under a byte-pair tokenizer."""
_REASONING_TOKENS = 1024
_ALTERNATIVES = 20
"""The most that servers give."""
_SPACES = " \t\n▁Ġ(["
"""What may be before a letter in one token; some servers show a blank as the vocabulary's own mark."""


class ProbePlan(NamedTuple):
    """What a preset draws; see ``ProbeKnowledge``."""

    samples: int
    greedy: bool
    max_tokens: int
    cut: Cut
    cut_off: CutOff


PRESETS: dict[Preset, ProbePlan] = {
    "default": ProbePlan(10, False, 32, "line", "unparseable"),
    "r-tuning": ProbePlan(0, True, 15, "sentence", "judge"),
    "r-tuning-u": ProbePlan(5, False, 15, "sentence", "judge"),
}


class Shot(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A worked example before the question."""

    problem: Annotated[str, Meta(min_length=1)]
    """Its question."""
    answer: Annotated[str, Meta(min_length=1)]
    """Its answer."""
    meta: dict[str, Any] = {}
    """Its further columns, by name, where the form has places for them."""


class ProbeKnowledge(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Asks each question several times at temperature 0.7, once at temperature 0, or both.

    The record holds the answers as they were cut. For multiple choice the verifier gets the reference with
    the options that were shown, as ``choice`` reads it. A problem without an answer is rejected.

    Seeds: the samples are call 0 of the problem, so that the stage ``sample`` shares them where it asks the
    same; the greedy answer has none.
    """

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Knowledge
    verifies: ClassVar[bool] = True
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.CHAT})

    preset: Preset = "default"
    """What gives the options that are ``null``: ``default`` draws 10 samples, from which knowledge is
    estimated with an interval; ``r-tuning`` is the paper's rule, one greedy answer of at most 15 tokens;
    ``r-tuning-u`` its unsupervised one, 5 samples at 0.7 (arXiv 2311.09677, section 3). For mathematics
    answers are whole and of up to 1,024 tokens whatever the preset."""
    samples: Annotated[int, Meta(ge=0, le=10_000)] | None = None
    """The number of samples."""
    greedy: bool | None = None
    """Whether an answer at temperature 0 is drawn."""
    sampling: Sampling | None = None
    """How the samples are drawn; the greedy answer has its ``max_tokens``, ``stop`` and ``logprobs``."""
    cut: Cut | None = None
    """Where an answer ends: at its first ``line`` or ``sentence``, and is then finished whatever came of the
    rest, or not before its own end (``none``)."""
    cut_off: CutOff | None = None
    """What an answer is that the token limit ended before that: ``unparseable``, or judged by its text as in
    the paper's presets."""
    form: Form = Form()
    """How the question is put into turns or plain text."""
    shots: tuple[Shot, ...] = ()
    """Worked examples before the question, as turns or, in plain text, as paragraphs."""
    option_logits: bool = True
    """Whether the greedy answer to a multiple choice is the likeliest letter by the first token's
    log-probabilities, where the engine gives them (ties: the first letter; a letter beyond the 20 likeliest
    tokens is less likely than any in them). Otherwise, and if no letter is among them, it is the text."""

    def __post_init__(self) -> None:
        if not self.plan.samples and not self.plan.greedy:
            raise RecipeError(
                "probe_knowledge: neither samples nor a greedy answer are drawn.",
                remedy="Set samples to 1 or more, or greedy to true.",
            )

    @property
    def plan(self) -> ProbePlan:
        """The preset with what is set here in its place."""
        plan = PRESETS[self.preset]
        if self.form.task == "math":
            plan = plan._replace(max_tokens=_REASONING_TOKENS, cut="none")
        given = {name: getattr(self, name) for name in ("samples", "greedy", "cut", "cut_off")}
        return plan._replace(**{name: value for name, value in given.items() if value is not None})

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row, by option."""
        return within("form", self.form.places)

    async def __call__(self, problem: Problem, context: Context) -> Sequence[Knowledge]:
        """One record. ``RowRejected`` for a problem without an answer or without what the form needs."""
        reference = self._reference(problem)
        messages = self.messages(problem)
        sampled, greedy = await asyncio.gather(
            self._sampled(problem, messages, context), self._greedy(problem, messages, context)
        )
        drawn = sampled if greedy is None else [*sampled, greedy]
        judged = await self._judge([self._ended(c) for c in drawn], reference, context)
        return [
            Knowledge(
                id=problem.id,
                problem=problem.problem,
                answer=problem.answer or "",
                meta=problem.meta,
                messages=messages,
                greedy=None if greedy is None else judged[-1],
                samples=tuple(judged[: len(sampled)]),
            )
        ]

    def estimate(self, problem: Problem) -> Estimate:
        """Completions (one more where option letters may fail); tokens at four characters each."""
        try:
            chars = sum(len(m.content) for m in self.messages(problem))
        except RowRejected:
            return Estimate(0, 0, 0, 0, rows_max=0)
        least = self.plan.samples + self.plan.greedy
        most = least + (self.plan.greedy and self._by_letters)
        return Estimate(least, most, chars // _CHARS_PER_TOKEN, self._sampling.max_tokens, rows_max=1)

    def messages(self, problem: Problem) -> tuple[Message, ...]:
        """What is sent. ``RowRejected`` where the problem lacks what the form needs."""
        shots = [Problem("", s.problem, s.answer, meta=_json(s.meta)) for s in self.shots]
        form = self.form
        *system, asked = form.prompt(problem)
        if form.kind == "plain":
            # The very join of the training text, so that what was trained is what is asked.
            worked = [form.asked(s) + form.joint + form.answered(s) for s in shots]
            return (*system, replace(asked, content="\n\n".join([*worked, asked.content])))
        turns = [(Message("user", form.asked(s)), Message("assistant", form.answered(s))) for s in shots]
        return (*system, *(turn for pair in turns for turn in pair), asked)

    @property
    def _by_letters(self) -> bool:
        return self.option_logits and self.form.task == "multiple_choice"

    def cautions(self) -> Sequence[str]:
        """Samples that would all be alike."""
        return alike(self.plan.samples, self._sampling, "sampling")

    @property
    def _sampling(self) -> Sampling:
        return self.sampling or Sampling(temperature=0.7, max_tokens=self.plan.max_tokens)

    def _reference(self, problem: Problem) -> str:
        """What the verifier gets. For multiple choice, the options are those that the model sees."""
        if problem.answer is None or not problem.answer.strip():
            raise RowRejected("no reference answer", f"problem {problem.id!r} has no answer to judge by")
        if self.form.task != "multiple_choice":
            return problem.answer
        try:
            said = read_key(problem.answer).answer
        except ValueError as error:
            raise RowRejected("the reference is unreadable", str(error)[:200]) from error
        return key(read_options(self.form.asked(problem)), said)

    async def _sampled(
        self, problem: Problem, messages: tuple[Message, ...], context: Context
    ) -> list[Completion]:
        if not self.plan.samples:
            return []
        request = Request(messages, self._sampling, context.seed_for(problem.id))
        return await context.engine.generate(request, n=self.plan.samples)

    async def _greedy(
        self, problem: Problem, messages: tuple[Message, ...], context: Context
    ) -> Completion | None:
        if not self.plan.greedy:
            return None
        if self._by_letters and Ability.LOGPROBS in context.engine.abilities:
            one = Sampling(temperature=0, max_tokens=1, logprobs=_ALTERNATIVES)
            [first] = await context.engine.generate(Request(messages, one))
            letter = likeliest_letter(first, len(read_options(self.form.asked(problem))))
            if letter is not None:
                # One token is the whole answer here, so its end is not a cut.
                return replace(first, text=letter, finish_reason="stop")
        s = self._sampling
        sampling = Sampling(temperature=0, max_tokens=s.max_tokens, stop=s.stop, logprobs=s.logprobs)
        [completion] = await context.engine.generate(Request(messages, sampling))
        return completion

    def _ended(self, completion: Completion) -> Completion:
        text = ended(completion.text, self.plan.cut)
        return completion if text is None else replace(completion, text=text, finish_reason="stop")

    async def _judge(
        self, completions: Sequence[Completion], reference: str, context: Context
    ) -> list[Judged]:
        """Verdicts, each distinct text judged once: samples of a known answer are mostly alike."""
        found: list[Verdict | None] = [
            unfinished(c) if self.plan.cut_off == "unparseable" else None for c in completions
        ]
        counts: dict[str, int] = {}
        for completion, verdict in zip(completions, found, strict=True):
            if verdict is None:
                counts[completion.text] = counts.get(completion.text, 0) + 1
        given = await asyncio.gather(*(context.verify(text, reference) for text in counts))
        verdicts = dict(zip(counts, given, strict=True))
        for text, count in counts.items():
            for _ in range(count - 1):
                context.count(verdicts[text])
        for cut_off in found:
            if cut_off is not None:
                context.count(cut_off)
        return [Judged(c, v or verdicts[c.text]) for c, v in zip(completions, found, strict=True)]


class KnowledgeSamples(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The answers of a probe as samples, for every stage that reads those (difficulty, pairs, judges)."""

    reads: ClassVar[type[Struct]] = Knowledge
    writes: ClassVar[type[Struct]] = Sampled
    needs: ClassVar[frozenset[Ability]] = frozenset()

    greedy: bool = False
    """Whether the greedy answer is among them, under the id ``.../greedy`` and with the index after the
    samples'."""

    async def __call__(self, record: Knowledge, context: Context) -> Sequence[Sampled | Rejection]:
        """A sample for each answer, in order."""
        named = [(str(i), judged) for i, judged in enumerate(record.samples)]
        if self.greedy and record.greedy is not None:
            named.append(("greedy", record.greedy))
        return [
            Sampled(
                id=f"{record.id}/{name}",
                problem_id=record.id,
                index=index,
                problem=record.problem,
                answer=record.answer,
                messages=record.messages,
                completion=judged.completion.text,
                finish_reason=judged.completion.finish_reason,
                prompt_tokens=judged.completion.prompt_tokens,
                completion_tokens=judged.completion.completion_tokens,
                reasoning=judged.completion.reasoning,
                reasoning_tokens=judged.completion.reasoning_tokens,
                verdict=judged.verdict,
                meta=record.meta,
            )
            for index, (name, judged) in enumerate(named)
        ]

    def estimate(self, record: Knowledge) -> Estimate:
        """Nothing: the answers are there."""
        return Estimate(0, 0, 0, 0, rows_max=len(record.samples) + 1)


def ended(text: str, cut: Cut) -> str | None:
    """The answer where ``text`` goes on after it; ``None`` where it does not, and nothing is taken away.

    ``line``: a line break after the first line that is not blank ends it; ``sentence``: that, or the end
    of its first sentence if another follows (a full stop inside a name or a number ends none).
    """
    body = text.lstrip()
    if cut == "none" or not body:
        return None
    line, broken, _ = body.partition("\n")
    first = sentences(line)[:1] if cut == "sentence" else []
    if first and len(first[0]) < len(line.rstrip()):
        return first[0]
    return line.rstrip() if broken else None


def likeliest_letter(completion: Completion, options: int) -> str | None:
    """The letter of the first ``options`` with the greatest log-probability as the first token.

    Of several tokens for one letter (``A``, `` A``, ``(A``) the likeliest counts. Ties: the first letter.
    ``None`` if no such token is among those that the engine tells.
    """
    if not completion.logprobs:
        return None
    first = completion.logprobs[0]
    best: dict[str, float] = {}
    for token in (TokenScore(first.token, first.logprob), *first.top):
        letter = token.token.strip(_SPACES).rstrip(").]")
        if len(letter) == 1 and letter in LETTERS[:options]:
            best[letter] = max(token.logprob, best.get(letter, token.logprob))
    return min(best, key=lambda letter: (-best[letter], letter)) if best else None


def _json(meta: dict[str, Any]) -> str:
    return msgspec.json.encode(meta).decode()
