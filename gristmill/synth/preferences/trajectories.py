"""``trajectory_pairs``: what a conversation was for, told by a model, and one of its turns made worse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Struct

from gristmill.core.engine import Message, Sampling
from gristmill.core.errors import RowRejected
from gristmill.core.prompts import RowValues, fill, require
from gristmill.core.records import Conversation, Pair, Turn, message_of
from gristmill.core.stages import Context, Estimate, Rejection
from gristmill.synth.preferences.better import Preferring, likeness, told, written
from gristmill.synth.scorers.base import Answered
from gristmill.synth.tool_use.protocols import in_words
from gristmill.verifiers.judges.base import quoted

_INTENT = (
    "{trajectory}\n\nTRAJECTORY is what an agent did. Which task did it carry out? Write the task as its "
    "user would have given it, in one sentence, and nothing else."
)
_NEGATIVE = (
    "{task}\n\n{trajectory}\n\n{action}\n\nAn agent works on TASK. TRAJECTORY is what happened so far, and "
    "ACTION what it did next. Write another action in its place, of the same form, that looks sensible but "
    "does not serve TASK. Write the action alone."
)
_CALL = 30


class TrajectoryPairs(Preferring, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes pairs for a reward model of agents' trajectories, as ARMAP does (arXiv 2502.12130): a model tells
    which task a trajectory carries out, and writes actions that do not serve it.

    The paper's agent explores an environment and its negative trajectories are whole ones. Here the
    conversation is given, and what follows a changed action is not known: a pair holds one action, after the
    task and all turns before it. With ``judge`` or ``scorer`` the action of the trajectory must be found
    better than the one that was written; there is no reference by which a verifier could decide.

    Rejected are conversations without an action, tasks and actions that are cut off or blank or repeat the
    prompt, and actions that say the same. A call of a tool is compared as the text
    ``<tool>NAME {JSON}</tool>``. ``meta`` has the ``task`` and the ``turn`` that is compared.
    """

    reads: ClassVar[type[Struct]] = Conversation
    writes: ClassVar[type[Struct]] = Pair

    judge: dict[str, Any] | None = msgspec.field(default_factory=lambda: {"kind": "judge"})
    """As in the other stages; ``null`` where ``scorer`` decides."""
    each: Annotated[int, Meta(ge=1, le=100)] = 1
    """The actions that are changed of each conversation: the last ones, since these decide most."""
    intent: str = _INTENT
    """The prompt that asks for the task, with ``{trajectory}`` and ``{fence}``; texts are quoted."""
    negative: str = _NEGATIVE
    """The prompt that asks for another action, with ``{task}``, ``{trajectory}``, ``{action}`` and
    ``{fence}``."""
    sampling: Sampling = Sampling(temperature=0.7)
    """How both are sampled."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("intent", self.intent, "trajectory", known=("fence",))
        require("negative", self.negative, "task", "action", known=("trajectory", "fence"))

    async def __call__(self, record: Conversation, context: Context) -> Sequence[Pair | Rejection]:
        """A pair for each changed action, or its rejection."""
        acts = [i for i, turn in enumerate(record.turns) if turn.role == "assistant" and _act(turn).strip()]
        if not acts:
            return [Rejection(record.id, "trajectory: no action in it")]
        seed = context.seed_for(record.id, _CALL)
        texts = quoted(seed, trajectory=_shown(record.turns))
        asked = (Message("user", fill(self.intent, **texts)),)
        task = (await written(context.engine, asked, self.sampling, seed, "task")).text
        if texts["fence"] in task:
            raise RowRejected("task: it repeats the prompt", task[:200])
        return [await self._one(record, i, task, context) for i in acts[-self.each :]]

    async def _one(self, record: Conversation, at: int, task: str, context: Context) -> Pair | Rejection:
        """The pair of one action."""
        id, action = f"{record.id}/trajectory/{at}", record.turns[at]
        seed = context.seed_for(record.id, _CALL + 1 + at)
        before = record.turns[:at]
        texts = quoted(seed, task=task, trajectory=_shown(before), action=_act(action))
        asked = (Message("user", fill(self.negative, **texts)),)
        try:
            other = await written(context.engine, asked, self.sampling, seed, "action")
        except RowRejected as error:
            return Rejection(id, error.reason, error.message)
        if texts["fence"] in other.text:
            return Rejection(id, "action: it repeats the prompt", other.text[:200])
        if likeness(_act(action), other.text) == 1:
            return Rejection(id, "action: it says the same", other.text[:200])
        prompt = (Message("user", task), *map(message_of, before))
        own = (Message("assistant", _act(action), action.reasoning),)
        meta = told(record.meta, task=task, turn=at)
        pair = Pair(id, record.id, "trajectory", prompt, own, other.turn, meta=meta)
        # A judge reads the task with all that happened: an action by itself is neither good nor bad.
        problem = f"{task}\n\n{_shown(before)}" if before else task
        sides = (
            Answered(f"{id}/{name}", record.id, problem, prompt, text, None, RowValues(record))
            for name, text in (("own", _act(action)), ("other", other.text))
        )
        first, second = sides
        return await self.pair(pair, (first, second), record, context)

    def estimate(self, record: Conversation) -> Estimate | None:
        """The task, the other actions, and their comparisons."""
        shown = Answered(record.id, record.id, _shown(record.turns), (), "", None, RowValues(record))
        return self.cost(shown, 1 + self.each, self.each, self.sampling.max_tokens, self.each)


def _shown(turns: Sequence[Turn]) -> str:
    """The turns as a text, each after its role."""
    return "\n\n".join(f"{turn.role}: {_act(turn)}" for turn in turns)


def _act(turn: Turn) -> str:
    """A turn's text, with its calls of tools in words."""
    return in_words(message_of(turn))
