"""Monte Carlo tree search over the steps of a solution, as one row stage for several published searches."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import asdict, replace

from gristmill.core.engine import Ability, Message, Sampling
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.prompts import RowValues, opening, require_row, row_places
from gristmill.core.records import Problem
from gristmill.core.stages import Context, Estimate, RowStage
from gristmill.core.steps import Tree
from gristmill.core.verdicts import Outcome
from gristmill.synth.tree_search.backup import (
    Backup,
    add_to_mean,
    from_children,
    mix,
    q_from_children,
)
from gristmill.synth.tree_search.expand import FAILED, LIMIT, Draft, Expander, counted
from gristmill.synth.tree_search.grow import Growing, Live, thaw
from gristmill.synth.tree_search.presets import PRESETS, Algorithm, SearchPlan, ValueBy
from gristmill.synth.tree_search.select import Unvisited, first_best, puct, uct
from gristmill.synth.tree_search.values import Evaluator

Positive = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
_CHARS_PER_TOKEN = 4


class TreeSearch(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """Grows a search tree for each problem, by continuing the assistant's turn one step at a time.

    Ends of solutions are valued by the verifier where the problem has an answer, else as the other nodes.

    An iteration goes to a leaf, draws its children, values them, and backs up. A round of several leaves ends
    sooner where the choice falls on the same leaf again, and is always finished: up to ``parallel - 1``
    iterations more than asked for. A node whose request fails is marked in its ``note`` and left out of the
    search.
    """

    algorithm: Algorithm = "uct"
    """The published search whose settings the options have that are ``null`` (``presets.PRESETS``)."""
    score: Literal["uct", "puct"] | None = None
    """How a child is chosen: by visits alone, or by the engine's own probability of it too."""
    c: Annotated[float, Meta(ge=0)] | None = None
    """The weight of exploration in ``score``."""
    unvisited: Unvisited | None = None
    """What the exploration of a child is taken for that was not visited yet."""
    backup: Backup | None = None
    """How values reach the nodes above: ``mean`` of all below, ``visits`` (ReST-MCTS*), ``q`` (MCTS-DPO)."""
    value: ValueBy | None = None
    """What values a node that ends no solution (see ``evaluator``). ``rollout`` and ``verifier`` need a
    problem with an answer."""
    gamma: Share | None = None
    """The discount of later steps in the backup ``q``."""
    branch: Positive | None = None
    """The steps drawn of a prefix; equal ones are one child."""
    depth: Positive | None = None
    """The most steps of a solution."""
    iterations: Positive | None = None
    """The iterations of a problem."""
    stop_at: float | None = None
    """An end of this value ends the search."""
    roll_depth: Annotated[int, Meta(ge=0)] | None = None
    """ReST-MCTS*: the steps that its simulation goes on for."""
    roll_branch: Positive | None = None
    """ReST-MCTS*: the steps drawn at each step of its simulation."""
    alpha: Share | None = None
    """ReST-MCTS*: the share of the simulation in a node's value."""
    parallel: Positive = 1
    """The leaves worked at once, chosen one after the other with a virtual loss on the paths already chosen;
    children are added and values backed up in the order of that choice."""
    completions: Positive | None = None
    """The most completions of a problem, evaluations included: a round that might exceed it is not begun."""
    tokens: Positive | None = None
    """Once the completions have so many tokens, no further round is begun."""
    evaluator: Evaluator = field(default_factory=Evaluator)
    """How nodes are valued that end no solution."""
    system: str | None = None
    """The system message; it may have places like the prompt's."""
    examples: tuple[Message, ...] = ()
    """Worked examples, user and assistant turns, sent as they are before the prompt."""
    prompt: str = (
        "{problem}\n\nReason step by step, and leave a blank line between steps. Put your final answer in "
        "\\boxed{}."
    )
    """The user turn, in which ``{problem}`` is the problem's text and ``{NAME}`` any other column."""
    sampling: Sampling = Sampling(temperature=1.0, max_tokens=256)
    """How a step is sampled; its ``stop`` is set by ``boundary``."""
    boundary: str = "\n\n"
    """What ends a step, and stays at its end; empty: every ``sampling.max_tokens`` tokens are a step."""
    answer_marks: tuple[str, ...] = ("\\boxed{",)
    """A step that holds one of these, and was not cut off, ends its solution."""

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Tree
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.CHAT, Ability.CONTINUE})
    verifies: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_row("tree_search", "prompt", self.places["prompt"])
        if self.sampling.stop:
            raise RecipeError(
                f"tree_search: sampling.stop is {list(self.sampling.stop)}, but steps end at 'boundary'.",
                remedy="Leave sampling.stop out, and set boundary.",
            )

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row, by option."""
        return row_places(prompt=self.prompt, system=self.system)

    @cached_property
    def plan(self) -> SearchPlan:
        """The algorithm's settings, with the options that are given in their place."""
        given = {k: v for k, v in asdict(self).items() if k in SearchPlan.__struct_fields__ and v is not None}
        return replace(PRESETS[self.algorithm], **given)

    @property
    def uses(self) -> Mapping[str, frozenset[Ability]]:
        """The further engine that values, if there is one, and what it must be able to do."""
        name = self.evaluator.named(self.plan.value)
        if name is None or self.plan.value == "verifier":
            return {}
        if self.plan.value == "prm":
            # By rewards or by next tokens: which of the two it gives is known when it is open.
            return self.evaluator.uses | {name: self.evaluator.needs}
        return {name: frozenset({Ability.CHAT})}

    async def __call__(self, record: Problem, context: Context) -> list[Tree]:
        """The tree of a problem."""
        messages = opening(RowValues(record), self.prompt, self.system, self.examples)
        tree = Growing(record.id, record.problem, record.answer, messages, self.algorithm)
        return [await self._grow(tree, context, record)]

    async def extend(self, tree: Tree, context: Context) -> Tree:
        """``tree`` grown on, until it has the iterations asked for here in all: the same tree as if they had
        been asked for at first. ``RecipeError`` for a tree of another algorithm."""
        if tree.algorithm != self.algorithm:
            raise RecipeError(
                f"the tree {tree.id!r} was grown by {tree.algorithm!r}, not by {self.algorithm!r}.",
                remedy=f"Set algorithm to {tree.algorithm!r}.",
            )
        return await self._grow(thaw(tree), context, None)

    def expander(self, tree: Growing, context: Any, record: Problem | None) -> Expander:
        """What draws the steps of ``tree``; ``record`` is its problem, ``None`` for a tree that was saved."""
        return Expander(
            context,
            tree.id,
            tree.problem,
            tree.answer,
            tree.messages,
            self.plan,
            self.evaluator,
            self.sampling,
            self.boundary,
            self.answer_marks,
        )

    async def _grow(self, tree: Growing, context: Context, record: Problem | None) -> Tree:
        if tree.answer is None and self.plan.value in ("rollout", "verifier"):
            raise RowRejected(
                "no reference answer",
                f"problem {tree.id!r} has no answer, which value: {self.plan.value} needs",
            )
        if self.plan.value != "verifier":
            self.evaluator.asked(self.plan.value, context)  # what it cannot do is told before it costs
        search = _Search(self, tree, self.expander(tree, counted(context, tree), record))
        return tree.freeze(await search.run())

    def estimate(self, record: Problem) -> Estimate:
        """Bounds: the least is one expansion, the most what every iteration may cost, within the budget."""
        try:
            asked = opening(RowValues(record), self.prompt, self.system, self.examples)
        except RowRejected:
            return Estimate(0, 0, 0, 0, rows_max=0)
        tree = Growing(record.id, record.problem, record.answer, (), self.algorithm)
        most = self.plan.iterations * self.expander(tree, None, record).cost(0)
        chars = sum(len(m.content) for m in asked)
        # A prefix is on average half as long as a solution of a few steps.
        prompt = chars // _CHARS_PER_TOKEN + self.sampling.max_tokens * min(self.plan.depth, 4) // 2
        return Estimate(
            completions_min=min(self.plan.branch, self.completions or self.plan.branch),
            completions_max=min(most, self.completions or most),
            prompt_tokens=prompt,
            completion_tokens=self.sampling.max_tokens,
            rows_max=1,
        )


class _Search:
    """One tree and what to do next. All that a decision rests on is in the tree."""

    def __init__(self, options: TreeSearch, tree: Growing, expander: Expander) -> None:
        self.options = options
        self.plan = options.plan
        self.tree = tree
        self.expander = expander

    async def run(self) -> str:
        """Grow until something ends it; what did."""
        while self.tree.iterations < self.plan.iterations:
            if self._found():
                return "found"
            if not any(self._open(node) for node in self.tree.nodes):
                return "exhausted"
            if self.options.tokens is not None and self.tree.tokens >= self.options.tokens:
                return "tokens"
            leaves = self._choose()
            planned = sum(self.expander.cost(leaf.depth) for leaf in leaves if self._open(leaf))
            if (
                self.options.completions is not None
                and self.tree.completions + planned > self.options.completions
            ):
                return "completions"
            await self._round(leaves)
        return "found" if self._found() else "iterations"

    def _found(self) -> bool:
        gate = self.plan.stop_at
        return gate is not None and any(
            node.terminal and not _failed(node) and node.value is not None and node.value >= gate
            for node in self.tree.nodes
        )

    def _open(self, node: Live) -> bool:
        """Whether a node's children can still be drawn."""
        return not (node.terminal or node.children or node.note)

    def _choose(self) -> list[Live]:
        """The leaves of a round."""
        virtual: Counter[int] = Counter()
        leaves: list[Live] = []
        for _ in range(self.options.parallel):
            node = self.tree.nodes[0]
            path = [node]
            while usable := [c for c in self.tree.children(node.index) if not _failed(c)]:
                node = usable[first_best([self._score(node, child, virtual) for child in usable])]
                path.append(node)
            if any(node is leaf for leaf in leaves):
                break
            leaves.append(node)
            virtual.update(n.index for n in path)
        return leaves

    def _score(self, parent: Live, child: Live, virtual: Counter[int]) -> float:
        plan = self.plan
        value = child.value or 0.0
        if losses := virtual[child.index]:
            # A path already chosen counts as visited once more and lost, so that the next choice differs.
            weight = max(child.visits, 1)
            value = (value * weight + plan.worst * losses) / (weight + losses)
        seen, above = child.visits + losses, parent.visits + virtual[parent.index]
        if plan.score == "puct":
            return puct(value, child.prior or 0.0, above, seen, c=plan.c)
        return uct(value, above, seen, c=plan.c, inner=plan.inner, unvisited=plan.unvisited)

    async def _round(self, leaves: list[Live]) -> None:
        drawn = await asyncio.gather(*(self._expand(leaf) for leaf in leaves))
        for leaf, drafts in zip(leaves, drawn, strict=True):
            self.tree.iterations += 1
            if isinstance(drafts, RowRejected):
                if leaf.index == 0:
                    raise RowRejected(drafts.reason, drafts.message)  # there is no tree to keep
                self._fail(leaf, str(drafts))
            else:
                self._add(leaf, drafts)

    async def _expand(self, leaf: Live) -> list[Draft] | RowRejected:
        """The drafts of a leaf's children; none of one that is not open."""
        if not self._open(leaf):
            return []
        try:
            # The root's text is empty, and no step.
            steps = tuple(node.text for node in self.tree.path(leaf.index)[1:])
            return await self.expander.expand(steps)
        except RowRejected as error:
            return error

    def _fail(self, node: Live, why: str) -> None:
        """Mark a node, and those above it that are left without a child to go to."""
        node.note = why if why.startswith(FAILED) else FAILED + why
        parent = node.parent
        while parent > 0 and all(_failed(c) for c in self.tree.children(parent)):
            self.tree.nodes[parent].note = FAILED + "every step after it"
            parent = self.tree.nodes[parent].parent

    def _add(self, leaf: Live, drafts: list[Draft]) -> None:
        """The drafts as children of ``leaf``, and what was learned backed up."""
        made = self._attach(leaf, drafts)
        for node, _ in made:
            if _failed(node):
                self._fail(node, node.note)
        if made and all(_failed(node) for node, _ in made):
            if leaf.index == 0:
                # A step without a text could not be drawn, another one not be valued.
                how = "valued" if any(node.text for node, _ in made) else "drawn"
                raise RowRejected(f"no step could be {how}", made[0][0].note.removeprefix(FAILED))
            return
        if self.plan.backup == "mean":
            self._back_up_mean(leaf, made)
            return
        path = self.tree.path(leaf.index)
        if self.plan.backup == "visits":
            usable = [(node, draft) for node, draft in made if not _failed(node)]
            if usable:
                node, draft = usable[first_best([n.value or 0.0 for n, _ in usable])]
                node.visits = 1
                if draft.rolled is not None and node.value is not None:
                    node.value = mix(node.value, draft.rolled, self.plan.alpha)
            from_children(path, [self.tree.children(n.index) for n in path])
        else:
            q_from_children(path, [self.tree.children(n.index) for n in path], self.plan.gamma)

    def _attach(self, leaf: Live, drafts: list[Draft]) -> list[tuple[Live, Draft]]:
        """New nodes for the drafts and those below them, the children of one node side by side."""
        made: list[tuple[Live, Draft]] = []
        for draft in drafts:
            node = self.tree.add(leaf.index, draft.text)
            node.terminal, node.verdict, node.note = draft.terminal, draft.verdict, draft.note
            node.prior, node.rollouts = draft.prior, list(draft.rollouts)
            if draft.failed:
                pass  # it has no value, so that it takes no part in its parent's
            elif self.plan.backup == "q":
                self._step_reward(node, draft)
            elif draft.value is not None:
                node.value = self._scaled(draft.value)
            made.append((node, draft))
        below = [self._attach(node, draft.below) for node, draft in made if draft.below]
        return made + [pair for pairs in below for pair in pairs]

    def _scaled(self, value: float) -> float:
        """A value in [0, 1] on the plan's scale, whose least is ``worst``."""
        return self.plan.worst + (1 - self.plan.worst) * value

    def _step_reward(self, node: Live, draft: Draft) -> None:
        """MCTS-DPO: reward = value - parent's value, Q = reward + gamma * value. The value is the
        self-evaluation / max(depth - 3, 1), the parent's where that is 0, and +-1 where a verdict is known.
        (A right end that departs from a reference solution is not raised by 5/4: there is none here.)"""
        before = sum(n.reward or 0.0 for n in self.tree.path(node.parent))
        if draft.verdict is not None:
            value = 1.0 if draft.verdict.correct else -1.0
        else:
            value = (draft.value or 0.0) / max(node.depth - 3, 1) or before
        node.reward = value - before
        node.value = node.reward + self.plan.gamma * value

    def _back_up_mean(self, leaf: Live, made: list[tuple[Live, Draft]]) -> None:
        """Every value found is a visit to all nodes from the root to it; so is going to an end again.

        Where iterations go on to an end (rStar-Math), a solution without an answer, or too long, counts
        for itself alone.
        """
        found = [node for node, _ in made if not _failed(node)] or [leaf]
        visited = False
        for node in found:
            if self.plan.descend and (node.note == LIMIT or _no_answer(node)):
                node.visits += 1
                node.value = self.plan.worst
                visited = True
            elif node.value is not None:
                add_to_mean(self.tree.path(node.index), node.value)
                visited = True
        if not visited:
            for node in self.tree.path(leaf.index):
                node.visits += 1


def _failed(node: Live) -> bool:
    return node.note.startswith(FAILED)


def _no_answer(node: Live) -> bool:
    return node.verdict is not None and node.verdict.outcome is Outcome.UNPARSEABLE
