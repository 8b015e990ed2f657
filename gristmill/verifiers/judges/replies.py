"""How a judge's reply in words is read: strictly, and with the reason where it cannot be.

Judges are trained and prompted to end their replies in many forms. ``read_marked`` takes only the one that
our own prompts ask for; ``read_published`` (in ``published``) the forms of published judges.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec import Struct

from gristmill.core.answers import END_OF_TURN, final_answer
from gristmill.core.engine import Completion

T = TypeVar("T")

DENIED = re.compile(
    r"(?:\b(?:not|never|neither|nor|cannot|hardly|isnt)|n['’]t"
    r"|\b(?:rather than|instead of|far from|anything but|opposite of))"
    r"(?:[\s\"'*`]+(?:a|an|the|be|been|being|at|all|as|so|quite|really|fully|entirely|completely|necessarily"
    r"|exactly|strictly|actually|yet|clearly|considered|called|judged|say|marked|call|it|this))*[\s\"'*`]*\Z"
    r"|\bwould(?:\s+(?:only|just|then|have|been|be))*\s+(?:be|been)\s*\Z"
    r"|\b(?:whether|not that|unless)\b[^.:!?\n\[\]]*\Z",
    re.IGNORECASE,
)
"""Words that deny the verdict that follows them, or make it one that only might be."""
_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)


class Unread(Struct, frozen=True):
    """An answer that could not be read, and why."""

    why: str


def read_marked(answer: Completion, labels: Sequence[str]) -> str | Unread:
    """The label in double brackets at the very end of a finished answer, which must be the only one."""
    pattern = r"\[\[\s*(" + "|".join(re.escape(label) for label in labels) + r")\s*\]\]"
    said = read_ending(answer, pattern)
    if isinstance(said, Unread):
        return said
    return next(label for label in labels if label.casefold() == said.casefold())


def read_ending(answer: Completion, pattern: str) -> str | Unread:
    """Group 1 of the only match of ``pattern``, which must end a finished answer. Ignores case.

    What a reasoning model thought before its answer does not count, and neither does a match that the words
    before it deny: "this is not [[correct]]".
    """
    if not answer.finished:
        return Unread(f"finish_reason {answer.finish_reason}")
    text = after_reasoning(answer.text)
    if text is None:
        return Unread("its reasoning is not closed")
    found = list(re.finditer(pattern, text, re.IGNORECASE))
    if len(found) != 1:
        return Unread(f"{len(found)} verdicts" if found else f"no verdict in {text[-60:]!r}")
    if END_OF_TURN.sub("", text[found[0].end() :]).strip(" \t\r\n.*`"):
        return Unread("text after the verdict")
    if denied := DENIED.search(text[max(0, found[0].start() - 80) : found[0].start()]):
        return Unread(f"a verdict that is denied: {denied[0].strip()!r}")
    return found[0][1]


def after_reasoning(reply: str) -> str | None:
    """A reply without the reasoning before it; ``None`` if that is not closed.

    Only what ends the reply is taken, so that a judge that repeats end-of-turn tokens of the text that it
    judges is not cut off there.
    """
    said = final_answer(reply)
    return said if said is None or reply.rstrip().endswith(said.rstrip()) else reply


def parsed(answer: Completion, parse: Callable[[str], T]) -> T | Unread:
    """What ``parse`` makes of a finished JSON answer, which may be in a fence. ``parse`` raises
    ``ValueError`` for what is not as requested."""
    if not answer.finished:
        return Unread(f"it was cut off (finish_reason {answer.finish_reason})")
    text = after_reasoning(answer.text)
    if text is None:
        return Unread("its reasoning is not closed")
    fenced = _FENCED.fullmatch(text)
    try:
        return parse(fenced[1] if fenced else text)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        return Unread(str(error)[:300])
