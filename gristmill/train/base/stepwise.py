"""Rows of process reward models: steps with labels or values, and answers with labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct

from gristmill.core.errors import InputError, RecipeError
from gristmill.synth.scorers.reward import tagged
from gristmill.train.base.conversations import conversation, messages_of
from gristmill.train.base.data import read_as, remedy
from gristmill.train.base.options import Training
from gristmill.train.base.rows import IGNORED, TokenRow, TrainingRow, encode
from gristmill.train.base.turns import TrainedTurn

KIND = "process_reward"
_LIKELY = ("ки", "<extra_0>", "<|step|>", "+", "-", " +", " -", "good", "bad", "yes", "no", "Yes", "No")


class StepRow(Struct, frozen=True):
    """A line of ``prm-rows``, ``trl-stepwise`` or ``trl-kto``."""

    prompt: tuple[TrainedTurn, ...] | str = ()
    steps: tuple[str, ...] | None = None
    values: tuple[float, ...] | None = None
    kind: str | None = None
    completions: tuple[str, ...] | None = None
    labels: tuple[bool, ...] | None = None
    completion: tuple[TrainedTurn, ...] | str | None = None
    label: bool | None = None


class Steps(NamedTuple):
    """The tokens of a conversation, which of them are step tags, and the value of each."""

    tokens: list[int]
    places: list[int]
    values: list[float]


class OutcomeRow(NamedTuple):
    """The tokens of a conversation with labels (``IGNORED`` outside the answer), and whether it is right."""

    tokens: TokenRow
    right: bool


def read_steps(options: Training, tokenizer: Any, tag: str, kind: str | None) -> Iterator[tuple[int, Steps]]:
    """Rows with values, each with its number: those of one kind of label, the first of the file where
    ``kind`` is ``None``. ``InputError`` for a row that cannot be trained."""
    wanted, others, found = kind, set[str](), False
    [mark] = tokenizer(tag, add_special_tokens=False)["input_ids"]
    for number, row in read_as(Path(options.data), StepRow, KIND):
        steps, values = row.steps, row.values
        if row.completions is not None and row.labels is not None:
            steps, values = row.completions, tuple(map(float, row.labels))
        if problem := _fault(steps, values, tag):
            raise InputError(problem, path=options.data, row=number, remedy=remedy(KIND))
        assert steps is not None
        assert values is not None
        wanted = wanted or row.kind
        if row.kind is not None and row.kind != wanted:
            others.add(row.kind)
            continue
        found = True
        turns = messages_of(row.prompt.strip() if isinstance(row.prompt, str) else row.prompt, "user")
        turns.append({"role": "assistant", "content": tagged(steps, tag)})
        tokens = conversation(turns, tokenizer, options, number)
        places = [place for place, token in enumerate(tokens) if token == mark]
        if len(places) != len(values):
            raise InputError(
                f"it has {len(values)} values, but the model finds the step tag {tag!r} {len(places)} times.",
                path=options.data,
                row=number,
                remedy="Choose another tag, one that no prompt holds and that stays a token of its own "
                "beside any text, such as a special token.",
            )
        yield number, Steps(tokens, places, list(values))
    if not found:
        raise InputError(
            f"no row has labels of the kind {kind!r}.",
            path=options.data,
            remedy=f"Set kind to one of: {', '.join(sorted(others))}.",
        )


def _fault(steps: Sequence[str] | None, values: Sequence[float] | None, tag: str) -> str:
    """What is wrong with a row; empty if it can be trained."""
    if steps is None or values is None:
        return "it has no steps with values or labels (labelled answers need 'head: implicit')."
    if len(steps) != len(values) or not steps:
        return f"it has {len(steps)} steps and {len(values)} values."
    if wrong := [v for v in values if not 0 <= v <= 1]:
        return f"the value {wrong[0]:g} is not in [0, 1], as a probability has to be."
    return f"a step holds the step tag {tag!r}." if any(tag in step for step in steps) else ""


def read_outcomes(options: Training, tokenizer: Any) -> Iterator[tuple[int, OutcomeRow]]:
    """Labelled answers with their numbers. ``InputError`` for other rows."""
    for number, row in read_as(Path(options.data), StepRow, KIND):
        if row.completion is None or row.label is None:
            raise InputError(
                "it is not an answer with a label, which head: implicit takes.",
                path=options.data,
                row=number,
                remedy="Write rows with 'gristmill export' as trl-kto, or choose another head.",
            )
        if isinstance(row.prompt, str) == isinstance(row.completion, str):
            asked = TrainingRow(prompt=row.prompt, completion=row.completion)
        else:
            raise InputError(
                "one of prompt and completion is text and the other is messages.",
                path=options.data,
                row=number,
                remedy=remedy(KIND),
            )
        yield number, OutcomeRow(encode(asked, tokenizer), row.label)


def one_token(tokenizer: Any, text: str, option: str, add: bool) -> int:
    """The token of a step tag or of a word, which is added to the vocabulary if ``add`` allows it.
    ``RecipeError`` where it is several, with those that would do."""
    pieces = tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(pieces) != 1 and add:
        tokenizer.add_tokens([text], special_tokens=True)
        pieces = tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(pieces) == 1:
        return int(pieces[0])
    split = " ".join(repr(tokenizer.decode([piece])) for piece in pieces)
    single = [t for t in _LIKELY if len(tokenizer(t, add_special_tokens=False)["input_ids"]) == 1]
    raise RecipeError(
        f"{option}: {text!r} is {len(pieces)} tokens of this model: {split}.",
        remedy=f"Choose one that is a single token ({', '.join(map(repr, single)) or 'none is known'}), "
        "or set add_tokens: true, which adds it to the vocabulary.",
    )


def answered(tokens: TokenRow) -> int:
    """How many tokens of an answer carry loss."""
    return sum(label != IGNORED for label in tokens.labels)
