"""The columns in which fields stand by default, and the layouts in which pairs and conversations are
published; a layout is recognised by its columns."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

from gristmill.core.errors import InputError

LayoutName = Literal[
    "auto",
    "messages",
    "sharegpt",
    "alpaca",
    "prompt_completion",
    "preference",
    "ultrafeedback",
    "helpsteer",
    "comparison",
    "ranking",
]


IDS = ("id", "unique_id", "uid")
"""The columns that are an id where none is mapped, the first that a row has; so it is with all of these."""
_ANSWERS = ("answer", "final_answer", "expected_answer")
PROBLEMS: Mapping[str, Sequence[str]] = {
    "problem": ("problem", "question", "prompt", "instruction", "text"),
    "answer": _ANSWERS,
    "aliases": (),
    "id": (*IDS, "problem_id"),
    "level": ("level", "difficulty"),
}
SAMPLES: Mapping[str, Sequence[str]] = {
    "problem": ("problem", "question", "instruction", "query"),
    "answer": _ANSWERS,
    "aliases": (),
    "problem_id": ("problem_id", "prompt_id"),
    "completion": ("completion", "response", "output", "generation"),
    "messages": ("messages",),
    "prompt": ("prompt",),
    "system": ("system", "system_prompt"),
}
PASSAGES: Mapping[str, Sequence[str]] = {"text": ("text", "passage", "context", "document", "content")}

INSIDE = "score"
"""The part that is not in a row but in each of its rated completions."""


class Layout(NamedTuple):
    """A layout: its name, the columns that its parts have by default, and the parts that it must have.

    ``form`` tells apart layouts that go by one name.
    """

    name: str
    form: str
    parts: Mapping[str, Sequence[str]]
    needed: tuple[str, ...]


_SYSTEM = ("system", "system_prompt")
_PROMPT = ("prompt", "question", "instruction", "input", "context")

CONVERSATIONS = (
    Layout(
        "messages",
        "messages",
        {"messages": ("messages", "conversation"), "system": _SYSTEM, "tools": ("tools",)},
        ("messages",),
    ),
    Layout(
        "sharegpt",
        "messages",
        {"messages": ("conversations", "items"), "system": _SYSTEM, "tools": ("tools",)},
        ("messages",),
    ),
    Layout(
        "alpaca",
        "alpaca",
        {
            "instruction": ("instruction",),
            "input": ("input",),
            "output": ("output", "response"),
            "history": ("history",),
            "system": _SYSTEM,
        },
        ("instruction", "output"),
    ),
    Layout(
        "prompt_completion",
        "completion",
        {"prompt": ("prompt", "question"), "completion": ("completion", "response"), "system": _SYSTEM},
        ("prompt", "completion"),
    ),
)
_PROBLEM_ID = ("problem_id", "prompt_id")
_COMPARED: Mapping[str, Sequence[str]] = {
    "prompt": ("prompt",),
    "first": ("conversation_a", "response_a"),
    "second": ("conversation_b", "response_b"),
    "first_model": ("model_a",),
    "second_model": ("model_b",),
    "problem_id": _PROBLEM_ID,
}
PAIRS = (
    Layout(
        "preference",
        "sides",
        {
            "prompt": _PROMPT,
            "chosen": ("chosen",),
            "rejected": ("rejected",),
            "chosen_score": ("score_chosen", "chosen_score", "chosen_rating", "chosen-rating"),
            "rejected_score": ("score_rejected", "rejected_score", "rejected_rating", "rejected-rating"),
            "chosen_model": ("chosen_model", "chosen-model"),
            "rejected_model": ("rejected_model", "rejected-model"),
            "system": _SYSTEM,
            "problem_id": _PROBLEM_ID,
        },
        ("chosen", "rejected"),
    ),
    Layout(
        "ultrafeedback",
        "completions",
        {"prompt": ("instruction", "prompt"), "completions": ("completions",), "problem_id": _PROBLEM_ID},
        ("prompt", "completions"),
    ),
    Layout(
        "ultrafeedback",
        "ratings",
        {
            "prompt": ("instruction", "prompt"),
            "generations": ("generations",),
            "ratings": ("ratings",),
            "problem_id": _PROBLEM_ID,
        },
        ("prompt", "generations", "ratings"),
    ),
    Layout(
        "helpsteer",
        "strength",
        {
            "prompt": ("prompt", "context"),
            "first": ("response_1", "response1"),
            "second": ("response_2", "response2"),
            "strength": ("preference_strength", "overall_preference"),
            "problem_id": _PROBLEM_ID,
        },
        ("prompt", "first", "second", "strength"),
    ),
    Layout(
        "helpsteer",
        "attributes",
        {"prompt": ("prompt",), "response": ("response",), "helpfulness": ("helpfulness",)},
        ("prompt", "response", "helpfulness"),
    ),
    Layout("comparison", "winner", {**_COMPARED, "winner": ("winner",)}, ("first", "second", "winner")),
    Layout(
        "comparison",
        "flags",
        {
            **_COMPARED,
            "first_won": ("winner_model_a",),
            "second_won": ("winner_model_b",),
            "tie": ("winner_tie",),
        },
        ("prompt", "first", "second", "first_won", "second_won"),
    ),
    Layout(
        "ranking",
        "ranks",
        {"prompt": ("prompt", "instruction"), "completions": ("answers",), "problem_id": _PROBLEM_ID},
        ("prompt", "completions"),
    ),
)

LABELLED = (
    Layout(
        "prompt_completion",
        "labelled",
        {
            "prompt": ("prompt", "question", "instruction"),
            "completion": ("completion", "response"),
            "label": ("label",),
            "weight": ("weight",),
            "system": _SYSTEM,
            "problem_id": _PROBLEM_ID,
        },
        ("prompt", "completion", "label"),
    ),
)


def recognised(
    layouts: Sequence[Layout],
    wanted: LayoutName,
    columns: Collection[str],
    mapped: Mapping[str, str],
    where: str,
) -> Layout:
    """The layout named ``wanted``, or for ``auto`` the first whose parts are all among the columns.

    Raises ``InputError`` where there is none.
    """
    named = [one for one in layouts if wanted in ("auto", one.name)]
    if not named:
        raise InputError(
            f"the layout {wanted!r} is of other records.",
            path=where,
            remedy=f"Layouts of these: {', '.join(dict.fromkeys(one.name for one in layouts))}.",
        )
    for one in named:
        if all(_has(one, part, columns, mapped) for part in one.needed):
            return one
    if wanted != "auto":
        return named[0]  # which then says which column it lacks
    known = "; ".join(f"{one.name}: {', '.join(one.needed)}" for one in layouts)
    raise InputError(
        f"the layout is not recognised; the first row's columns are {', '.join(map(repr, columns))}.",
        path=where,
        remedy=f"Name the columns of one under 'columns' in the source. Layouts and their parts: {known}.",
    )


def _has(layout: Layout, part: str, columns: Collection[str], mapped: Mapping[str, str]) -> bool:
    return part in mapped or any(name in columns for name in layout.parts[part])
