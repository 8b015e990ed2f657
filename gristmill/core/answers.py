"""What of a reply counts as its answer: what stands behind a model's reasoning, inside its answer tags.

One function for verifiers, judges and self-correction markers, so that a number, a verdict or a letter in the
reasoning of a model is never taken for what it answered.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

REASONING_TAGS = ("think", "thinking", "thought", "reasoning", "reflection", "scratchpad", "seed:think")
"""The names of tags that reasoning models put around what they think before they answer."""

_ANSWER = re.compile(r"<answer>", re.IGNORECASE)
_ANSWER_END = re.compile(r"</answer>", re.IGNORECASE)
_BRACKETED = re.compile(r"\[(/?)THINK\]|<\|(/)?(?:channel\|>analysis)<\|message\|>|◁(/?)think▷")
_FINAL = "<|channel|>final<|message|>"
END_OF_TURN = re.compile(
    r"<\|(?:im_end|endoftext|eot_id|end|return|end_of_text|eom_id|assistant_end|end_of_turn)\|>"
    r"|</s>|<end_of_turn>|<eos>|<｜end▁of▁sentence｜>"
)
"""The tokens with which chat templates end a turn."""

_BLOCKS = (
    ("<think>", "</think>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
)
"""What models put around their reasoning of their own accord. The other ``REASONING_TAGS`` are mostly what a
prompt asked for, and so a part of the answer's form."""


class SplitReply(NamedTuple):
    """A reply as reasoning and answer; ``answer`` is ``None`` where the reasoning did not end."""

    reasoning: str
    answer: str | None


def split_reasoning(text: str, *, begun: bool = False) -> SplitReply:
    """``text`` without the blocks of reasoning that it begins with, and those without their tags.

    A closing tag that nothing opened ends a block that the prompt had begun, as many chat templates do. With
    ``begun`` the prompt is known to do so: a text without a closing tag is all reasoning. White space around
    both parts is dropped; a text without a block is returned as it is.
    """
    mentioned = "think" in text or "THINK" in text  # as in every tag, and in few answers
    for opening, closing in _BLOCKS if mentioned else ():
        rest, thought = text, list[str]()
        opened = rest.lstrip().startswith(opening)
        before, closed, after = rest.partition(closing)
        if not opened and (not closed or opening in before):
            continue
        while opened or not thought:
            before, closed, after = rest.partition(closing)
            thought.append(before.strip().removeprefix(opening).strip())
            rest = after.lstrip()
            if not closed:
                return SplitReply("\n\n".join(filter(None, thought)), None)
            opened = rest.startswith(opening)
        if any(begin in rest.rpartition(end)[2] for begin, end in _BLOCKS):
            return SplitReply("\n\n".join(filter(None, [*thought, rest])), None)
        return SplitReply("\n\n".join(filter(None, thought)), rest)
    return SplitReply(text.strip(), None) if begun else SplitReply("", text)


def in_tags(reasoning: str, answer: str) -> str:
    """A reply in one text, as most reasoning models write it; ``split_reasoning`` takes it apart again."""
    return f"<think>\n{reasoning}\n</think>\n\n{answer}" if reasoning else answer


def final_answer(text: str, tags: Sequence[str] = REASONING_TAGS) -> str | None:
    """The part of ``text`` that is its answer; ``None`` if its reasoning was never finished.

    That is what follows the last closing tag of ``tags`` (the names without brackets), up to an
    end-of-turn token; and of it, where it has ``<answer>`` tags, what is in the last of them. An opening
    tag that nothing closes, of reasoning or of an answer, makes the whole text unfinished. A text without
    any of these is returned as it is.
    """
    if "<" not in text and "[" not in text and "◁" not in text:
        return text
    if _FINAL in text:
        text = text.rpartition(_FINAL)[2]
    text = _without_end(text)
    last_open = last_close = -1
    for found in _pattern(tuple(tags)).finditer(text):
        if found[1]:
            last_close = found.end()
        else:
            last_open = found.start()
    for found in _BRACKETED.finditer(text):
        if found[1] or found[2] or found[3]:
            last_close = max(last_close, found.end())
        else:
            last_open = max(last_open, found.start())
    if last_open >= max(last_close, 0):
        return None
    rest = text[last_close:] if last_close > 0 else text
    return _in_answer_tags(rest)


@lru_cache(maxsize=64)
def _pattern(tags: tuple[str, ...]) -> re.Pattern[str]:
    names = "|".join(map(re.escape, tags)) or r"(?!)"
    return re.compile(rf"<(/?)\s*(?:{names})\s*>", re.IGNORECASE)


def _without_end(text: str) -> str:
    """Without what follows the first end-of-turn token; such a token at the very start is passed over."""
    for found in END_OF_TURN.finditer(text):
        if text[: found.start()].strip():
            return text[: found.start()]
    return text


def _in_answer_tags(text: str) -> str | None:
    start = None
    for found in _ANSWER.finditer(text):
        start = found.end()
    if start is None:
        return text
    end = _ANSWER_END.search(text, start)
    return None if end is None else text[start : end.start()]
