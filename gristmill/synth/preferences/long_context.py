"""``long_context``: the answer from a whole long context preferred to that from a part of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Message
from gristmill.core.errors import RowRejected
from gristmill.core.prompts import RowValues, require, within
from gristmill.core.records import Pair, Problem
from gristmill.core.stages import Context, Estimate, Rejection
from gristmill.synth.preferences.better import Preferring, first_drawn, side, told
from gristmill.synth.sampling import Sample
from gristmill.verifiers.text.words import sentences

_CALL = 28


class LongContext(Preferring, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes pairs that only the whole context decides: the answer drawn with all of it against the answer
    drawn with one part of it, kept where the first is found better.

    LongRM (arXiv 2510.06915) names the gap: reward models judge a response by itself and lose sight of
    whether a long context bears it out. This is a way to data for that, of this project's own; it is not the
    paper's synthesis. Both sides stand after the whole context, so what is learned is to be consistent with
    it. A question that the part answers as well gives a tie and no pair.

    The context is a list of passages or texts, or one text, whose paragraphs (or sentences, where it has
    one paragraph) are the pieces. They are cut into ``parts`` stretches of about equal length, of which a
    seed chooses one. ``meta`` says which ``part`` of how many ``parts``, and keeps the context.
    """

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Pair

    context: str = "context"
    """The column with the context, which the prompt of ``sample`` has as a place."""
    parts: Annotated[int, Meta(ge=2, le=1000)] = 4
    """The stretches that the context is cut into. A context of fewer pieces is cut into as many as it has."""
    sample: Sample = Sample(prompt="{context}\n\n{problem}")
    """The options of the stage ``sample``, which draws both answers; the first finished one counts."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("sample.prompt", self.sample.prompt, self.context)

    @property
    def asks(self) -> frozenset[Ability]:
        """What the sampling needs."""
        return self.sample.needs

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row, by option."""
        return {**super().places, **within("sample", self.sample.places)}

    @property
    def uses(self) -> dict[str, frozenset[Ability]]:
        """The engines that are sampled, and that judge."""
        further = dict(super().uses)
        return further | {
            name: further.get(name, frozenset()) | needed for name, needed in self.sample.uses.items()
        }

    async def __call__(self, problem: Problem, context: Context) -> Sequence[Pair | Rejection]:
        """One pair, or a rejection."""
        pieces = stretches(RowValues(problem).get(self.context), self.parts)
        part = context.seed_for(problem.id, _CALL) % len(pieces)
        short = replace(
            problem, id=f"{problem.id}/part", meta=told(problem.meta, **{self.context: pieces[part]})
        )
        whole = await first_drawn(self.sample, problem, context, "long context")
        lacking = await first_drawn(self.sample, short, context, "long context: a part")
        if whole.completion.strip() == lacking.completion.strip():
            return [Rejection(problem.id, "long context: both answers are the same", whole.completion[:200])]
        pair = Pair(
            f"{problem.id}/long",
            problem.id,
            "long context",
            whole.messages,
            (Message("assistant", whole.completion, whole.reasoning),),
            (Message("assistant", lacking.completion, lacking.reasoning),),
            meta=told(problem.meta, part=part, parts=len(pieces)),
        )
        # A judge is shown what the model was: the context is a part of the question.
        asked = replace(problem, problem=whole.messages[-1].content)
        row = RowValues(problem)
        sides = (
            side(asked, whole.messages, whole.completion, row, "whole"),
            side(asked, whole.messages, lacking.completion, row, "part"),
        )
        return [await self.pair(pair, sides, problem, context)]

    def estimate(self, problem: Problem) -> Estimate | None:
        """Both answers and the comparison."""
        drawn = self.sample.estimate(problem)
        if not drawn.rows_max:
            return drawn
        answered = side(problem, (), " " * 4 * drawn.prompt_tokens, RowValues(problem), "whole")
        cost = self.cost(answered, 2 * drawn.completions_max, 1, drawn.completion_tokens, 1)
        return cost and replace(cost, prompt_tokens=max(cost.prompt_tokens, drawn.prompt_tokens))


def stretches(context: Any, parts: int) -> list[Any]:
    """A context in ``parts`` stretches of about equal length, each of the context's own form.

    ``RowRejected`` where it has fewer than two pieces, or is neither a list nor a text.
    """
    if isinstance(context, str):
        pieces: Sequence[Any] = [p.strip() for p in context.split("\n\n") if p.strip()]
        between = "\n\n"
        if len(pieces) < 2:
            pieces, between = sentences(context), " "
    elif isinstance(context, list | tuple):
        pieces, between = [p for p in context if p], ""
    else:
        raise RowRejected("long context: the context is neither a list nor a text", repr(context)[:80])
    if len(pieces) < 2:
        raise RowRejected("long context: too short to be cut", f"{len(pieces)} pieces")
    sizes = [len(p) if isinstance(p, str) else len(msgspec.json.encode(p)) for p in pieces]
    total, seen, count = sum(sizes), 0, min(parts, len(pieces))
    cut: list[list[Any]] = [[] for _ in range(count)]
    for piece, size in zip(pieces, sizes, strict=True):
        cut[min(count - 1, (seen + size // 2) * count // total)].append(piece)
        seen += size
    filled = [one for one in cut if one]
    if len(filled) < 2:  # one piece is nearly all of the context
        largest = sizes.index(max(sizes))
        filled = [[*pieces[:largest], *pieces[largest + 1 :]], [pieces[largest]]]
    return [between.join(one) for one in filled] if isinstance(context, str) else filled
