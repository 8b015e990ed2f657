"""From the verdicts of a trainer's batch to its rewards: by a scale, or by a shape over the groups."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from gristmill.core.errors import RecipeError
from gristmill.core.shaping import VERDICT, Attempt, Rewards, Shape
from gristmill.core.verdicts import Verdict
from gristmill.verifiers.worth import RewardScale

Price = Callable[[Sequence[Verdict], Sequence[str], Mapping[str, Any]], Rewards]
"""From verdicts, the texts that they are of, and the columns of the batch to rewards."""


class Shaped(Struct, frozen=True, kw_only=True):
    """A shape, and how a trainer's batch is read for it.

    ``shape`` is one of ``gristmill.filters.rewards``, such as ``Laser(target=4096)``. Answers whose ``group``
    column has equal values are to the same problem: TRL's ``prompts``, or a key of verl's ``extra_info``. A
    process sees its own part of a batch only, so that a group must not be spread over processes: in TRL
    let ``per_device_train_batch_size`` be a multiple of ``num_generations``. ``length`` counts tokens (TRL's
    ``completion_ids``), characters or words. ``columns`` are the names of columns with numbers that the shape
    reads as values; the verdict's own score is ``verdict``. ``seed`` is that of shapes with chance in them.
    """

    shape: Shape
    group: str = "prompts"
    length: Literal["tokens", "characters", "words"] = "tokens"
    columns: tuple[str, ...] = ()
    seed: int = 0


def pricing(shape: Shape | Shaped | None, worth: RewardScale) -> Price:
    """What makes rewards of verdicts: ``worth`` alone, or a shape, of which ``worth`` says what an answer is
    worth whose verdict is not decided.

    ``RecipeError`` where that would pay more than a wrong answer, or the two contradict one another.
    """
    if shape is None:
        return lambda verdicts, texts, columns: [worth.of(verdict) for verdict in verdicts]
    shaped = shape if isinstance(shape, Shaped) else Shaped(shape=shape)
    name, lowest = type(shaped.shape).__name__, shaped.shape.lowest
    if (worth.right, worth.wrong, worth.graded) != (1.0, 0.0, True):
        raise RecipeError(
            f"rewards: right, wrong and graded are given, and so is the shape {name}.",
            remedy="Give what answers are worth as options of the shape.",
        )
    if lowest is None:
        if not isinstance(worth.undecided, (int, float)):
            raise RecipeError(
                f"rewards: the shape {name} has no lowest reward, and what an undecided answer is worth is "
                "not given.",
                remedy="Give undecided=NUMBER, below what a wrong answer gets.",
            )
        lowest = worth.undecided
    scale = RewardScale(max(1.0, lowest), lowest, worth.undecided)

    def price(verdicts: Sequence[Verdict], texts: Sequence[str], columns: Mapping[str, Any]) -> Rewards:
        groups: dict[str, list[int]] = {}
        for at, key in enumerate(_keys(shaped, columns, len(texts))):
            groups.setdefault(key, []).append(at)
        answers = _answers(shaped, verdicts, texts, columns, groups)
        made = shaped.shape([[answers[at] for at in places] for places in groups.values()], shaped.seed)
        rewards: Rewards = [None] * len(texts)
        for places, own in zip(groups.values(), made, strict=True):
            for at, reward in zip(places, own, strict=True):
                rewards[at] = reward if verdicts[at].decided else scale.of(verdicts[at])
        return rewards

    return price


def _keys(shaped: Shaped, columns: Mapping[str, Any], count: int) -> list[str]:
    if shaped.group in columns:
        # As text, since conversations are lists.
        return [json.dumps(value, sort_keys=True, default=str) for value in columns[shaped.group]]
    if not shaped.shape.grouped:
        return [str(at) for at in range(count)]
    raise _missing(shaped.group, "group", columns)


def _answers(
    shaped: Shaped,
    verdicts: Sequence[Verdict],
    texts: Sequence[str],
    columns: Mapping[str, Any],
    groups: Mapping[str, Sequence[int]],
) -> list[Attempt]:
    if shaped.length == "tokens":
        # A shape that looks at no length does without; one that does would take all for equally long.
        lengths = [len(ids) for ids in columns["completion_ids"]] if "completion_ids" in columns else None
    else:
        lengths = [len(text if shaped.length == "characters" else text.split()) for text in texts]
    if lengths is None and shaped.shape.measures:
        raise RecipeError(
            f"rewards: {type(shaped.shape).__name__} needs lengths, and the batch has no tokens "
            "('completion_ids').",
            remedy="Count characters or words: shape=Shaped(shape=..., length='words').",
        )
    for name in shaped.columns:
        if name not in columns:
            raise _missing(name, "columns", columns)
    key_of = {at: key for key, places in groups.items() for at in places}
    seen: Counter[tuple[str, str]] = Counter()
    made = []
    for at, (verdict, text) in enumerate(zip(verdicts, texts, strict=True)):
        values = {name: float(columns[name][at]) for name in shaped.columns if columns[name][at] is not None}
        right = verdict.correct if verdict.decided else None
        if right is not None:
            values[VERDICT] = float(right) if verdict.score is None else verdict.score
        seen[key_of[at], text] += 1
        made.append(
            Attempt(
                # By what it says: chance does not depend on its place in the batch.
                id=f"{key_of[at]}\x1f{text}\x1f{seen[key_of[at], text]}",
                right=right,
                length=float(lengths[at]) if lengths is not None else 0.0,
                values=values,
                text=text,
                extracted=verdict.extracted,
            )
        )
    return made


def _missing(name: str, option: str, columns: Mapping[str, Any]) -> RecipeError:
    known = ", ".join(sorted(columns)) or "none"
    return RecipeError(
        f"rewards: the batch has no column {name!r} for the shape.",
        remedy=f"Name one of its columns: Shaped({option}=...). It has: {known}.",
    )
