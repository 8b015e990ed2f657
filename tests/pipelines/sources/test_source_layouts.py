"""Conversations and pairs in the layouts in which they are published. The rows are our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from gristmill.core.errors import InputError
from gristmill.core.records import Conversation, Pair
from gristmill.core.stages import Rejection
from gristmill.pipelines.sources.source import Source, read

Row = dict[str, Any]


def written(path: Path, *rows: Row) -> str:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(path)


def taken(path: str, reads: str, **options: Any) -> list[Any]:
    found = list(read(Source(path=path, reads=reads, **options)))
    assert not [r for r in found if isinstance(r, Rejection)], found
    return found


def reason(path: Path, reads: str, *rows: Row, **options: Any) -> list[str]:
    found = read(Source(path=written(path, *rows), reads=reads, **options))
    return [r.reason if isinstance(r, Rejection) else "taken" for r in found]


def said(messages: Any) -> list[tuple[str, str]]:
    return [(m.role, m.content) for m in messages]


def m(role: str, content: Any) -> Row:
    return {"role": role, "content": content}


TALK = [
    ("system", "Be kind."),
    ("user", "Hi"),
    ("assistant", "Hello!"),
    ("user", "Bye"),
    ("assistant", "So long."),
]
SHORT = TALK[:3]
LAYOUTS: dict[str, tuple[Row, list[tuple[str, str]]]] = {
    "messages": ({"messages": [m(r, c) for r, c in TALK]}, TALK),
    "messages in parts": (
        {"conversation": [m(r, [{"type": "text", "text": c}]) for r, c in TALK]},
        TALK,
    ),
    "system apart": ({"messages": [m(r, c) for r, c in SHORT[1:]], "system": "Be kind."}, SHORT),
    "sharegpt": (
        {
            "conversations": [
                {"from": {"user": "human", "assistant": "gpt"}.get(r, r), "value": c} for r, c in TALK
            ]
        },
        TALK,
    ),
    "alpaca": (
        {"instruction": "Add.", "input": "2 and 2", "output": "4"},
        [("user", "Add.\n\n2 and 2"), ("assistant", "4")],
    ),
    "alpaca without input": (
        {
            "instruction": "Bye",
            "input": "",
            "output": "So long.",
            "history": [["Hi", "Hello!"]],
            "system": "Be kind.",
        },
        TALK,
    ),
    "prompt and completion": ({"prompt": "Hi", "completion": "Hello!"}, SHORT[1:]),
    "prompt and completion as messages": (
        {"prompt": [m("system", "Be kind."), m("user", "Hi")], "completion": [m("assistant", "Hello!")]},
        SHORT,
    ),
    "transcript": (
        {"messages": "\n\nHuman: Hi\n\nAssistant: Hello!\n\nHuman: Bye\n\nAssistant: So long."},
        TALK[1:],
    ),
}


def test_conversations_are_recognised_in_every_layout(tmp_path: Path) -> None:
    wrong = []
    for name, (row, want) in LAYOUTS.items():
        [lines] = taken(written(tmp_path / "a.jsonl", row | {"source": "x", "id": 5}), "conversations")
        pl.DataFrame([row | {"source": "x", "id": 5}]).write_parquet(tmp_path / "a.parquet")
        [table] = taken(str(tmp_path / "a.parquet"), "conversations")
        trained = [t.role for t in lines.turns if t.train]
        if (
            said(lines.turns) != want
            or lines != table
            or set(trained) != {"assistant"}
            or (lines.id, json.loads(lines.meta)) != ("5", {"source": "x"})
        ):
            wrong.append((name, lines, table))
    assert wrong == []


def test_conversations_that_cannot_be_used_are_rejected_with_the_reason(tmp_path: Path) -> None:
    talks = {
        "unknown role": [m("user", "a"), m("critic", "b"), m("assistant", "c")],
        "result of no call": [m("user", "a"), m("tool", "b"), m("assistant", "c")],
        "message is empty": [m("user", "a"), m("assistant", " ")],
        "content is not text": [m("user", [{"type": "image"}]), m("assistant", "c")],
        "no assistant turn": [m("user", "a")],
        "not messages": ["a", "b"],
        "call that cannot be read": [m("user", "a"), m("assistant", "") | {"tool_calls": [{"id": "f"}]}],
        "taken": [m("developer", ""), m("user", "a"), m("assistant", "c")],
        "duplicate id": [m("user", "a"), m("assistant", "c")],
        "NUL character": [m("user", "a\0b"), m("assistant", "c")],
        "text too long": [m("user", "a" * 101), m("assistant", "c")],
    }
    rows: list[Row] = [{"messages": talk} for talk in talks.values()]
    assert reason(tmp_path / "a.jsonl", "conversations", *rows, max_chars=100) == list(talks)


def test_a_layout_that_is_not_recognised_lists_the_layouts(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", {"dialog": [m("user", "a"), m("assistant", "b")]})
    with pytest.raises(InputError, match=r"columns are 'dialog'\. .*sharegpt: messages; alpaca: instruction"):
        list(read(Source(path=path, reads="conversations")))
    with pytest.raises(InputError, match=r"preference: chosen, rejected; ultrafeedback: prompt, completions"):
        list(read(Source(path=path, reads="pairs")))
    with pytest.raises(
        InputError, match=r"the layout 'alpaca' is of other records.*preference, ultrafeedback"
    ):
        list(read(Source(path=path, reads="pairs", layout="alpaca")))
    with pytest.raises(InputError, match="a column for the instruction is missing"):
        list(read(Source(path=path, reads="conversations", layout="alpaca")))
    [found] = taken(path, "conversations", columns={"messages": "dialog"})
    assert isinstance(found, Conversation) and said(found.turns) == [("user", "a"), ("assistant", "b")]


PROMPT, GOOD, BAD = [("user", "Why?")], [("assistant", "Because.")], [("assistant", "No.")]
MULTI = [("user", "Hi"), ("assistant", "Hello!"), ("user", "Why?")]
P, G, B = m("user", "Why?"), m("assistant", "Because."), m("assistant", "No.")
RATED = {"correctness": 2, "coherence": 4, "complexity": 1, "verbosity": 1}
PAIRS: dict[str, tuple[list[Row], list[tuple[str, str]], dict[str, float]]] = {
    "strings": ([{"prompt": "Why?", "chosen": "Because.", "rejected": "No."}], PROMPT, {}),
    "messages": ([{"prompt": [P], "chosen": [G], "rejected": [B]}], PROMPT, {}),
    "implicit prompt": ([{"chosen": [P, G], "rejected": [P, B]}], PROMPT, {}),
    "one message a side": ([{"prompt": "Why?", "chosen": G, "rejected": B}], PROMPT, {}),
    "binarized": (
        [
            {
                "prompt": "Why?",
                "prompt_id": "ab",
                "chosen": [P, G],
                "rejected": [P, B],
                "score_chosen": 8.5,
                "score_rejected": 2.0,
            }
        ],
        PROMPT,
        {"chosen": 8.5, "rejected": 2.0},
    ),
    "system apart": (
        [{"system": "Be kind.", "question": "Why?", "chosen": "Because.", "rejected": "No."}],
        [("system", "Be kind."), *PROMPT],
        {},
    ),
    "hh-rlhf": (
        [
            {
                "chosen": "\n\nHuman: Hi\n\nAssistant: Hello!\n\nHuman: Why?\n\nAssistant: Because.",
                "rejected": "\n\nHuman: Hi\n\nAssistant: Hello!\n\nHuman: Why?\n\nAssistant: No.",
            }
        ],
        MULTI,
        {},
    ),
    "hh-rlhf with its prompt": (
        [{"prompt": "\n\nHuman: Why?\n\nAssistant:", "chosen": "Because.", "rejected": "No."}],
        PROMPT,
        {},
    ),
    "ultrafeedback": (
        [
            {
                "instruction": "Why?",
                "models": ["a", "b", "c"],
                "completions": [
                    {"response": "Perhaps.", "overall_score": 5.0, "model": "a"},
                    {"response": "No.", "overall_score": 1.0, "model": "b"},
                    {"response": "Because.", "overall_score": 9.0, "model": "c"},
                ],
            }
        ],
        PROMPT,
        {"chosen": 9.0, "rejected": 1.0},
    ),
    "ultrafeedback without overall scores": (
        [
            {
                "instruction": "Why?",
                "completions": [
                    {"response": r, "annotations": {"honesty": {"Rating": a}, "helpfulness": {"Rating": b}}}
                    for r, a, b in (("No.", "1", "2"), ("Because.", "5", "N/A"))
                ],
            }
        ],
        PROMPT,
        {"chosen": 5.0, "rejected": 1.5},
    ),
    "distilabel": (
        [{"instruction": "Why?", "generations": ["No.", "Because."], "ratings": [2, 4]}],
        PROMPT,
        {"chosen": 4.0, "rejected": 2.0},
    ),
    "helpsteer": (
        [
            {"prompt": "Why?", "response": "No.", "helpfulness": 1, **RATED},
            {"prompt": "Why?", "response": "Because.", "helpfulness": 4, **RATED},
            {"prompt": "Why?", "response": "Perhaps.", "helpfulness": 2, **RATED},
        ],
        PROMPT,
        {"chosen": 4.0, "rejected": 1.0}
        | {f"{side}_{name}": float(v) for side in ("chosen", "rejected") for name, v in RATED.items()}
        | {"chosen_helpfulness": 4.0, "rejected_helpfulness": 1.0},
    ),
    "helpsteer2 preference": (
        [
            {
                "prompt": "Hi\n<extra_id_1>Assistant\nHello!\n<extra_id_1>User\nWhy?",
                "response_1": "Because.",
                "response_2": "No.",
                "preference_strength": -2,
            }
        ],
        MULTI,
        {},
    ),
    "helpsteer3": (
        [{"context": [P], "response1": "No.", "response2": "Because.", "overall_preference": 1}],
        PROMPT,
        {},
    ),
}


def test_pairs_are_recognised_in_every_layout(tmp_path: Path) -> None:
    wrong = []
    for name, (rows, prompt, scores) in PAIRS.items():
        [lines] = taken(written(tmp_path / "a.jsonl", *rows), "pairs")
        pl.DataFrame(rows).write_parquet(tmp_path / "a.parquet")
        [table] = taken(str(tmp_path / "a.parquet"), "pairs")
        assert isinstance(lines, Pair)
        sides = (said(lines.prompt), said(lines.chosen), said(lines.rejected))
        if (
            sides != (prompt, GOOD, BAD)
            or lines != table
            or {s.name: s.value for s in lines.scores} != scores
        ):
            wrong.append((name, lines))
    assert wrong == []


def test_what_else_is_known_of_a_pair_is_kept(tmp_path: Path) -> None:
    [one] = taken(written(tmp_path / "a.jsonl", *PAIRS["ultrafeedback"][0]), "pairs")
    assert one.kind == "ultrafeedback"
    assert json.loads(one.meta) == {"models": ["a", "b", "c"], "chosen_model": "c", "rejected_model": "b"}
    [two] = taken(written(tmp_path / "b.jsonl", *PAIRS["binarized"][0]), "pairs")
    assert (two.problem_id, two.kind, two.meta) == ("ab", "preference", "{}")
    [three] = taken(written(tmp_path / "c.jsonl", *PAIRS["helpsteer2 preference"][0]), "pairs")
    assert json.loads(three.meta) == {"preference_strength": -2}
    [four] = taken(written(tmp_path / "d.jsonl", *PAIRS["strings"][0]), "pairs")
    assert one.problem_id == four.problem_id, "the same prompt is the same problem"


def test_the_score_that_ranks_can_be_chosen(tmp_path: Path) -> None:
    completions = [
        {"response": "Because.", "overall_score": 1, "fine-grained_score": 5},
        {"response": "No.", "overall_score": 9, "fine-grained_score": 2},
    ]
    path = written(tmp_path / "a.jsonl", {"instruction": "Why?", "completions": completions})
    [pair] = taken(path, "pairs", columns={"score": "fine-grained_score"})
    assert said(pair.chosen) == GOOD
    rows = [
        {"prompt": "Why?", "response": r, "helpfulness": 1, "correctness": c}
        for r, c in (("No.", 0), ("Because.", 3))
    ]
    [pair] = taken(written(tmp_path / "b.jsonl", *rows), "pairs", columns={"score": "correctness"})
    assert (said(pair.chosen), pair.scores[0].value) == (GOOD, 3.0)
    row = {"q": {"text": "Why?"}, "good": "Because.", "bad": "No.", "r": [0.5, 0.25]}
    columns = {
        "prompt": "q.text",
        "chosen": "good",
        "rejected": "bad",
        "chosen_score": "r[0]",
        "rejected_score": "r[1]",
    }
    [pair] = taken(written(tmp_path / "c.jsonl", row), "pairs", columns=columns)
    assert (said(pair.prompt), [s.value for s in pair.scores]) == (PROMPT, [0.5, 0.25])


def test_pairs_that_cannot_be_used_are_rejected_with_the_reason(tmp_path: Path) -> None:
    sides: dict[str, Row] = {
        "equal sides": {"prompt": "Why?", "chosen": "No.", "rejected": "No."},
        "tie": {"prompt": "Why?", "chosen": "a", "rejected": "b", "score_chosen": 3, "score_rejected": 3.0},
        "no prompt": {"chosen": "Because.", "rejected": "No."},
        "sides do not continue one prompt": {"chosen": [P, G], "rejected": [m("user", "Who?"), B]},
        "message is empty": {"prompt": "Why?", "chosen": "a", "rejected": ""},
        "score is not a number": {"prompt": "Why?", "chosen": "a", "rejected": "c", "score_chosen": "high"},
        "no rejected column": {"prompt": "Why?", "chosen": "a", "rejected": None},
    }
    assert reason(tmp_path / "a.jsonl", "pairs", *sides.values()) == list(sides)
    rated: dict[str, Row] = {
        "tie": {"instruction": "a", "completions": [{"response": r, "overall_score": 3} for r in "ab"]},
        "too few ratings": {"instruction": "a", "completions": [{"response": "x", "overall_score": 3}]},
        "completions are not a list": {"instruction": "a", "completions": "x"},
    }
    assert reason(tmp_path / "b.jsonl", "pairs", *rated.values()) == list(rated)
    preferred = {"prompt": "a", "response_1": "x", "response_2": "y", "preference_strength": 0}
    assert reason(tmp_path / "c.jsonl", "pairs", preferred) == ["tie"]


def test_rows_of_one_prompt_are_rated_together_and_named_by_their_first(tmp_path: Path) -> None:
    def row(prompt: str, response: str, helpfulness: int) -> Row:
        return {"prompt": prompt, "response": response, "helpfulness": helpfulness}

    path = tmp_path / "a.jsonl"
    rows = [
        row("a", "1", 1),
        row("a", "2", 2),
        row("b", "3", 3),
        row("c", "4", 4),
        row("c", "5", 4),
        row("d", "6", 0),
    ]
    written(path, *rows)
    with path.open("a") as file:
        file.write("not json\n" + json.dumps(row("d", "7", 1)) + "\n")
    pair, *bad = read(Source(path=str(path), reads="pairs"))
    assert (said(pair.chosen), said(pair.rejected)) == ([("assistant", "2")], [("assistant", "1")])
    assert [(b.row, b.reason) for b in bad] == [
        (3, "too few ratings"),
        (4, "tie"),
        (6, "too few ratings"),
        (7, "invalid JSON"),
        (8, "too few ratings"),
    ]
