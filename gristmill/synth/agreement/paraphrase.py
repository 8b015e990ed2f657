"""``paraphrase``: problems in other words, by a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Completion, Message, Request, Sampling
from gristmill.core.prompts import fields, fill, require, row_places
from gristmill.core.records import Problem
from gristmill.core.stages import Context, Estimate, Rejection, RowStage, alike
from gristmill.synth.agreement.crossed import ORIGIN
from gristmill.synth.drawing import CHAT
from gristmill.verifiers.judges.backward import numbers
from gristmill.verifiers.judges.base import bounds, draw, quoted
from gristmill.verifiers.rules.votes import group_texts

_PROMPT = """Rewrite the following problem in other words. It must ask for the same thing with the same
numbers and have the same answer. Do not solve it. Reply with the rewritten problem alone.

{problem}"""


class Paraphrase(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rewords each problem (for Co-Reward, arXiv 2508.00410, and for tests of consistency).

    Each rewording is a problem with the id ``PROBLEM/paraphrase/N``, the reference of the original, and the
    original's id in ``meta.paraphrase_of``. Rejected are those that were cut off, say the same words as the
    problem or an earlier one, or do not have the same numbers: a cheap check that finds a changed problem,
    not a proof that it is the same.
    """

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Problem
    needs: ClassVar[frozenset[Ability]] = CHAT

    count: Annotated[int, Meta(ge=1, le=1000)] = 1
    """The rewordings of each problem that are asked for."""
    prompt: str = _PROMPT
    """The prompt, in which ``{problem}`` is the problem, quoted."""
    sampling: Sampling = Sampling(temperature=0.7, max_tokens=1024)
    """How they are sampled."""
    same_numbers: bool = True
    """Whether a rewording must have the numbers of the problem, each as often."""

    def __post_init__(self) -> None:
        require("paraphrase.prompt", self.prompt, "problem", known=())

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompt wants of a row, by option."""
        return row_places(("problem",), prompt=self.prompt)

    async def __call__(self, problem: Problem, context: Context) -> Sequence[Problem | Rejection]:
        """The rewordings, with a rejection for each that is none."""
        seed = context.seed_for(problem.id)
        text = fill(self.prompt, problem=quoted(seed, problem=problem.problem)["problem"])
        request = Request((Message("user", text),), self.sampling, seed)
        meta = msgspec.json.encode({**fields(problem.meta), ORIGIN: problem.id}).decode()
        made: list[Problem | Rejection] = []
        earlier = [problem.problem]
        for i, answer in enumerate(await draw(context.engine, request, self.count)):
            own = f"{problem.id}/paraphrase/{i}"
            reason = self._odd(answer, earlier)
            if reason is not None:
                made.append(Rejection(own, reason, answer.text[:200]))
                continue
            earlier.append(answer.text.strip())
            made.append(replace(problem, id=own, problem=answer.text.strip(), meta=meta))
        return made

    def cautions(self) -> Sequence[str]:
        """Rewordings that would all be alike."""
        return alike(self.count, self.sampling, "sampling")

    def estimate(self, problem: Problem) -> Estimate:
        """The rewordings."""
        cost = bounds(1, self.count, "text", self.sampling.max_tokens, problem.problem)
        return replace(cost, rows_max=self.count)

    def _odd(self, answer: Completion, earlier: Sequence[str]) -> str | None:
        text = answer.text.strip()
        if not answer.finished or not text:
            return "paraphrase: cut off or empty"
        if len(group_texts([*earlier, text])) <= len(group_texts(earlier)):
            return "paraphrase: the same words"
        if self.same_numbers and _numbers(text) != _numbers(earlier[0]):
            return "paraphrase: other numbers"
        return None


def _numbers(text: str) -> Counter[str]:
    return Counter(number.value for number in numbers(text))
