"""A judge with tools (Themis, arXiv 2310.01045; Anyprefer, arXiv 2504.19276).

The judge may call tools, one at a time, before it gives its verdict. Each call is in the verdict's
detail with its result, so that a verdict can be checked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Completion, Engine, Message, Request, Sampling
from gristmill.core.prompts import fill_messages, require
from gristmill.core.stages import Estimate, derive_seed
from gristmill.core.verdicts import Verdict
from gristmill.verifiers.evidence import decided, unparseable
from gristmill.verifiers.judges.base import Comparison, Winner, bounds, quote, quoted
from gristmill.verifiers.judges.content import judged_part, judged_parts
from gristmill.verifiers.judges.judge import RIGHT, SYSTEM, WRONG
from gristmill.verifiers.judges.replies import Unread, parsed, read_marked
from gristmill.verifiers.raters.base import evidence
from gristmill.verifiers.toolbox import Toolbox, ToolUse

_HOW = (
    "You may use tools before your verdict, one at a time:\n{tools}\n\nTo use one, answer with one JSON "
    'object and nothing else: {"tool": "...", "input": "..."}. Otherwise give your reasons in brief, by what '
    "the tools have shown, and end with your verdict in double brackets, written only once and as the last "
    "thing: {marked}."
)
_SINGLE = Message(
    "user",
    "{problem}\n\n{reference}\n\n{response}\n\nIs RESPONSE a right answer to PROBLEM? Where a REFERENCE is "
    "given, it is right. " + _HOW,
)
_PAIRED = Message(
    "user",
    "{problem}\n\n{reference}\n\n{response_a}\n\n{response_b}\n\nWhich of the two answers PROBLEM better? "
    "Where a REFERENCE is given, it is right. Neither length nor the order of the two matters. " + _HOW,
)


class ToolFinding(NamedTuple):
    """What a judge came to: the label or why none was read, its last reply, and the calls before it."""

    said: str | Unread
    reply: str
    calls: tuple[ToolUse, ...]


class ToolJudge(Struct, frozen=True, forbid_unknown_fields=True):
    """Judges one answer, or two against each other, with tools.

    A call of a tool that fails is shown to the judge as it is, and said in the evidence. A judge that has
    made ``calls`` calls is told to give its verdict; if it calls once more, nothing is decided.
    """

    tools: Toolbox = Toolbox()
    """The tools that it may use."""
    calls: Annotated[int, Meta(ge=1, le=50)] = 5
    """The most calls for one verdict, 1 to 50."""
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=1024)
    """How each reply is sampled."""
    single: tuple[Message, ...] = (SYSTEM, _SINGLE)
    """The prompt for one answer, with ``{problem}``, ``{reference}``, ``{response}``, ``{tools}``,
    ``{marked}`` and ``{fence}``."""
    paired: tuple[Message, ...] = (SYSTEM, _PAIRED)
    """The prompt for two answers, with ``{response_a}`` and ``{response_b}`` in the place of
    ``{response}``."""
    passages: tuple[str, ...] = ()
    """Passages to search in besides those of ``tools``."""

    def __post_init__(self) -> None:
        told = ("problem", "reference", "fence")
        require("single", self.single, "response", "tools", "marked", known=told)
        require("paired", self.paired, "response_a", "response_b", "tools", "marked", known=told)

    @property
    def needs(self) -> frozenset[Ability]:
        """To chat."""
        return frozenset({Ability.CHAT})

    def for_row(self, row: Mapping[str, Any]) -> ToolJudge:
        """This judge with the row's passages."""
        return replace(self, passages=self.tools.texts(row))

    def estimate(self, completion: str, reference: str, *, problem: str) -> Estimate:
        """One reply at least, and one more for each call."""
        return self._estimate(1, problem, reference, completion)

    def estimate_pair(self, first: str, second: str, *, problem: str) -> Estimate:
        """As ``estimate``, for each of the two orders."""
        return self._estimate(2, problem, first, second)

    def _estimate(self, orders: int, *texts: str) -> Estimate:
        cost = bounds(orders, 1, "text", self.sampling.max_tokens, *texts)
        return replace(cost, completions_max=orders * (self.calls + 1))

    async def __call__(
        self, completion: str, reference: str, *, problem: str, engine: Engine, seed: int
    ) -> Verdict:
        """Judge one answer. The detail is JSON: the reply that gave the verdict, and the calls."""
        shown = judged_part(completion)
        if isinstance(shown, Verdict):
            return shown
        values = quoted(seed, problem=problem, reference=reference or None, response=shown)
        found = await self._ask(self.single, values, (RIGHT, WRONG), engine, seed)
        detail = _told(found)
        rule = f"judge with tools: {len(found.calls)} calls"
        if isinstance(found.said, Unread):
            return unparseable(f"{rule}: {found.said.why}", detail)
        return decided(found.said == RIGHT, rule=rule, extracted=found.said, detail=detail)

    async def compare(
        self, first: str, second: str, *, problem: str, engine: Engine, seed: int
    ) -> Comparison:
        """Which of two answers is better. Both orders always run, and must agree; otherwise it is a tie."""
        shown = judged_parts(first, second)
        if isinstance(shown, str):
            return Comparison(None, detail=shown)
        ahead, behind = await asyncio.gather(
            *(
                self._ask(
                    self.paired,
                    quoted(seed, problem=problem, reference=None, response_a=a, response_b=b),
                    ("A", "B"),
                    engine,
                    seed,
                )
                for a, b in (shown, shown[::-1])
            )
        )
        detail = evidence(
            ahead=msgspec.Raw(_told(ahead).encode()), behind=msgspec.Raw(_told(behind).encode())
        )
        if isinstance(ahead.said, Unread) or isinstance(behind.said, Unread):
            return Comparison(None, detail=detail)
        orders = float(ahead.said == "A"), float(behind.said == "B")
        mean = sum(orders) / 2
        winner: Winner = "first" if mean == 1 else "second" if mean == 0 else "tie"
        return Comparison(winner, mean, 1 - mean, orders, detail)

    async def _ask(
        self,
        prompt: Sequence[Message],
        values: Mapping[str, str],
        labels: tuple[str, ...],
        engine: Engine,
        seed: int,
    ) -> ToolFinding:
        marked = " or ".join(f"[[{label}]]" for label in labels)
        messages = fill_messages(prompt, **values, tools=self.tools.described(), marked=marked)
        passages = self.passages or self.tools.texts({})
        calls: list[ToolUse] = []
        while True:
            request = Request(messages, self.sampling, derive_seed(seed, "tool", len(calls)))
            [answer] = await engine.generate(request)
            call = read_call(answer)
            if call is None:
                return ToolFinding(read_marked(answer, labels), answer.text, tuple(calls))
            if len(calls) == self.calls:
                return ToolFinding(
                    Unread(f"it called a tool again after {self.calls} calls"), answer.text, tuple(calls)
                )
            made = await self.tools.call(call.tool, call.input, passages)
            calls.append(made)
            left = self.calls - len(calls)
            more = f"You may call {left} more." if left else "Give your verdict now."
            said = "FAILED" if made.failed else "RESULT"
            told = f"{quote(said, made.output, values['fence'])}\n\n{more}"
            messages = (*messages, Message("assistant", answer.text), Message("user", told))


class _Call(Struct, frozen=True, forbid_unknown_fields=True):
    tool: str
    input: str


def read_call(answer: Completion) -> _Call | None:
    """The call that a finished reply is, in a fence or not; ``None`` for any other reply."""
    found = parsed(answer, lambda text: msgspec.json.decode(text, type=_Call))
    return None if isinstance(found, Unread) else found


def _told(found: ToolFinding) -> str:
    return evidence(reply=found.reply, calls=found.calls)
