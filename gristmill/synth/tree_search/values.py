"""What the beginning of a solution is worth: by rollouts, by the model's own word, by a judge, by a process
reward model. All of them come to a number in [0, 1]; a verifier has nothing to say of an unfinished one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct, field
from msgspec.structs import replace

from gristmill.core.engine import Ability, Engine, Message, Request, Sampling
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.prompts import require
from gristmill.core.records import Judged
from gristmill.core.stages import Context
from gristmill.core.steps import tally
from gristmill.synth.scorers.reward import ProcessReward
from gristmill.synth.step_values.aggregate import aggregate
from gristmill.synth.step_values.rollouts import Rollouts
from gristmill.synth.tree_search.presets import ValueBy
from gristmill.verifiers.judges.asking import Asking
from gristmill.verifiers.judges.base import quoted
from gristmill.verifiers.judges.judge import RIGHT, SYSTEM, WRONG, Judge

_SELF = Message(
    "user",
    "{problem}\n\n{response}\n\nRESPONSE is the beginning of a solution of PROBLEM, or all of one. Is "
    "everything in it correct so far? {answer_with}",
)
_PARTIAL = Message(
    "user",
    "{problem}\n\n{response}\n\nRESPONSE is the beginning of a solution of PROBLEM, or all of one. Grade "
    "from 1 (it is wrong or leads nowhere) to {grades} (it is correct so far and leads to the solution). "
    "That it is unfinished does not count against it. {answer_with}",
)
_ALTERNATIVES = 20


class Worth(Struct, frozen=True):
    """A value in [0, 1] and the rollouts it came from; ``None`` where none was found, and why in ``note``."""

    value: float | None
    rollouts: tuple[Judged, ...] = ()
    note: str = ""


class Evaluator(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How nodes that end no solution are valued; which way is the search's option ``value``.

    ``rollout``: the share of right among completions. ``self``: the probability that the model gives to
    ``correct`` when asked whether everything is, or its share of votes at temperature 0.7 where the engine
    gives no probabilities. ``judge``: the grade of another engine (MASTER, arXiv 2501.14304), for problems
    without an answer too. ``prm``: what a process reward model says of the steps so far.
    Where its engine gives rewards, or ``process.reference`` is named, it is read as the scorer
    ``process_reward`` reads it; else as a causal model that is shown one step a turn, by the probability of
    ``good`` against ``bad`` as its next token.
    """

    engine: str | None = None
    """The name of the engine that is asked; by default ``self`` and ``rollout`` use the stage's own,
    ``judge`` and ``prm`` the engine of that name."""
    k: Annotated[int, Meta(ge=1)] = 4
    """``rollout``: the completions of a node."""
    rollouts: Rollouts = field(default_factory=Rollouts)
    """``rollout``: how they are drawn."""
    votes: Annotated[int, Meta(ge=1)] = 5
    """``self``: the votes where the engine gives no probabilities."""
    asking: Asking = Asking(min_mass=0.1)
    """``self``: how the model is asked. As one value of many it is taken where the words hold a tenth of the
    probability (``min_mass``), since small models often give them less than half."""
    prompt: tuple[Message, ...] = (SYSTEM, _SELF)
    """``self``: the messages that ask, with ``{problem}``, ``{response}``, ``{fence}`` and ``{answer_with}``.
    Problem and response are quoted."""
    judge: Judge = Judge(graded=(SYSTEM, _PARTIAL))
    """``judge``: the options of the judge."""
    process: ProcessReward = ProcessReward(rule="last")
    """``prm``: how a model that gives rewards, or an implicit one, is read; ``engine`` and ``split`` of it
    are not used. By ``rule`` a solution so far is worth what its last step is."""
    good: str = "+"
    """``prm``: the token that calls a step good."""
    bad: str = "-"
    """``prm``: the token that calls a step bad."""

    def __post_init__(self) -> None:
        require("evaluator.prompt", self.prompt, "problem", "response", "answer_with", known=("fence",))

    def cost(self, by: ValueBy) -> int:
        """The most completions that one value takes."""
        asked = self.judge.asking if by == "judge" else self.asking
        repairs = 2 if asked.read == "json" else 1
        votes = max(self.votes, asked.votes) if by == "self" else asked.votes
        return {"rollout": self.k, "verifier": 0, "prm": 1}.get(by, votes * repairs)

    def named(self, by: ValueBy) -> str | None:
        """The name of the engine that values; ``None`` for the stage's own."""
        return self.engine or (by if by in ("judge", "prm") else None)

    def asked(self, by: ValueBy, context: Context) -> Engine:
        """The engine that values. ``RecipeError`` where there is none, or it cannot do what it has to."""
        engine = context.named(self.named(by))
        if by == "prm" and not engine.abilities & {Ability.LOGPROBS, *self.process.asks}:
            raise RecipeError(
                f"the engine {engine.model} gives neither rewards nor token probabilities, by which a "
                "process reward model is read.",
                remedy="Serve it with an engine that gives them (transformers-reward, reward-server, "
                "llamacpp, vLLM), or use value: judge.",
            )
        return engine

    @property
    def uses(self) -> dict[str, frozenset[Ability]]:
        """What else ``value: prm`` asks: the reference of an implicit model."""
        reference = self.process.reference
        return {} if reference is None else {reference: self.process.asks}

    @property
    def needs(self) -> frozenset[Ability]:
        """What the model that ``value: prm`` asks must do in any case."""
        return frozenset() if self.process.reference is None else self.process.asks

    async def value(
        self,
        by: ValueBy,
        context: Context,
        *,
        problem: str,
        answer: str | None,
        messages: Sequence[Message],
        steps: Sequence[str],
        seed: int,
    ) -> Worth:
        """What the solution that begins with ``steps`` is worth. Raises what the engine does."""
        prefix = "".join(steps)
        if by == "verifier":
            return Worth(None)
        engine = self.asked(by, context)
        if by == "rollout":
            drawn = await self.rollouts.draw(
                context, messages, prefix, answer or "", seed=seed, n=self.k, engine=engine
            )
            mean = tally(drawn).mean
            return Worth(mean, drawn, "" if mean is not None else "no rollout was decided")
        if by == "self":
            return await self._self(engine, problem, prefix, seed)
        if by == "judge":
            verdict = await self.judge(prefix, "", problem=problem, engine=engine, seed=seed)
            return Worth(verdict.score, note="" if verdict.score is not None else f"judge: {verdict.detail}")
        if engine.abilities & self.process.asks:
            return await self._rewarded(engine, context, messages, steps)
        return await self._process_reward(engine, problem, steps, seed)

    async def _rewarded(
        self, engine: Engine, context: Context, messages: Sequence[Message], steps: Sequence[str]
    ) -> Worth:
        shown = [step for step in steps if step.strip()]
        if not shown:
            return Worth(None, note="reward model: there is no step yet")
        try:
            values = await self.process.values(engine, context, messages, shown)
        except RowRejected as error:
            return Worth(None, note=f"reward model: {error}")
        return Worth(aggregate(values, self.process.rule))

    async def _self(self, engine: Engine, problem: str, prefix: str, seed: int) -> Worth:
        asking = self.asking
        if asking.read == "auto" and asking.way(engine, (RIGHT, WRONG)) == "text" and asking.votes == 1:
            sampling = replace(asking.sampling, temperature=0.7) if self.votes > 1 else asking.sampling
            asking = replace(asking, votes=self.votes, sampling=sampling)
        values = quoted(seed, problem=problem, response=prefix)
        ballot = await asking.choose(self.prompt, values, (RIGHT, WRONG), engine=engine, seed=seed)
        share = ballot.share(RIGHT)
        if share is not None:
            return Worth(share)
        remedy = ""
        if ballot.way == "probabilities":
            remedy = f"; lower evaluator.asking.min_mass ({asking.min_mass:g}), or set its read to text"
        return Worth(None, note=f"self-evaluation: {ballot.detail}{remedy}")

    async def _process_reward(self, engine: Engine, problem: str, steps: Sequence[str], seed: int) -> Worth:
        sampling = Sampling(temperature=0.0, max_tokens=1, logprobs=_ALTERNATIVES)
        messages = process_messages(problem, steps, self.good)
        [answer] = await engine.generate(Request(messages, sampling, seed))
        first = (answer.logprobs or ())[:1]
        seen = {t.token: t.logprob for token in first for t in token.top}
        seen |= {token.token: token.logprob for token in first}
        good, bad = (
            sum(math.exp(p) for token, p in seen.items() if token.strip() == mark)
            for mark in (self.good, self.bad)
        )
        if good + bad == 0:
            return Worth(None, note=f"reward model: neither {self.good!r} nor {self.bad!r} is likely")
        return Worth(good / (good + bad))


def process_messages(problem: str, steps: Sequence[str], good: str) -> tuple[Message, ...]:
    """The conversation in which a process reward model is trained to answer each step with ``+`` or ``-``.

    The first step comes after the problem, each later one in a turn of its own; steps before the last are
    shown as good. Steps that are blank are left out.
    """
    shown = [step.strip() for step in steps if step.strip()]
    turns: list[Message] = [Message("user", " ".join([problem, *shown[:1]]))]
    for step in shown[1:]:
        turns += (Message("assistant", good), Message("user", step))
    return tuple(turns)
