"""``simulated_dialogues``: conversations in which a model plays the user."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from gristmill.core.answers import final_answer
from gristmill.core.engine import Ability, Completion, Message, Request, Sampling
from gristmill.core.errors import RowRejected
from gristmill.core.prompts import RowValues, fill, require_row, row_places
from gristmill.core.records import Problem, Sampled, Turn, turn_of
from gristmill.core.stages import Context, Estimate, Rejection, RowStage, alike

_CHARS_PER_TOKEN = 4
"""For estimates only: English text under a byte-pair tokenizer."""
_USER_CALL = 1_000
"""Seeds of the user's turns are derived apart from those of the assistant's."""
_CHAT = frozenset({Ability.CHAT})
_PLAY = (
    "You play a person who talks with an assistant. What you want from it:\n\n{problem}\n\nWrite only what "
    "this person says next, in one to three sentences. Say what you want bit by bit and in your own words, "
    "answer what you are asked, and complain where an answer does not help. You are not the assistant: never "
    "answer in its place. When you have what you want, write [DONE] and nothing else."
)
_BEGIN = "The assistant waits for you. Write the first thing that you say to it."


class DialogueSample(Sampled, frozen=True):
    """A dialogue with a simulated user: what a ``Sampled`` has, with ``completion`` the last answer.

    ``turns`` are the whole dialogue; the assistant's carry loss, the user's never do. ``ended`` says why it
    ended: ``satisfied`` (the user said the stop word), ``turns`` (as many as are allowed), or ``unfinished``
    (an answer was cut off).
    """

    turns: tuple[Turn, ...] = ()
    ended: Literal["satisfied", "turns", "unfinished"] = "turns"


class _Spoken(NamedTuple):
    """A dialogue as it stands: what the assistant is sent, and all completions of both."""

    messages: tuple[Message, ...]
    answers: list[Completion]
    users: list[Completion]
    ended: Literal["satisfied", "turns", "unfinished"]


class SimulatedDialogues(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Samples dialogues between a user that one model plays and an assistant that another one is.

    The two are kept apart: the assistant is never sent what the user is told to want, and the user never the
    assistant's system message. The user sees the dialogue from its own side, with the assistant as the other
    speaker. This is the data of GTAlign (arXiv 2510.08872) and RLPA (arXiv 2505.15456); their rewards are
    scores that are put on the rows (``docs/dialogues.md``). The papers train while they talk; here the
    dialogues are sampled first.

    Rejected are dialogues whose user's turn is cut off or blank, or in which the user stops before anything
    was asked.
    """

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = DialogueSample

    samples: Annotated[int, Meta(ge=1)] = 1
    """The dialogues of each row."""
    turns: Annotated[int, Meta(ge=1, le=50)] = 4
    """The most turns of the user, 1 to 50; each is answered."""
    user_engine: str | None = None
    """The name of the engine that plays the user; ``null`` is the stage's own, which then talks to itself."""
    user: str = _PLAY
    """The system message of the user's engine: whom it plays and what this person wants. With places for the
    row's columns, of which it must name one."""
    begin: str = _BEGIN
    """What the user's engine is told to begin. Not used with ``opening``."""
    opening: str | None = None
    """The user's first turn, with places for the row's columns, such as ``{problem}``; ``null``: the user's
    engine writes it."""
    stop: Annotated[str, Meta(min_length=1)] = "[DONE]"
    """What the user writes to end the dialogue. Text before it in the same turn is not said."""
    system: str | None = None
    """The assistant's system message, with places for the row's columns."""
    sampling: Sampling = msgspec.field(default_factory=Sampling)
    """How the assistant's turns are sampled."""
    user_sampling: Sampling = msgspec.field(default_factory=lambda: Sampling(max_tokens=160))
    """How the user's turns are sampled."""
    verify: bool = True
    """Whether the recipe's verifier judges the last answer where the row has a reference."""

    def __post_init__(self) -> None:
        require_row("simulated_dialogues", "user", self.places["user"])

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row, by option."""
        return row_places(user=self.user, system=self.system, opening=self.opening)

    @property
    def needs(self) -> frozenset[Ability]:
        """To chat."""
        return _CHAT

    @property
    def uses(self) -> Mapping[str, frozenset[Ability]]:
        """The engine that plays the user."""
        return {} if self.user_engine is None else {self.user_engine: _CHAT}

    @property
    def verifies(self) -> bool:
        """Whether the last answers are judged."""
        return self.verify

    def cautions(self) -> Sequence[str]:
        """Dialogues that would all be alike, and a model that talks to itself."""
        own = ["One model is user and assistant. Name another one as user_engine."]
        return [*alike(self.samples, self.sampling, "sampling"), *(own if self.user_engine is None else [])]

    def estimate(self, problem: Problem) -> Estimate:
        """A turn of each at least, and ``turns`` of each at most."""
        own = self.opening is None
        tokens = max(self.sampling.max_tokens, self.user_sampling.max_tokens)
        chars = len(problem.problem) + len(self.user) + len(self.system or "")
        prompt = chars // _CHARS_PER_TOKEN + self.turns * tokens
        return Estimate(
            self.samples * (1 + own),
            self.samples * (2 * self.turns - (not own)),
            prompt,
            tokens,
            rows_max=self.samples,
        )

    async def __call__(self, problem: Problem, context: Context) -> Sequence[DialogueSample | Rejection]:
        """A dialogue for each sample, or a rejection."""
        row = RowValues(problem)
        plays = fill(self.user, row)
        first = () if self.system is None else (Message("system", fill(self.system, row)),)
        opening = None if self.opening is None else fill(self.opening, row)
        calls = (self._one(problem, plays, first, opening, i, context) for i in range(self.samples))
        return await asyncio.gather(*calls)

    async def _one(
        self,
        problem: Problem,
        plays: str,
        first: tuple[Message, ...],
        opening: str | None,
        index: int,
        context: Context,
    ) -> DialogueSample | Rejection:
        name = f"{problem.id}/{index}"
        try:
            spoken = await self._talk(problem.id, plays, first, opening, index, context)
        except RowRejected as error:
            return Rejection(name, error.reason, error.message)
        last = spoken.answers[-1]
        context.measure("user turns", len(spoken.answers))
        verdict = None
        if self.verify and problem.answer is not None:
            verdict = await context.judge(last, problem.answer)
        turns = [turn_of(m, train=m.role == "assistant") for m in spoken.messages]
        turns.append(Turn("assistant", last.text, True, reasoning=last.reasoning))
        drawn = [*spoken.answers, *spoken.users]
        return DialogueSample(
            id=name,
            problem_id=problem.id,
            index=index,
            problem=problem.problem,
            answer=problem.answer,
            messages=spoken.messages,
            completion=last.text,
            finish_reason=last.finish_reason,
            prompt_tokens=sum(c.prompt_tokens for c in drawn),
            completion_tokens=sum(c.completion_tokens for c in drawn),
            verdict=verdict,
            meta=problem.meta,
            reasoning=last.reasoning,
            reasoning_tokens=sum(c.reasoning_tokens for c in drawn),
            turns=tuple(turns),
            ended=spoken.ended,
        )

    async def _talk(
        self,
        owner: str,
        plays: str,
        first: tuple[Message, ...],
        opening: str | None,
        index: int,
        context: Context,
    ) -> _Spoken:
        """The dialogue, up to its last answer. Turn t of each speaker is drawn with a seed of its own."""
        answers: list[Completion] = []
        users: list[Completion] = []
        messages = first
        for turn in range(self.turns):
            said: str | None = opening
            if turn or opening is None:
                said, drawn = await self._user_turn(
                    owner, plays, messages[len(first) :], turn, index, context
                )
                users.append(drawn)
            if said is None:
                if not answers:
                    raise RowRejected("the user stops before anything was asked")
                return _Spoken(messages[:-1], answers, users, "satisfied")
            asked = (*messages, Message("user", said))
            request = Request(asked, self.sampling, context.seed_for(owner, turn))
            [answer] = await context.engine.generate(request, first=index)
            answers.append(answer)
            if not answer.finished or turn == self.turns - 1:
                return _Spoken(asked, answers, users, "turns" if answer.finished else "unfinished")
            messages = (*asked, Message("assistant", answer.text, answer.reasoning))
        raise AssertionError("a dialogue has at least one turn")

    async def _user_turn(
        self, owner: str, plays: str, talk: Sequence[Message], turn: int, index: int, context: Context
    ) -> tuple[str | None, Completion]:
        """What the user says next; ``None`` where it ends the dialogue."""
        other = {"assistant": "user", "user": "assistant"}
        seen = [Message(other[m.role], m.content) for m in talk]  # type: ignore[arg-type]
        asked = (Message("system", plays), Message("user", self.begin), *seen)
        request = Request(asked, self.user_sampling, context.seed_for(owner, _USER_CALL + turn))
        [drawn] = await context.named(self.user_engine).generate(request, first=index)
        if not drawn.finished:
            raise RowRejected("the user's turn is cut off", f"turn {turn + 1}: {drawn.finish_reason}")
        said = final_answer(drawn.text)
        if said is not None and self.stop in said:
            return None, drawn
        if said is None or not said.strip():
            raise RowRejected("the user's turn is blank", f"turn {turn + 1}")
        return said.strip(), drawn
