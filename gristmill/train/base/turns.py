"""Where a chat template writes the turns of a conversation, and which of its tokens carry loss.

The conversation is rendered twice: as it is, and with marks in the place of what the model said. What stands
around the marks is the template's, so every turn is found where it is, also by templates that treat the last
turn otherwise than earlier ones. Both renderings must agree; a template that changes a turn is refused.

A turn that is trained carries loss from where the model begins to write (after the template's generation
prompt) to the end of the turn that the template writes, included. Where parts of it are marked, only those
do, and the end with the last character.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise, takewhile
from typing import Any, NamedTuple

from msgspec import Struct

from gristmill.core.engine import Role
from gristmill.core.records import Detail, ReasoningPart, Span

IGNORED = -100
"""The label of a token without loss, which PyTorch's cross-entropy ignores."""
_MARK = "\ue000{}{}\ue001"
_MARKS = re.compile("\ue000([0-9]+)([cr])\ue001")


class TrainedTurn(Struct, frozen=True):
    """A message of a training row, with axolotl's loss marks where it has any (``axolotl-chat``)."""

    role: Role
    content: str
    train: bool | None = None
    """Whether it carries loss; without a mark, the assistant's turns do."""
    train_detail: tuple[Detail, ...] | None = None
    """The parts of the content that carry loss, where that is not all of it."""
    reasoning_content: str | tuple[ReasoningPart, ...] | None = None
    """The reasoning before the content, as text (which is trained where all of the turn is) or in parts."""
    tool_calls: Any = None
    """Calls of tools, which are refused."""

    def __post_init__(self) -> None:
        if self.tool_calls or self.role == "tool":
            raise ValueError(
                "a message calls a tool or is a tool's result, which this training does not render; train "
                "such rows with TRL or axolotl, or make them with 'protocol: text'"
            )

    @property
    def said(self) -> bool:
        """Whether it is the model's and carries loss, or a part of it does."""
        return self.role == "assistant" and (self.train is None or self.train)

    @property
    def thought(self) -> str:
        """The reasoning as text."""
        given = self.reasoning_content or ""
        return given if isinstance(given, str) else "".join(part.text for part in given)


class MarkedText(NamedTuple):
    """A text, the parts that carry loss (in order, apart), and where the model begins to write."""

    text: str
    trained: list[Span]
    begins: list[int]


class TokenRow(NamedTuple):
    """A row for the trainer: ``labels`` are the ``input_ids``, or ``IGNORED`` where there is no loss."""

    input_ids: list[int]
    labels: list[int]


class _Place(NamedTuple):
    """Where a piece is in the text, and how many characters the template has cut off before it."""

    start: int
    end: int
    cut: int


def marked_text(turns: Sequence[TrainedTurn], first: int, tokenizer: Any) -> MarkedText:
    """A conversation through the chat template, with loss on the marked turns from index ``first`` on.

    What follows the last of them is left away. ``ValueError`` where the tokenizer has no chat template, or
    the template does not write a turn as it is.
    """
    if getattr(tokenizer, "chat_template", True) in (None, ""):
        raise ValueError("the model has no chat template")
    wanted = [i for i, turn in enumerate(turns) if i >= first and turn.said]
    turns = turns[: wanted[-1] + 1] if wanted else turns
    text = _written(tokenizer, [_plain(turn) for turn in turns])
    places = _places(text, turns, tokenizer)
    trained: list[Span] = []
    begins: list[int] = []
    for i in wanted:
        if (i, "c") not in places or (turns[i].thought and (i, "r") not in places):
            raise ValueError(
                f"the chat template renders a turn differently once other turns follow: it leaves out "
                f"{'the reasoning of ' if (i, 'c') in places else ''}turn {i + 1}, which is trained"
            )
        after = min((p.start for p in places.values() if p.start > places[i, "c"].start), default=len(text))
        end = places[i, "c"].end
        end += len(_ending(text[end:after], turns, i, tokenizer))
        before = max((p.end for p in places.values() if p.end <= places[i, "c"].start), default=0)
        begin = _begin(text, turns, i, places, before, tokenizer)
        trained += _joined(_loss(turns[i], i, places, begin, end))
        begins.append(begin)
    return MarkedText(text, trained, begins)


def tokens(marked: MarkedText, tokenizer: Any) -> TokenRow:
    """A text's tokens with their labels: each belongs to the part that its last character is in.

    The text becomes tokens as a whole, as a server does it. Where a token would lie across the place at which
    the model begins to write, the text is cut there first, since at inference the prompt ends there.
    """
    text, trained, begins = marked
    fast = bool(getattr(tokenizer, "is_fast", False))
    ids, ends = _pieces(text, [], tokenizer, fast)
    if not fast or not {0, *ends}.issuperset(begins):
        edges = begins if fast else [*begins, *(edge for span in trained for edge in (span.start, span.end))]
        ids, ends = _pieces(text, sorted(set(edges)), tokenizer, fast)
    held = [any(span.start < end <= span.end for span in trained) for end in ends]
    return TokenRow(ids, [token if loss else IGNORED for token, loss in zip(ids, held, strict=True)])


def _pieces(text: str, cuts: list[int], tokenizer: Any, fast: bool) -> tuple[list[int], list[int]]:
    """The tokens of a text that is cut at these places, and where each ends."""
    ids: list[int] = []
    ends: list[int] = []
    for start, end in pairwise([0, *cuts, len(text)]):
        asked = {"return_offsets_mapping": True} if fast else {}
        made = tokenizer(text[start:end], add_special_tokens=False, **asked)
        ids += made["input_ids"]
        # A tokenizer that does not say where its tokens are is given each part on its own.
        ends += (
            [start + last for _, last in made["offset_mapping"]] if fast else [end] * len(made["input_ids"])
        )
    return ids, ends


def _plain(turn: TrainedTurn) -> dict[str, str]:
    """A turn as templates take it."""
    thought = {"reasoning_content": turn.thought} if turn.thought else {}
    return {"role": turn.role, "content": turn.content, **thought}


def _written(tokenizer: Any, turns: list[dict[str, str]], ask: bool = False) -> str:
    text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=ask)
    return text


def _with_marks(turns: Sequence[TrainedTurn]) -> list[dict[str, str]]:
    """The turns with marks for what the model said."""
    return [
        {
            key: _MARK.format(i, key[0]) if key != "role" and turn.role == "assistant" else value
            for key, value in _plain(turn).items()
        }
        for i, turn in enumerate(turns)
    ]


def _places(text: str, turns: Sequence[TrainedTurn], tokenizer: Any) -> dict[tuple[int, str], _Place]:
    """Where the model's contents (``c``) and reasonings (``r``) are, by turn. Those left out are missing."""
    opening, *rest = _MARKS.split(_written(tokenizer, _with_marks(turns)))
    places: dict[tuple[int, str], _Place] = {}
    if not text.startswith(opening):
        raise ValueError("the chat template renders a turn differently from what it says")
    at = len(opening)
    for number, kind, literal in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        i = int(number)
        value = turns[i].content if kind == "c" else turns[i].thought
        shown = next(
            (cut for cut in _trims(value) if text.startswith(cut + literal, at) and (i, kind) not in places),
            None,
        )
        if shown is None:
            raise ValueError(f"the chat template renders a turn differently from what turn {i + 1} says")
        places[i, kind] = _Place(at, at + len(shown), value.find(shown))
        at += len(shown) + len(literal)
    if at != len(text):
        raise ValueError("the chat template renders a turn differently from what it says")
    return places


def _trims(value: str) -> list[str]:
    """A text as templates trim it."""
    return [
        value,
        *(cut(part) for part in (None, "\n") for cut in (value.strip, value.lstrip, value.rstrip)),
    ]


def _begin(
    text: str,
    turns: Sequence[TrainedTurn],
    i: int,
    places: dict[tuple[int, str], _Place],
    before: int,
    tokenizer: Any,
) -> int:
    """Where the model begins to write turn ``i``: after the template's generation prompt, if it stands there,
    else where the turn's own words begin."""
    start = places.get((i, "r"), places[i, "c"]).start
    if (i, "r") in places:
        before = max((p.end for p in places.values() if p.end <= start), default=0)
    if not i:
        return start
    earlier = [_plain(turn) for turn in turns[:i]]
    told, asked = _written(tokenizer, earlier), _written(tokenizer, earlier, ask=True)
    prompt = asked[len(told) :] if asked.startswith(told) else ""
    found = text.rfind(prompt, before, start) if prompt else -1
    return start if found < 0 else found + len(prompt)


def _ending(tail: str, turns: Sequence[TrainedTurn], i: int, tokenizer: Any) -> str:
    """What ends turn ``i``, of the text that follows its content up to the next that the model says."""
    if i == len(turns) - 1:
        return tail
    alone = _MARKS.split(_written(tokenizer, _with_marks(turns[: i + 1])))[-1]
    if tail.startswith(alone):
        return alone
    # It ends differently where nothing follows: the first special token ends it here.
    special = [token for token in tokenizer.get_added_vocab() if token in tail]
    if special:
        first = min(special, key=lambda token: (tail.index(token), -len(token)))
        rest = tail[tail.index(first) + len(first) :]
        return tail[: len(tail) - len(rest.lstrip())]
    same = takewhile(lambda two: two[0] == two[1], zip(alone, tail, strict=False))
    return "".join(one for one, _ in same)


def _loss(
    turn: TrainedTurn, i: int, places: dict[tuple[int, str], _Place], begin: int, end: int
) -> list[Span]:
    """The parts of a turn, from ``begin`` to ``end``, that carry loss."""
    content = places[i, "c"]
    parts = turn.reasoning_content if isinstance(turn.reasoning_content, tuple) else ()
    whole = all(part.train for part in parts)
    if turn.train_detail is None and whole:
        return [Span(begin, end)]
    found: list[Span] = []
    if parts:
        place = places[i, "r"]
        at = place.start - place.cut
        for part in parts:
            if part.train:
                found.append(Span(max(at, place.start), min(at + len(part.text), place.end)))
            at += len(part.text)
    if turn.train_detail is None:
        return [*found, Span(content.start, end)]
    for detail in turn.train_detail:
        if detail.train:
            start = content.start - content.cut + detail.begin_offset
            stop = content.start - content.cut + detail.end_offset + 1
            stop = end if stop >= content.end else stop
            found.append(Span(max(start, content.start), stop))
    return found


def _joined(spans: list[Span]) -> list[Span]:
    """The same characters in spans that do not touch, without empty ones."""
    found: list[Span] = []
    for span in sorted((span for span in spans if span.start < span.end), key=lambda span: span.start):
        if found and span.start <= found[-1].end:
            found[-1] = Span(found[-1].start, max(span.end, found[-1].end))
        else:
            found.append(span)
    return found
