"""``scaffold``: a tutor's guiding turn preferred to the answer told outright."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, ClassVar

from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Message, Request, Sampling
from gristmill.core.errors import RecipeError
from gristmill.core.prompts import RowValues, fill, opening, require_row, row_places, within
from gristmill.core.records import Pair, Problem
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.synth.drawing import CHAT, engines_used, summed
from gristmill.synth.preferences.better import first_drawn, told, written
from gristmill.synth.sampling import Sample
from gristmill.synth.scoring import verifier_of
from gristmill.verifiers.judges.base import draw
from gristmill.verifiers.rules.arithmetic import sound
from gristmill.verifiers.text.words import sentences

_TUTOR = (
    "You are a tutor. A learner brings this task:\n\n{problem}\n\nHelp with the next step only: give one "
    "hint or one smaller question that leads there. Do not solve the task and do not name its answer. End "
    "with a question to the learner."
)
_CALL = 26
_NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?!\w|[.,]\d)"
_UNKNOWN = (Outcome.TIMEOUT, Outcome.ERROR)


class Scaffold(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pedagogical alignment (arXiv 2402.05000): for a learner, a guiding turn is better than the solution.

    One turn is written as a tutor and one answer is drawn directly; the pair has the direct answer's messages
    as its prompt, so that nothing of the tutor's instructions is in it. The paper fills its pairs from
    tutoring dialogues with labelled actions; this is one turn, and it is checked:

    - The guiding turn must not give the answer away: neither the whole of it nor one of its sentences may be
      right by the verifier, nor may it contain the reference (a number by its value). Where the problem
      names the reference as well, the whole turn is judged, and the reference must not follow an equals
      sign. An undecided verdict (timeout, error) rejects it too; a hint with no answer in it is
      ``unparseable``, and that is as it should be.
    - It must ask the learner something (``asks``).
    - It must hold no false equation (``sound_arithmetic``), and with ``tries`` a learner who has read it must
      reach the right answer. Whether it is good teaching is for a judge to say, on the pairs.
    - The direct answer must be right, so that what is learned is guiding and not correctness.
    """

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Pair

    tutor: str = _TUTOR
    """The prompt that asks for the guiding turn, with places for the row's columns."""
    examples: tuple[Message, ...] = ()
    """Worked examples of guiding turns, user and assistant turns, sent as they are before the prompt; small
    models need some."""
    sampling: Sampling = Sampling(temperature=0.7)
    """How it is sampled."""
    sample: Sample = Sample()
    """The options of the stage ``sample``, which draws the direct answer; the first finished one counts."""
    verifier: str | None = None
    """The name of a verifier under the recipe's ``verifiers``; ``null`` is the recipe's ``verifier``."""
    asks: bool = True
    """Whether a guiding turn without a question mark is rejected."""
    sound_arithmetic: bool = True
    """Whether a guiding turn with a false equation is rejected. For plain exact arithmetic: rounding, as in
    1/3 = 0.33, reads as false."""
    tries: Annotated[int, Meta(ge=0, le=1000)] = 0
    """The answers that a learner gives after the guiding turn: one of them must be right, or the turn leads
    nowhere. 0: no learner is asked, and nothing shows that the turn helps."""
    learner: str | None = None
    """The name of the engine that is the learner; ``null`` is the stage's own."""
    attempt: str = "Follow this hint now and solve the task. End with its answer."
    """The turn after the guiding one that asks the learner for the answer."""

    def __post_init__(self) -> None:
        require_row("scaffold", "tutor", self.places["tutor"])
        if self.sample.count > 1 and self.sample.sampling.temperature == 0:
            raise RecipeError(
                f"scaffold: sample.samples is {self.sample.samples} at temperature 0: all would be the same.",
                remedy="Leave sample.samples out.",
            )

    @property
    def needs(self) -> frozenset[Ability]:
        """To chat."""
        return CHAT | self.sample.needs

    @property
    def uses(self) -> dict[str, frozenset[Ability]]:
        """The engines that are sampled, and the learner."""
        return engines_used(self.sample, self.learner if self.tries else None)

    @property
    def verifiers(self) -> tuple[str, ...]:
        """The name of the verifier, where it is not the recipe's main one."""
        return () if self.verifier is None else (self.verifier,)

    @property
    def verifies(self) -> bool:
        """Whether the main verifier judges by the rows' own answers."""
        return self.verifier is None

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row, by option."""
        return {**row_places(tutor=self.tutor, attempt=self.attempt), **within("sample", self.sample.places)}

    async def __call__(self, problem: Problem, context: Context) -> Sequence[Pair | Rejection]:
        """One pair, or a rejection."""
        if problem.answer is None or not problem.answer.strip():
            return [Rejection(problem.id, "scaffold: no reference", "nothing tells what would give it away")]
        asked = opening(RowValues(problem), self.tutor, None, self.examples)
        seed = context.seed_for(problem.id, _CALL)
        guide = await written(context.engine, asked, self.sampling, seed, "scaffold")
        context = context.about(problem)
        if self.asks and not re.search(r"[?？؟]", guide.text):
            return [Rejection(problem.id, "scaffold: it asks the learner nothing", guide.text[:200])]
        if why := await self._given_away(guide.text, problem.problem, problem.answer, context):
            return [Rejection(problem.id, why, guide.text[:200])]
        if self.sound_arithmetic and not sound(guide.text):
            return [Rejection(problem.id, "scaffold: a false equation", guide.text[:200])]
        direct = await first_drawn(self.sample, problem, context, "scaffold: the direct answer")
        verdict = await verifier_of(context, self.verifier)(direct.completion, problem.answer)
        if not verdict.correct:
            detail = f"{verdict.outcome}: {direct.completion[:200]}"
            return [Rejection(problem.id, "scaffold: the direct answer is not right", detail)]
        if self.tries and not await self._helps((*direct.messages, *guide.turn), problem, context):
            return [Rejection(problem.id, "scaffold: it leads no learner to the answer", guide.text[:200])]
        return [
            Pair(
                f"{problem.id}/scaffold",
                problem.id,
                "scaffolding",
                direct.messages,
                guide.turn,
                (Message("assistant", direct.completion, direct.reasoning),),
                meta=told(problem.meta, answer=problem.answer),
            )
        ]

    async def _given_away(self, text: str, problem: str, reference: str, context: Context) -> str:
        """Why a guiding turn cannot be used: it has the answer, or nobody can tell; empty where neither."""
        verify = verifier_of(context, self.verifier)
        parts, told_before = [text], names(problem, reference)
        if names(text, reference, result=told_before):
            return "scaffold: it gives the answer away"
        if not told_before:
            parts += [one for one in sentences(text) if one != text.strip()]
        verdicts: list[Verdict] = [await verify(part, reference) for part in parts]
        if any(verdict.correct for verdict in verdicts):
            return "scaffold: it gives the answer away"
        if any(verdict.outcome in _UNKNOWN for verdict in verdicts):
            return "scaffold: no verdict on whether it gives the answer away"
        return ""

    async def _helps(self, turns: tuple[Message, ...], problem: Problem, context: Context) -> bool:
        """Whether one of the learner's answers after the guiding turn is right."""
        asked = (*turns, Message("user", fill(self.attempt, RowValues(problem))))
        request = Request(asked, self.sample.sampling, context.seed_for(problem.id, _CALL + 1))
        verify = verifier_of(context, self.verifier)
        for answer in await draw(context.named(self.learner), request, self.tries):
            if answer.finished and (await verify(answer.text, problem.answer or "")).correct:
                return True
        return False

    def estimate(self, problem: Problem) -> Estimate:
        """The guiding turn, the direct answer and the learner's."""
        tokens = self.sampling.max_tokens
        prompt = (len(self.tutor) + len(self.attempt) + 2 * len(problem.problem)) // 4 + tokens
        guide = Estimate(1, 1 + self.tries, prompt, tokens, rows_max=1)
        cost = summed(self.sample.estimate(problem), guide, rows_max=1)
        return replace(cost, completions_min=min(1, cost.completions_max))


def names(text: str, answer: str, *, result: bool = False) -> bool:
    """Whether ``text`` contains ``answer`` as a word of its own, a number by its value: 12 not in "120" or
    "12.5", but in "12.00" and "1,200" for 1200. With ``result``, only right behind an equals sign."""
    before = r"=\s*[$£€]?\s*" if result else r"(?<![\w.,])"
    if (wanted := _number(answer.strip().lstrip("$£€"))) is not None:
        return any(_number(m[1]) == wanted for m in re.finditer(rf"{before}({_NUMBER})", text))
    return re.search(rf"{before}{re.escape(answer.strip())}(?!\w)", text, re.IGNORECASE) is not None


def _number(text: str) -> float | None:
    """The value of a number with or without separators of thousands; ``None`` for any other text."""
    return float(text.replace(",", "")) if re.fullmatch(_NUMBER, text) else None
