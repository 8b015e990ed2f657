"""What the model is asked in each turn, how its verdict is read, and how the turns become training text.

Two things are kept apart. ``Prompts`` is what the engine sees while sampling: any messages, worked
examples included. ``CorrectionDialogue`` is what the exported data hold: no worked example ever does.
Both are plain data that a recipe can override.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from gristmill.core.answers import final_answer
from gristmill.core.engine import Message, Request, Sampling
from gristmill.core.errors import RecipeError
from gristmill.core.prompts import fill, fill_messages, require, row_places
from gristmill.core.records import Span, Style, Subset, Turn

_NONE: Mapping[str, str] = {}


class Said(NamedTuple):
    """What a model said, and what it thought before."""

    text: str
    reasoning: str = ""


class TurnPrompt(Struct, frozen=True, forbid_unknown_fields=True):
    """How one turn is asked for.

    Places are the row's columns, ``{problem}`` among them, and of what came before: ``{attempt}`` and
    ``{answer}``, which the verifier read from it, once there is an attempt, and ``{evaluation}`` in the
    correction. ``{answer}`` is never the reference, which no prompt is given.
    """

    messages: tuple[Message, ...]
    """The messages to send, worked examples included."""
    sampling: Sampling = Sampling()
    """How the turn is sampled."""
    prefix: str = ""
    """The beginning of the model's answer, which is part of its text."""

    def request(
        self, seed: int, row: Mapping[str, Any], reasoning: Mapping[str, str] = _NONE, **values: str
    ) -> Request:
        """The request for this turn about one problem. ``RowRejected`` where it lacks a column.

        ``reasoning`` is what the model thought before it said what is in a place: it is sent with the
        assistant's turns that are that place alone.
        """
        filled = fill_messages(self.messages, row, **values)
        if any(reasoning.values()):
            thought = {f"{{{place}}}": text for place, text in reasoning.items()}
            filled = tuple(
                replace(m, reasoning=thought.get(t.content, "")) if m.role == "assistant" else m
                for t, m in zip(self.messages, filled, strict=True)
            )
        return Request(filled, self.sampling, seed, self.prefix)


OWN_PLACES: dict[str, frozenset[str]] = {
    "attempt": frozenset(),
    "evaluation": frozenset({"attempt", "answer"}),
    "correction": frozenset({"attempt", "answer", "evaluation"}),
}
"""The places that each turn fills from what came before it."""


class Prompts(Struct, frozen=True, forbid_unknown_fields=True):
    """The three turns as the engine is asked for them."""

    attempt: TurnPrompt
    """How an attempt is asked for."""
    evaluation: TurnPrompt
    """How a self-evaluation is asked for."""
    correction: TurnPrompt
    """How a correction is asked for."""

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What each turn wants of a row. ``RecipeError`` for a turn that names what only later ones have:
        the row's own ``{answer}`` would be the reference."""
        wanted: dict[str, frozenset[str]] = {}
        for turn, own in OWN_PLACES.items():
            wanted |= row_places(own, **{turn: getattr(self, turn).messages})
            if early := sorted(wanted[turn] & OWN_PLACES["correction"]):
                raise RecipeError(
                    f"the prompt of the {turn} has the place {{{early[0]}}}, which is not there yet.",
                    remedy=f"Take {{{early[0]}}} out of it, or put it into a later turn.",
                )
        return wanted


class PromptOverrides(Struct, frozen=True, forbid_unknown_fields=True):
    """The turns whose prompts a recipe replaces; the others keep the style's own."""

    attempt: TurnPrompt | None = None
    """How an attempt is asked for."""
    evaluation: TurnPrompt | None = None
    """How a self-evaluation is asked for."""
    correction: TurnPrompt | None = None
    """How a correction is asked for."""

    def over(self, prompts: Prompts) -> Prompts:
        """``prompts`` with these turns replaced."""
        given = {f: getattr(self, f) for f in self.__struct_fields__ if getattr(self, f) is not None}
        return replace(prompts, **given)


class Marker(Struct, frozen=True, forbid_unknown_fields=True):
    """The two endings of a self-evaluation. A verdict counts if exactly one of them is in the text,
    once, at its very end; its full stop may be missing."""

    correct: str = "[VERIFY] correct."
    """The ending that calls the attempt right."""
    wrong: str = "[VERIFY] wrong."
    """The ending that calls it wrong."""

    def read(self, text: str) -> tuple[bool, str] | None:
        """(says correct, text cut before the marker and closed with the marker in full), or ``None``.

        What a model reasons before it answers (``core.answers``) says nothing, and is not part of the text.
        """
        text = final_answer(text) or ""
        tag, anywhere, ending = _marker_patterns(self.correct, self.wrong)
        end = ending.search(text)
        if end is None or len(anywhere.findall(text)) != 1 or (tag and text.count(tag) != 1):
            return None
        says_correct = end[1] == self.correct.removesuffix(".")
        body = text[: end.start()].rstrip()
        marker = self.correct if says_correct else self.wrong
        return says_correct, f"{body}\n{marker}" if body else marker


@cache
def _marker_patterns(correct: str, wrong: str) -> tuple[str, re.Pattern[str], re.Pattern[str]]:
    """The tag that both markers begin with, a pattern for either marker, and one anchored at the end."""
    bare = correct.removesuffix("."), wrong.removesuffix(".")
    if not all(bare) or bare[0].startswith(bare[1]) or bare[1].startswith(bare[0]):
        raise RecipeError(
            f"the markers {correct!r} and {wrong!r} cannot be told apart.",
            remedy="Choose two markers of which neither begins with the other.",
        )
    # A bracketed tag that both begin with must not be elsewhere in the text either.
    tags = [t[0] if (t := re.match(r"[\[<]\S+[\]>]", m)) else "" for m in bare]
    tag = tags[0] if tags[0] == tags[1] else ""
    either = rf"(?<!\w)({re.escape(bare[0])}|{re.escape(bare[1])})(?!\w)"
    return tag, re.compile(either), re.compile(rf"{either}\.?\s*\Z")


class CorrectionDialogue(Struct, frozen=True, forbid_unknown_fields=True):
    """The words around the model's own in the exported data."""

    system: str = ""
    """The system message; empty: none."""
    problem: str = "{problem}"
    """The user turn with the problem."""
    evaluate: str = ""
    """The user turn that asks for the evaluation (styles ``verify`` and ``yes_no``)."""
    correct: str = ""
    """The user turn that asks for the correction (style ``verify``)."""
    check: str = "\n\n"
    """What joins the attempt and the evaluation where they share one assistant turn."""
    revise: str = "\n\n"
    """What joins the evaluation and the correction where they share one assistant turn."""

    def __post_init__(self) -> None:
        require("dialogue.problem", self.problem, known=("problem",))


_BOXED = "Reason step by step and put the final answer in \\boxed{}."
_MARKERS: dict[Style, Marker] = {
    "verify": Marker(),
    "yes_no": Marker(correct="Yes.", wrong="No."),
    "merged": Marker(),
}
_DIALOGUES: dict[Style, CorrectionDialogue] = {
    "verify": CorrectionDialogue(
        system=_BOXED,
        evaluate=(
            "Check your last answer step by step. End with exactly one of these lines: "
            "[VERIFY] correct. or [VERIFY] wrong."
        ),
        correct=(
            "You judged your answer wrong. Find the error, solve the problem again, "
            "and put the final answer in \\boxed{}."
        ),
    ),
    "yes_no": CorrectionDialogue(
        system=_BOXED,
        evaluate=(
            "Is your most recent answer correct? Check it and end the check with Yes. or No. "
            "After No., give the corrected solution with the final answer in \\boxed{}."
        ),
    ),
    "merged": CorrectionDialogue(
        system=_BOXED, check="\n\nLet me check this answer.\n", revise="\n\nLet me solve it again.\n"
    ),
}


def marker_of(style: Style) -> Marker:
    """The marker that a style reads."""
    return _MARKERS[style]


def dialogue_of(style: Style) -> CorrectionDialogue:
    """The words that a style exports."""
    return _DIALOGUES[style]


def prompts_of(style: Style) -> Prompts:
    """A style's own prompts: zero-shot, for models that follow instructions. Small models need examples."""
    marker = marker_of(style)
    told = Message("system", _BOXED)
    asked, answered = Message("user", "{problem}"), Message("assistant", "{attempt}")
    check = Message(
        "user",
        "Check your last answer step by step. The last line of your check must be exactly "
        f"'{marker.correct}' if the answer is right or '{marker.wrong}' if it is not. Write it only once.",
    )
    revise = Message("user", _DIALOGUES["verify"].correct)
    return Prompts(
        attempt=TurnPrompt((told, asked)),
        evaluation=TurnPrompt((told, asked, answered, check)),
        correction=TurnPrompt((told, asked, answered, check, Message("assistant", "{evaluation}"), revise)),
    )


# Which of attempt, evaluation and correction carry loss (arXiv 2502.19613, section 3.1): a wrong attempt
# and a false verdict are never imitated.
LOSS: dict[Subset, tuple[bool, bool, bool]] = {
    "D1": (False, True, True),
    "D2": (False, False, True),
    "D3": (True, True, False),
}


def assemble(
    style: Style,
    dialogue: CorrectionDialogue,
    problem: str,
    parts: Sequence[tuple[Said, bool]],
) -> tuple[Turn, ...]:
    """The exported turns. ``parts``: attempt, evaluation and (if any) correction, each with its loss mark.

    A turn of several parts has the reasoning of the first: that of the others would stand before what it is
    about.
    """
    turns = [Turn("system", dialogue.system, False)] if dialogue.system else []
    turns.append(Turn("user", fill(dialogue.problem, problem=problem), False))
    joiners = (dialogue.check, dialogue.revise)
    # The user turn before each part after the first; None where it shares the turn of the part before.
    asks: dict[Style, tuple[str | None, str | None]] = {
        "verify": (dialogue.evaluate, dialogue.correct),
        "yes_no": (dialogue.evaluate, None),
        "merged": (None, None),
    }
    group = [parts[0]]
    for ask, joiner, (said, train) in zip(asks[style], joiners, parts[1:], strict=False):
        if ask is None:
            group.append((said._replace(text=joiner + said.text), train))
        else:
            turns += [_join(group), Turn("user", ask, False)]
            group = [(said, train)]
    return (*turns, _join(group))


def _join(group: Sequence[tuple[Said, bool]]) -> Turn:
    """One assistant turn of several parts, with the spans of those that carry loss."""
    content, spans = "", list[Span]()
    for said, train in group:
        start, content = len(content), content + said.text
        if train and spans and spans[-1].end == start:
            spans[-1] = Span(spans[-1].start, len(content))
        elif train:
            spans.append(Span(start, len(content)))
    whole = spans == [Span(0, len(content))]
    return Turn("assistant", content, bool(spans), () if whole else tuple(spans), group[0][0].reasoning)
