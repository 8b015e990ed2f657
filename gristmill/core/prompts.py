"""Prompt templates: messages with named places in braces, filled in one pass."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gristmill.core.engine import Message
from gristmill.core.errors import RecipeError

_PLACE = re.compile(r"\{([a-z_]+)\}")


def fill(template: str, **values: str) -> str:
    """``template`` with every ``{name}`` for which there is a value put in, in one pass.

    Other braces stay. Those of the data are never looked at, so a problem that contains ``{attempt}``
    stays as it is.
    """
    return _PLACE.sub(lambda m: values.get(m[1], m[0]), template)


def fill_messages(messages: Sequence[Message], **values: str) -> tuple[Message, ...]:
    """``messages`` with their places filled; see ``fill``."""
    return tuple(Message(m.role, fill(m.content, **values)) for m in messages)


def opening(
    problem: str, prompt: str, system: str | None = None, examples: Sequence[Message] = ()
) -> tuple[Message, ...]:
    """The turns that ask for an answer to ``problem``: ``system``, worked ``examples``, then ``prompt`` with
    the problem's text for ``{problem}`` (and for nothing else, so that other braces are data)."""
    first = () if system is None else (Message("system", system),)
    return (*first, *examples, Message("user", prompt.replace("{problem}", problem)))


def places(template: str) -> list[str]:
    """The names of the places of ``template``, in order."""
    return _PLACE.findall(template)


def require(option: str, messages: Sequence[Message], *wanted: str) -> None:
    """Raise ``RecipeError`` unless the prompt that ``option`` gives has each of ``wanted``."""
    have = {place for m in messages for place in places(m.content)}
    for place in wanted:
        if place not in have:
            raise RecipeError(
                f"the prompt {option!r} has no place {{{place}}}.",
                remedy=f"Put {{{place}}} where that text belongs.",
            )
