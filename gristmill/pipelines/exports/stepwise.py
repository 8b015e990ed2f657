"""Step values as the rows that trainers of process reward models read; see ``exports`` for what one is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from gristmill.core.errors import MissingExtraError, RecipeError, RowRejected
from gristmill.core.exports import Contents, Export
from gristmill.core.steps import ProcessRow, StepAction

INSTALL = "pip install 'gristmill[train]'"


class TaggedText(Struct, frozen=True):
    """A row of ER-PRM's auto-regressive format: ``value`` has one number for each step tag in ``text``."""

    id: str
    text: str
    value: tuple[float, ...]


class Stepwise(Struct, frozen=True):
    """A row of TRL's former stepwise supervision and of axolotl's ``stepwise_supervised``."""

    id: str
    prompt: str
    completions: tuple[str, ...]
    labels: tuple[bool, ...]


class ErPrmText(Export, frozen=True, forbid_unknown_fields=True):
    """``text`` and ``value`` for ER-PRM's trainer (arXiv 2412.11006), with soft targets.

    ``text`` is the question and ``after``, then each step without the space around it, ``before`` and
    ``tag``; ``after`` stands between a tag and the next step. Unlike the authors' converter, the last step
    is tagged too. OpenRLHF's former process reward trainer reads it as well (input key ``text``, label key
    ``value``, the tag as placeholder token, which must then be one token).

    A row whose question or steps hold the tag is dropped, as there would be more tags than values. With
    ``tokenizer`` (a ``tokenizer.json``, a folder with one, or a model's name for transformers) the tag must
    become the same tokens wherever it stands, of no text but its own and ``before``, and those tokens must
    occur once for each value; a row where that fails is dropped, and a tag that fails in plain text is a
    ``RecipeError``. ``kind`` keeps the rows of one kind of label, where the stage made several.

    Mind the trainer's greatest length: a text cut there loses tags, but not their values.
    """

    reads: ClassVar[type[Struct]] = ProcessRow
    writes: ClassVar[type[Struct]] = TaggedText
    contents: ClassVar[Contents] = Contents(filled=("text", "value"))

    tag: Annotated[str, Meta(min_length=1)] = "ки"
    """What stands behind every step; the trainer learns the value there."""
    before: str = " "
    """What stands between a step and its tag."""
    after: str = "\n"
    """What stands behind the question and behind each tag."""
    prompt: Literal["problem", "messages"] = "problem"
    """The question: the problem's text, or all messages that were sent."""
    tokenizer: str | None = None
    """A ``tokenizer.json``, a folder with one, or a model's name, by which the tags are checked."""
    kind: str | None = None
    """Keep only the rows of this kind of label, such as ``soft``; ``null`` keeps all."""

    def rows(self, record: ProcessRow, /) -> Sequence[TaggedText]:
        """One row."""
        _refuse_other(record, self.kind)
        question = question_of(record, self.prompt).strip()
        steps = [step.strip() for step in record.steps]
        if any(self.tag in text for text in (question, *steps)):
            raise RowRejected("holds the step tag", f"Choose a tag other than {self.tag!r}.")
        closed = (f"{step}{self.before}{self.tag}" for step in steps)
        text = self.after.join((question, *closed))
        # Of overlapping ones too: a step's end and "aba" may make "ababa".
        if len(re.findall(f"(?={re.escape(self.tag)})", text)) != len(record.values):
            raise RowRejected("has more or fewer step tags than values", f"the tag is {self.tag!r}")
        if self.tokenizer is not None:
            encode = encoder(self.tokenizer)
            wanted = self._wanted(encode)
            if fault := tag_fault(encode(text), text, self.tag, self.before, wanted, len(record.values)):
                raise RowRejected(fault, f"the tag {self.tag!r} should be the tokens {list(wanted)}")
        return [TaggedText(record.id, text, record.values)]

    def faults(self, row: Mapping[str, Any], /) -> Iterator[str]:
        """The trainer takes a value for each step tag."""
        if row["text"].count(self.tag) != len(row["value"]):
            yield "more or fewer step tags than values"

    def _wanted(self, encode: Encode) -> tuple[int, ...]:
        """The tokens of the tag, as a plain text has them."""
        wanted = tag_tokens(encode, self.tag, self.before, self.after)
        if wanted is None:
            raise RecipeError(
                f"the step tag {self.tag!r} is not always the same tokens in {self.tokenizer!r}.",
                remedy="Choose another tag (or 'before' and 'after'), such as one of its special tokens.",
            )
        return wanted


class Token(NamedTuple):
    """A token's id and the characters ``start:end`` that it came from."""

    id: int
    start: int
    end: int


Encode = Callable[[str], Sequence[Token]]
"""A tokenizer, without the special tokens that it puts around a text."""


def tag_tokens(encode: Encode, tag: str, before: str, after: str) -> tuple[int, ...] | None:
    """The tokens of the step tag in a plain text; ``None`` if they differ from place to place."""
    endings = ("so x = 1", "and so on.", "$y^2$", "(2)", "word", "3.\n```\ncode\n```")
    text = after.join(f"{ending}{before}{tag}" for ending in endings)
    tokens = encode(text)
    start = text.find(tag)
    wanted = tuple(t.id for t in tokens if t.start < start + len(tag) and t.end > start)
    return None if tag_fault(tokens, text, tag, before, wanted, len(endings)) else wanted


def tag_fault(
    tokens: Sequence[Token], text: str, tag: str, before: str, wanted: tuple[int, ...], count: int
) -> str:
    """Why a trainer would not find ``count`` tags, each the tokens ``wanted``, in an encoded text; or ``""``.

    A tag's tokens may take in ``before``, never anything of the step or of what follows.
    """
    place, at = -1, 0
    for _ in range(text.count(tag)):
        place = text.find(tag, place + 1)
        end = place + len(tag)
        while at < len(tokens) and tokens[at].end <= place:
            at += 1
        own = []
        while at < len(tokens) and tokens[at].start < end:
            own.append(tokens[at])
            at += 1
        if tuple(t.id for t in own) != wanted:
            return "the step tag is not the same tokens everywhere"
        if not own or own[0].start < place - len(before) or own[-1].end > end:
            return "the step tag shares a token with its neighbours"
        place = end - 1
    ids, width = [t.id for t in tokens], len(wanted)
    found = sum(tuple(ids[i : i + width]) == wanted for i in range(len(ids) - width + 1))
    return "" if found == count else "the tokens of the step tag stand elsewhere too"


class _TokenizerFile(Struct):
    """What any ``tokenizer.json`` holds."""

    model: dict[str, object]


@cache
def encoder(name: str) -> Encode:
    """The tokenizer of a file, a folder or a model; loaded once.

    Raises ``MissingExtraError`` without the libraries, ``RecipeError`` for what is not a fast tokenizer.
    """
    path = Path(name)
    path = path / "tokenizer.json" if path.is_dir() else path
    try:
        return _from_file(path) if path.is_file() else _from_hub(name)
    except ImportError as e:
        raise MissingExtraError(f"{e.name or 'transformers'}", install=INSTALL) from e


def _from_file(path: Path) -> Encode:
    from tokenizers import Tokenizer

    try:
        held = path.read_bytes()
        # The library's own error for another file is a bare Exception.
        msgspec.json.decode(held, type=_TokenizerFile)
    except (OSError, msgspec.DecodeError) as e:
        raise RecipeError(
            f"{path} is not a tokenizer: {e}.", remedy="Name a tokenizer.json or a folder with one."
        ) from e
    loaded = Tokenizer.from_buffer(held)

    def encode(text: str) -> list[Token]:
        made = loaded.encode(text, add_special_tokens=False)
        return [Token(i, a, b) for i, (a, b) in zip(made.ids, made.offsets, strict=True)]

    return encode


def _from_hub(name: str) -> Encode:
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as e:
        reason = str(e).splitlines()[0]
        raise RecipeError(
            f"no tokenizer {name!r}: {reason}", remedy="Name a tokenizer.json or a folder with one."
        ) from e
    if not loaded.is_fast:
        raise RecipeError(
            f"the tokenizer of {name!r} does not say which characters a token came from.",
            remedy="Use a model with a fast tokenizer (one with a tokenizer.json).",
        )

    def encode(text: str) -> list[Token]:
        made = loaded(text, add_special_tokens=False, return_offsets_mapping=True)
        return [Token(i, a, b) for i, (a, b) in zip(made["input_ids"], made["offset_mapping"], strict=True)]

    return encode


class TrlStepwise(Export, frozen=True, forbid_unknown_fields=True):
    """``prompt``, ``completions`` and ``labels``: TRL's former stepwise supervision, for its ``PRMTrainer``
    (moved to ``trl.experimental.prm`` and then removed), and axolotl's ``type: stepwise_supervised`` with
    ``process_reward_model: true``.

    Both put a step separator after each completion (in axolotl a line break, always) and nothing before
    the first, so steps come without the space around them and the prompt ends with ``prompt_end``.

    A label is true where the value is greater than ``threshold``, or equal to it if ``inclusive``. The
    default, any value above 0, makes hard labels of soft ones (the best threshold of Qwen's Lessons, arXiv
    2501.07301). ``kind`` keeps the rows of one kind of label. A step that was space alone is an empty
    completion, with its label.
    """

    reads: ClassVar[type[Struct]] = ProcessRow
    writes: ClassVar[type[Struct]] = Stepwise
    contents: ClassVar[Contents] = Contents(
        filled=("prompt", "completions"), aligned=("completions", "labels")
    )

    threshold: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """A label is true where the value is above this."""
    inclusive: bool = False
    """A label is also true where the value equals ``threshold``."""
    prompt: Literal["problem", "messages"] = "problem"
    """The question: the problem's text, or all messages that were sent."""
    prompt_end: str = "\n"
    """What the prompt ends with."""
    kind: str | None = None
    """Keep only the rows of this kind of label, such as ``soft``; ``null`` keeps all."""

    def rows(self, record: ProcessRow, /) -> Sequence[Stepwise]:
        """One row."""
        _refuse_other(record, self.kind)
        labels = (v >= self.threshold if self.inclusive else v > self.threshold for v in record.values)
        return [
            Stepwise(
                record.id,
                question_of(record, self.prompt).strip() + self.prompt_end,
                tuple(step.strip() for step in record.steps),
                tuple(labels),
            )
        ]


class PrmRows(Export, frozen=True, forbid_unknown_fields=True):
    """The rows as they are: prompt, steps, values, counts, intervals and the kind of label."""

    reads: ClassVar[type[Struct]] = ProcessRow
    writes: ClassVar[type[Struct]] = ProcessRow
    suffix: ClassVar[str] = ".parquet"

    def rows(self, record: ProcessRow, /) -> Sequence[ProcessRow]:
        """The record."""
        return [record]


class StepActionRows(Export, frozen=True, forbid_unknown_fields=True):
    """State, action, value, advantage and reward of each step, for reinforcement learning."""

    reads: ClassVar[type[Struct]] = StepAction
    writes: ClassVar[type[Struct]] = StepAction
    suffix: ClassVar[str] = ".parquet"

    def rows(self, record: StepAction, /) -> Sequence[StepAction]:
        """The record."""
        return [record]


def question_of(record: ProcessRow, prompt: Literal["problem", "messages"]) -> str:
    """What a process reward model is asked: the bare problem, or all that the solver was told, its
    messages parted by blank lines."""
    return record.problem if prompt == "problem" else "\n\n".join(m.content for m in record.prompt)


def _refuse_other(record: ProcessRow, kind: str | None) -> None:
    if kind is not None and record.kind != kind:
        raise RowRejected("of another kind of label", f"it is {record.kind}, not {kind}")
