"""What a search asks engines for: next steps, and what they are worth. Nothing here changes a tree.

Where a turn ends. Servers take the stop string off the text and say ``stop`` for it as for the end of the
turn, so the two cannot be told apart. A completion that says ``stop`` is taken for a step that the boundary
ended, and the boundary is put back, so that the prefixes are what the model would have written. Unless it
holds an answer mark (``\\boxed{``): then it is the end. A solution that ends without a mark is found out with
the next step: it is empty. As a model may also begin with the boundary (two line ends where one ends a step),
an empty step is asked for again without a stop string: if there is still nothing, the turn has ended, and
the empty step is a terminal child; else the step is what comes up to the next boundary.
A step cut off by ``max_tokens`` stays as it is, and the next request continues it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from gristmill.core.engine import (
    Ability,
    BorrowedEngine,
    Completion,
    Engine,
    Message,
    Request,
    Sampling,
    TokenLogprob,
)
from gristmill.core.errors import RowRejected
from gristmill.core.records import Judged
from gristmill.core.stages import Context, derive_seed
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.synth.tree_search.grow import Growing
from gristmill.synth.tree_search.presets import SearchPlan
from gristmill.synth.tree_search.select import first_best, prior
from gristmill.synth.tree_search.values import Evaluator

FAILED = "failed: "
"""How the note of a node begins that is never gone to again."""
LIMIT = "depth limit"
"""The note of a node that is as deep as the search may go, and ends no solution."""
_EXPAND, _VALUE = 0, 1  # the calls of a prefix, for its seeds


class Counted(BorrowedEngine):
    """An engine whose completions are put on a tree's account."""

    def __init__(self, engine: Engine, tree: Growing) -> None:
        super().__init__(engine)
        self._tree = tree

    async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
        """What the engine answers."""
        drawn = await self._engine.generate(request, first=first, n=n)
        self._tree.count(drawn)
        return drawn


def counted(context: Context, tree: Growing) -> Context:
    """``context`` with every engine's completions put on the tree's account."""
    named = {name: Counted(engine, tree) for name, engine in context.engines.items()}
    return replace(context, engine=Counted(context.engine, tree), engines=named)


class Draft(Struct):
    """A node to be. ``value`` is in [0, 1], or for an end 0 or 1; ``rolled`` the best value that a simulation
    from it met; ``below`` its own children, where the iteration went on; ``note`` why it is of no use."""

    text: str
    terminal: bool
    prior: float | None = None
    value: float | None = None
    verdict: Verdict | None = None
    rollouts: tuple[Judged, ...] = ()
    rolled: float | None = None
    note: str = ""
    below: list[Draft] = []

    @property
    def failed(self) -> bool:
        """Whether the search may not go here."""
        return self.note.startswith(FAILED)


class Expander(Struct, frozen=True):
    """Draws and values the steps after a prefix of one problem.

    ``boundary`` ends a step (empty: ``sampling.max_tokens`` tokens are one); ``context`` is ``counted``.
    """

    context: Context
    problem_id: str
    problem: str
    answer: str | None
    messages: tuple[Message, ...]
    plan: SearchPlan
    evaluator: Evaluator
    sampling: Sampling
    boundary: str
    answer_marks: tuple[str, ...]

    async def expand(self, steps: tuple[str, ...]) -> list[Draft]:
        """The children of the prefix ``steps``, valued; where the plan descends, down to an end.

        Raises ``RowRejected`` where the steps cannot be drawn. A child that cannot be valued is ``failed``.
        """
        drafts = await self.draw(steps, self.plan.branch)
        await asyncio.gather(*(self.appraise(steps, draft) for draft in drafts))
        usable = [d for d in drafts if not d.failed]
        if not usable:
            return drafts
        if self.plan.descend:
            await self._descend(steps, usable)
        elif self.plan.backup == "visits" and self.plan.roll_depth:
            best = usable[first_best([d.value or 0.0 for d in usable])]
            if not best.terminal and not best.note:
                best.rolled = await self._roll((*steps, best.text))
        return drafts

    async def draw(self, steps: Sequence[str], n: int) -> list[Draft]:
        """Up to ``n`` different next steps, in the order in which they were first drawn."""
        prefix = "".join(steps)
        sampling = replace(self.sampling, stop=(self.boundary,) if self.boundary else ())
        scored = self.plan.score == "puct" and Ability.LOGPROBS in self.context.engine.abilities
        if scored:
            sampling = replace(sampling, logprobs=sampling.logprobs or 0)
        request = Request(self.messages, sampling, self._seed(prefix, _EXPAND), prefix)
        drawn = await self.context.engine.generate(request, n=n)
        read = await asyncio.gather(*(self._read(request, i, c) for i, c in enumerate(drawn)))
        drafts: dict[str, Draft] = {}
        for draft, completion in read:
            if scored and completion.logprobs is not None:
                draft.prior = prior(_tokens_of(draft.text, completion.logprobs))
            drafts.setdefault(draft.text, draft)
        if self.plan.score == "puct":
            for draft in drafts.values():
                draft.prior = 1 / len(drafts) if draft.prior is None else draft.prior
        return list(drafts.values())

    async def _read(self, request: Request, index: int, completion: Completion) -> tuple[Draft, Completion]:
        """The step that a completion is, and the completion it was read from."""
        if not self.boundary or not completion.finished or completion.text.strip():
            return self.read(completion), completion
        again = replace(request, sampling=replace(request.sampling, stop=()))
        [completion] = await self.context.engine.generate(again, first=index)
        body = completion.text.lstrip()
        begin = len(completion.text) - len(body)
        end = body.find(self.boundary)
        if end < 0:
            # Nothing stopped it, so that a turn which ended did so for good.
            ended = completion.finished
            return (Draft(body and completion.text, True) if ended else self.read(completion)), completion
        step = completion.text[: begin + end]
        return self.read(replace(completion, text=step, finish_reason="stop")), completion

    def read(self, completion: Completion) -> Draft:
        """The step that a completion with the boundary as its stop string is; see the module."""
        text = completion.text
        if completion.finish_reason == "length":
            return Draft(text, False, note="" if text else FAILED + "an empty step, cut off")
        if not completion.finished:
            return Draft(text, False, note=f"{FAILED}finish_reason {completion.finish_reason}")
        if not self.boundary or any(mark in text for mark in self.answer_marks):
            return Draft(text, True)
        return Draft(text if text.endswith(self.boundary) else text + self.boundary, False)

    async def appraise(self, steps: Sequence[str], draft: Draft) -> None:
        """Put value, verdict and rollouts into ``draft``, a child of ``steps``."""
        if draft.failed:
            return
        path = (*steps, draft.text)
        if draft.terminal and self.answer is not None:
            draft.verdict = await self.context.verify("".join(path), self.answer)
            if draft.verdict.outcome in (Outcome.TIMEOUT, Outcome.ERROR):
                draft.note = f"{FAILED}verdict {draft.verdict.outcome}"
            else:
                draft.value = float(draft.verdict.correct)
            return
        if len(path) >= self.plan.depth and not draft.terminal:
            draft.note = LIMIT
        try:
            worth = await self.evaluator.value(
                self.plan.value,
                self.context,
                problem=self.problem,
                answer=self.answer,
                messages=self.messages,
                steps=path,
                seed=self._seed("".join(path), _VALUE),
            )
        except RowRejected as error:
            draft.note = FAILED + str(error)
            return
        draft.value, draft.rollouts = worth.value, worth.rollouts
        if worth.note:
            draft.note = FAILED + worth.note

    async def _descend(self, steps: tuple[str, ...], usable: Sequence[Draft]) -> None:
        """Expand below the child that goes first until a solution ends, or none can."""
        # All are unvisited and of equal value, so the prior decides if there is one, else the first.
        child = usable[first_best([d.prior or 0.0 for d in usable])]
        if child.terminal or child.note:
            return
        try:
            child.below = await self.expand((*steps, child.text))
        except RowRejected as error:
            child.note = FAILED + str(error)

    async def _roll(self, steps: tuple[str, ...]) -> float | None:
        """The best value met on ``roll_depth`` greedy steps from a prefix (ReST-MCTS*'s simulation)."""
        met: list[float] = []
        for _ in range(self.plan.roll_depth):
            if len(steps) >= self.plan.depth:
                break
            try:
                drafts = await self.draw(steps, self.plan.roll_branch)
            except RowRejected:
                break  # what was met before still counts; the node itself has its value
            await asyncio.gather(*(self.appraise(steps, draft) for draft in drafts))
            usable = [d for d in drafts if d.value is not None and not d.failed]
            if not usable:
                break
            best = usable[first_best([d.value or 0.0 for d in usable])]
            met.append(best.value or 0.0)
            if best.terminal:
                break
            steps = (*steps, best.text)
        return max(met, default=None)

    def _seed(self, prefix: str, call: int) -> int:
        """A pure function of run, problem, prefix and call, whenever in the search it is asked for."""
        return derive_seed(self.context.seed, f"{self.problem_id}\x1f{prefix}", call)

    def cost(self, depth: int) -> int:
        """The most completions that expanding a node of ``depth`` takes."""
        each = (2 if self.boundary else 1) + self.evaluator.cost(self.plan.value)
        if self.plan.descend:
            return self.plan.branch * each * max(self.plan.depth - depth, 0)
        rolls = self.plan.roll_depth * self.plan.roll_branch if self.plan.backup == "visits" else 0
        return (self.plan.branch + rolls) * each


def _tokens_of(text: str, tokens: Sequence[TokenLogprob]) -> Sequence[TokenLogprob]:
    """The first of ``tokens``, as many as ``text`` takes."""
    length = 0
    for count, token in enumerate(tokens):
        if length >= len(text):
            return tokens[:count]
        length += len(token.token)
    return tokens
