"""OmegaPRM: binary search for the first error of wrong rollouts, chosen over a growing tree of prefixes.

Source: arXiv 2406.06592, section 3 (``omega_search`` holds its formulas). A search waits for one request
at a time (of k completions); the runner keeps many problems in flight, and so the engine busy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Annotated, ClassVar, NamedTuple

from msgspec import Meta, Struct, field

from gristmill.core.engine import Ability, Message
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.prompts import RowValues, opening, require_row, row_places
from gristmill.core.records import Judged, Problem
from gristmill.core.stages import Context, Estimate, RowStage
from gristmill.core.steps import Tree, tally
from gristmill.synth.step_values.allocation import Allocation, Decision
from gristmill.synth.step_values.rollouts import Rollouts
from gristmill.synth.step_values.steps import Split
from gristmill.synth.tree_search.grow import Growing, Live, thaw
from gristmill.synth.tree_search.omega_search import (
    AFTER_ERROR,
    ALGORITHM,
    FIRST_ERROR,
    UNDECIDED,
    UNSETTLED,
    RolloutPool,
    Selection,
    cut,
    mean_tokens,
    piece_count,
    token_count,
)

Positive = Annotated[int, Meta(ge=1)]
_CHARS_PER_TOKEN = 4
"""For estimates only: English text under a byte-pair tokenizer."""


class OmegaPRM(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Grows a tree of prefixes with Monte Carlo values by searching wrong rollouts for their first error.

    The root gets rollouts until both a right and a wrong one are seen; a problem without both is rejected as
    always or never solved. Then the wrong rollout with the largest Q + U (arXiv 2406.06592, section 3.3) is
    cut into pieces and searched: rollouts from the middle prefix; if any is right the error is later, else it
    is there or before. Prefixes from which a rollout is right become states.
    """

    system: str | None = None
    """The system message; it may have places like the prompt's."""
    examples: tuple[Message, ...] = ()
    """Worked examples, user and assistant turns, sent as they are before the prompt."""
    prompt: str = "{problem}"
    """The user turn, in which ``{problem}`` is the problem's text and ``{NAME}`` any other column."""
    rollouts: Rollouts = field(default_factory=Rollouts)
    """How the completions of a prefix are drawn."""
    k: Positive = 8
    """The rollouts from each prefix that a search looks at."""
    filter_rollouts: Positive = 32
    """The most rollouts of the root, drawn ``k`` at a time until both a right and a wrong one are seen."""
    searches: Positive = 100
    """The most searches of a problem."""
    max_rollouts: Positive | None = None
    """The most rollouts of a problem, those of the root included; never exceeded. ``null``: no limit."""
    max_tokens: Positive | None = None
    """Once the completions have so many tokens, those of the root included, no further request is made.
    ``null``: no limit."""
    alpha: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """The base of Q's preference for states with many right rollouts: alpha^(1 - value)."""
    beta: Annotated[float, Meta(gt=0, le=1)] = 0.9
    """The base of Q's preference for short rollouts: beta^(tokens / ``length``)."""
    length: Annotated[float, Meta(gt=0)] = 500.0
    """The length in tokens by which rollouts are called short or long."""
    c_puct: Annotated[float, Meta(ge=0)] = 0.125
    """The weight of U, which prefers states that were visited less."""
    pieces: Annotated[int, Meta(ge=2)] = 16
    """Into how many pieces a rollout is cut; into fewer where a piece would be shorter than the mean
    rollout / ``pieces``."""
    split: Split | None = None
    """How a rollout is cut into steps instead of into ``pieces``."""
    repeat: Annotated[int, Meta(ge=0)] = 0
    """Further rollouts that check the place found, since a binary search believes every noisy value."""
    at_once: Positive = 1
    """The searches of a problem that go side by side, in step. More than one keeps an engine busy with few
    problems, or with the last of many; they are chosen before any of them has given new states."""

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Tree
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.CHAT})
    verifies: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse a budget that does not even reach the first request, and prompts that cannot be filled."""
        require_row("omega_prm", "prompt", self.places["prompt"])
        if self.max_rollouts is not None and self.max_rollouts < min(self.k, self.filter_rollouts):
            raise RecipeError(
                f"max_rollouts {self.max_rollouts} is less than the first request of "
                f"{min(self.k, self.filter_rollouts)} rollouts.",
                remedy="Raise max_rollouts, or lower k.",
            )

    @property
    def allocation(self) -> Allocation:
        """The binary search: ``k`` rollouts of each prefix it looks at, drawn in full and at once."""
        return Allocation(scheme="binary", k=self.k, batch=self.k, repeat=self.repeat)

    async def __call__(self, record: Problem, context: Context) -> list[Tree]:
        """One tree. ``RowRejected`` without an answer, or where the first rollouts are all right or wrong."""
        if record.answer is None:
            raise RowRejected("no reference answer", f"problem {record.id!r} has no answer to verify against")
        messages = self.messages(record)
        tree = Growing(record.id, record.problem, record.answer, messages, ALGORITHM)
        search = _Search(self, tree, record.answer, context)
        await search.root()
        return [tree.freeze(await search.run())]

    async def extend(self, tree: Tree, context: Context) -> Tree:
        """Continue a tree that these options, or lower budgets, have made; ``RecipeError`` for others."""
        if tree.algorithm != ALGORITHM or tree.answer is None:
            raise RecipeError(
                f"tree {tree.id!r} was grown by {tree.algorithm!r}, not {ALGORITHM!r}.",
                remedy="Continue with the search that grew it.",
            )
        growing = thaw(tree)
        return growing.freeze(await _Search(self, growing, tree.answer, context).run())

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row, by option."""
        return row_places(prompt=self.prompt, system=self.system)

    def messages(self, problem: Problem) -> tuple[Message, ...]:
        """The prompt of a problem. ``RowRejected`` where it lacks a column that the prompt names."""
        return opening(RowValues(problem), self.prompt, self.system, self.examples)

    def estimate(self, record: Problem) -> Estimate:
        """Bounds: the least is one request, the most every search at its full depth, or the budget."""
        try:
            chars = sum(len(m.content) for m in self.messages(record))
        except RowRejected:
            return Estimate(0, 0, 0, 0, rows_max=0)
        # A step has one token at least.
        most_pieces = self.rollouts.sampling.max_tokens if self.split else self.pieces
        _, search = self.allocation.bounds(most_pieces - 1, solved=False)
        most = self.filter_rollouts + self.searches * search
        tokens = self.rollouts.sampling.max_tokens
        return Estimate(
            completions_min=min(self.k, self.filter_rollouts),
            completions_max=min(most, self.max_rollouts or most),
            # A prefix is part of the prompt: half of a solution on average.
            prompt_tokens=chars // _CHARS_PER_TOKEN + tokens // 2,
            completion_tokens=tokens,
            rows_max=1,
        )


class _Begun(NamedTuple):
    """A search of a wrong rollout from a state; ``prefixes`` end with each of its pieces."""

    state: Live
    rollout: Judged
    prefixes: list[str]


class _Search:
    """The search of one problem. All that decides its next move is in the tree and in ``drawn``."""

    def __init__(self, options: OmegaPRM, tree: Growing, answer: str, context: Context) -> None:
        self.options = options
        self.tree = tree
        self.answer = answer
        self.context = context
        selection = Selection(
            alpha=options.alpha, beta=options.beta, length=options.length, c_puct=options.c_puct
        )
        prefixes = {tree.prefix(node.index): node for node in tree.nodes}
        # What was drawn, by prefix: a prefix that two rollouts share is never paid for twice.
        self.drawn = {prefix: node.rollouts for prefix, node in prefixes.items()}
        self.outcomes = {prefix: [_right(r) for r in rollouts] for prefix, rollouts in self.drawn.items()}
        # An interrupted search is done again from this evidence, and its nodes may get other parents.
        while tree.nodes[-1].note == UNSETTLED:
            node = tree.nodes.pop()
            tree.nodes[node.parent].children.remove(node.index)
        self.nodes = {p: node for p, node in prefixes.items() if node.index < len(tree.nodes)}
        self.pool = RolloutPool(tree, selection, options.k)
        self.allocation = options.allocation
        self.spent = ""

    async def root(self) -> None:
        """The first rollouts, until both a right and a wrong one are seen; ``RowRejected`` where not."""
        limit, k = self.options.filter_rollouts, self.options.k
        root = self.tree.nodes[0]
        while len(root.rollouts) < limit and not self.spent:
            await self.draw("", min(len(root.rollouts) + k, limit))
            seen = tally(root.rollouts)
            if 0 < seen.correct < seen.decided:
                root.value = seen.mean
                self.pool.admit(root)
                return
        seen = tally(root.rollouts)
        detail = f"{seen.correct} right of {seen.decided} decided of {len(root.rollouts)} rollouts"
        if self.spent:
            raise RowRejected("budget spent before a right and a wrong rollout were seen", detail)
        if not seen.decided:
            raise RowRejected("no rollout decided", detail)
        raise RowRejected("always solved" if seen.correct else "never solved", detail)

    async def run(self) -> str:
        """Search until nothing is left to, or may be; gives why it stopped."""
        while (left := self.options.searches - self.tree.iterations) > 0:
            chosen = self.choose(min(left, self.options.at_once))
            if not chosen:
                return "exhausted"
            begun = [_Begun(state, rollout, self.prefixes(state, rollout)) for state, rollout in chosen]
            await self.sample(begun)
            for search in begun:
                self.graft(search)
            if self.spent:
                # None of them counts, so that going on with this tree begins with the same ones again.
                for state, _ in chosen:
                    state.visits -= 1
                return self.spent
            self.tree.iterations += len(begun)
        return "searches"

    def choose(self, count: int) -> list[tuple[Live, Judged]]:
        """The next searches, best first. N(s) of the state selected grows by one, and no other's."""
        chosen: list[tuple[Live, Judged]] = []
        while len(chosen) < count and (best := self.pool.best()) is not None:
            best[0].visits += 1
            chosen.append(best)
        return chosen

    async def sample(self, begun: Sequence[_Begun]) -> None:
        """Draw what the searches ask for, until each has found its first error or the budget is spent.

        They go in step, so that what is drawn depends on no answer's being faster than another.
        """
        while not self.spent:
            wanted: dict[str, int] = {}
            for search in begun:
                for index, more in self.decide(search.prefixes).draws:
                    prefix = search.prefixes[index]
                    wanted[prefix] = max(wanted.get(prefix, 0), len(self.drawn.get(prefix, ())) + more)
            if not wanted:
                return
            await asyncio.gather(*(self.draw(prefix, n) for prefix, n in wanted.items()))

    def graft(self, search: _Begun) -> None:
        """Put what one search looked at into the tree."""
        state, rollout, prefixes = search.state, search.rollout, search.prefixes
        decision = self.decide(prefixes)
        visited = {i: any(self.outcomes[p]) for i, p in enumerate(prefixes[:-1]) if self.outcomes.get(p)}
        parent, bound = state, decision.first_error
        if bound is None or self.spent:
            note = UNSETTLED if self.spent else UNDECIDED
            for index in visited:
                parent = self.attach(parent, prefixes[index], note)
            return
        for index, right in visited.items():
            if index < bound and right:
                parent = self.state(parent, prefixes[index])
        ending = rollout if bound == len(prefixes) - 1 else None
        parent = self.attach(parent, prefixes[bound], FIRST_ERROR, ending)
        for index in visited:
            if index > bound:
                parent = self.attach(parent, prefixes[index], AFTER_ERROR)

    def decide(self, prefixes: Sequence[str]) -> Decision:
        """What to draw next, by what was drawn from each prefix but the whole."""
        return self.allocation.decide([self.outcomes.get(p, ()) for p in prefixes[:-1]], solved=False)

    def prefixes(self, state: Live, rollout: Judged) -> list[str]:
        """The prefixes that end with each piece of a rollout from ``state``; the last is all of it."""
        base, completion, pieces = self.tree.prefix(state.index), rollout.completion, self.options.pieces
        if self.options.split is not None:
            ends: Iterable[int] = accumulate(map(len, self.options.split(completion.text)))
        else:
            mean = mean_tokens(self.tree.nodes[0].rollouts)
            ends = cut(completion.text, piece_count(token_count(completion), mean, pieces))
        return [base + completion.text[:end] for end in ends]

    async def draw(self, prefix: str, n: int) -> None:
        """See that ``n`` rollouts of ``prefix`` are drawn, or set ``spent`` where the budget forbids it."""
        options, tree = self.options, self.tree
        have = self.drawn.setdefault(prefix, [])
        missing = n - len(have)
        if missing <= 0 or self.spent:
            return
        if options.max_rollouts is not None and tree.completions + missing > options.max_rollouts:
            self.spent = "rollouts"
        elif options.max_tokens is not None and tree.tokens >= options.max_tokens:
            self.spent = "tokens"
        else:
            tree.completions += missing  # before they are there: others may be asked for beside them
            drawn = await options.rollouts.draw(
                self.context,
                tree.messages,
                prefix,
                self.answer,
                seed=_seed(self.context, tree.id, prefix),
                n=missing,
                first=len(have),
            )
            have.extend(drawn)
            self.outcomes.setdefault(prefix, []).extend(map(_right, drawn))
            tree.tokens += sum(token_count(d.completion) for d in drawn)

    def state(self, parent: Live, prefix: str) -> Live:
        """The node of a prefix from which a rollout is right, as a state."""
        node = self.node(parent, prefix)
        node.note = ""
        self.pool.admit(node)
        return node

    def attach(self, parent: Live, prefix: str, note: str, ending: Judged | None = None) -> Live:
        """The node of a wrong prefix, or (``ending``) of a wrong rollout whose last piece is the error."""
        if prefix in self.nodes:
            return self.nodes[prefix]
        node = self.node(parent, prefix)
        node.note = note
        if ending is not None:
            node.terminal, node.verdict, node.value = True, ending.verdict, 0.0
        return node

    def node(self, parent: Live, prefix: str) -> Live:
        """The node of a prefix, new under ``parent`` where there is none, with what was drawn from it."""
        node = self.nodes.get(prefix)
        if node is None:
            node = self.nodes[prefix] = self.tree.add(
                parent.index, prefix[len(self.tree.prefix(parent.index)) :]
            )
            node.rollouts = self.drawn.setdefault(prefix, [])
        node.value = tally(node.rollouts).mean
        return node


def _right(rollout: Judged) -> bool | None:
    return rollout.verdict.correct if tally((rollout,)).decided else None


def _seed(context: Context, problem: str, prefix: str) -> int:
    """The seed of a prefix's rollouts. The root's is that of plain sampling, with which it shares its
    completions; another prefix has its own, wherever in the search it comes up."""
    return context.seed_for(f"{problem}\x1f{prefix}" if prefix else problem)
