"""A conversation in which a model calls tools until it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Annotated, Any, NamedTuple

from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Completion, Engine, Message, Request, Sampling, ToolCall
from gristmill.core.prompts import fill, require
from gristmill.core.records import ToolRun
from gristmill.synth.tool_use.protocols import INSTRUCTIONS, Native, Protocol, ProtocolName, Textual
from gristmill.verifiers.toolbox import Toolbox, ToolUse

_NONE_LEFT = "no call is left"
_NOW = "You have no more calls. Give your answer now."


class Finished(NamedTuple):
    """A conversation that came to its end."""

    messages: tuple[Message, ...]
    """The turns behind those that were given: the model's and the results, the last answer not among them."""
    answer: Completion
    """The last completion. One that calls a tool again when no call is left ends by ``tool_calls``, and does
    not count as an answer."""
    calls: tuple[ToolRun, ...]
    """The calls; ``turn`` counts from the first of ``messages``."""
    drawn: tuple[Completion, ...]
    """All completions, ``answer`` the last."""


class UsingTools(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of stages in which a model calls tools."""

    tools: Toolbox = Toolbox()
    """The tools that it may call."""
    calls: Annotated[int, Meta(ge=1, le=100)] = 5
    """The most calls of one conversation, 1 to 100. Behind the last one the model is told to answer; a call
    more ends the conversation without an answer."""
    protocol: ProtocolName = "native"
    """``native``: calls as the model's server reads them (``tool_calls``, with an engine that calls tools).
    ``text``: ``<tool>NAME {JSON}</tool>`` at the end of a message, for any model that chats."""
    instructions: str = INSTRUCTIONS
    """With ``text``: what the system message says of the tools, with the places ``{tools}``,
    ``{example_name}`` and ``{example_arguments}``."""
    sampling: Sampling = Sampling(temperature=0.7, max_tokens=1024)
    """How every turn is sampled."""
    keep_reasoning: bool = False
    """Whether a model that reasons is sent what it thought before earlier calls."""

    def __post_init__(self) -> None:
        require("instructions", self.instructions, "tools", known=("example_name", "example_arguments"))

    @property
    def speaks(self) -> Protocol:
        """The protocol at work."""
        return Native(self.tools.schemas()) if self.protocol == "native" else Textual()

    @property
    def abilities(self) -> frozenset[Ability]:
        """What the engine must be able to do."""
        return (Native if self.protocol == "native" else Textual).needs

    def told(self, system: str | None) -> str | None:
        """The system message with what the model is told of the tools."""
        if self.protocol == "native":
            return system
        name, arguments = self.tools.example
        about = fill(
            self.instructions,
            tools=self.tools.described(),
            example_name=name,
            example_arguments=arguments,
        )
        return about if system is None else f"{system}\n\n{about}"

    async def converse(
        self,
        messages: Sequence[Message],
        row: Mapping[str, Any],
        engine: Engine,
        seed: Callable[[int], int],
        index: int,
        *,
        used: int = 0,
    ) -> Finished:
        """Sample ``index`` of the conversation that goes on behind ``messages``, in which ``used`` calls are
        made already. Turn t is drawn with ``seed(t)``. Raises what the engine raises."""
        speaks, passages = self.speaks, self.tools.texts(row)
        sampling = replace(self.sampling, stop=(*self.sampling.stop, *speaks.stops))
        made: list[Message] = []
        runs: list[ToolRun] = []
        drawn: list[Completion] = []
        while True:
            earlier = made if self.keep_reasoning else [replace(m, reasoning="") for m in made]
            request = Request((*messages, *earlier), sampling, seed(len(drawn)), tools=speaks.tools)
            [answer] = await engine.generate(request, first=index)
            drawn.append(answer)
            said = speaks.said(answer)
            calls = speaks.calls(said, answer)
            if not calls or used + len(runs) >= self.calls:
                last = replace(answer, finish_reason="tool_calls") if calls else answer
                return Finished(tuple(made), last, tuple(runs), tuple(drawn))
            results = await self._run(calls, passages, self.calls - used - len(runs), len(made))
            runs += results
            texts = [f"Error: {run.result}" if run.failed else run.result for run in results]
            if used + len(runs) >= self.calls:
                texts[-1] = f"{texts[-1]}\n\n{_NOW}"
            made += [said, *speaks.results(calls, texts)]

    async def _run(
        self, calls: Sequence[ToolCall], passages: tuple[str, ...], left: int, turn: int
    ) -> list[ToolRun]:
        """The calls of one turn, of which ``left`` may be made."""
        return list(
            await asyncio.gather(
                *(self._call(call, passages, i < left, turn) for i, call in enumerate(calls))
            )
        )

    async def _call(self, call: ToolCall, passages: tuple[str, ...], allowed: bool, turn: int) -> ToolRun:
        name, arguments = call.function.name, call.function.arguments
        if not allowed:
            return ToolRun(turn, name, arguments, _NONE_LEFT, failed=True)
        started = perf_counter()
        use: ToolUse = await self.tools.run(call.function, passages)
        return ToolRun(turn, name, arguments, use.output, use.failed, int(perf_counter() - started))
