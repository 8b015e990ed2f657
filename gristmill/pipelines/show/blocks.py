"""A row of any kind as blocks of the report's page: turns, pairs, drawings, answers, passages, fields.

Blocks are plain data. All of their text came from a model or a data set. A text that is marked in parts is
cut here into pieces ``[text, kind, why]``, since Python and JavaScript count characters differently.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from gristmill.pipelines.show.claims import unsupported_in
from gristmill.pipelines.show.drawing import drawable, drawing

Row = Mapping[str, Any]
Block = dict[str, Any]

MOST = 20_000
"""Characters of one text that the page shows; how many more there are is told."""
_HEAD = 140
"""Characters of a row's line in the list."""
KINDS = ("subset", "kind", "part", "certain", "scheme", "algorithm", "style", "label", "model")
"""Columns that tell rows of one table apart, the first that it has."""
_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "function_call": "assistant",
    "observation": "tool",
}
_SUBSETS = {
    "D1": "a wrong first answer, judged wrong by the model itself, then corrected.",
    "D2": "a right first answer, judged wrong by the model itself, then right again.",
    "D3": "a right first answer, judged correct by the model itself: it stops.",
    "M-D1": "after a wrong first answer that was judged wrong, a right correction against a wrong one.",
    "M-D2": "after a right first answer that was judged wrong, a right correction against a wrong one.",
    "M-D3w": "a wrong first answer, judged wrong and corrected, against one that was judged correct.",
    "M-D3r": "a right first answer, judged correct, against one that was judged wrong and made wrong.",
}
"""What the subsets of self-correction trajectories, and the kinds of pairs of them, hold (arXiv 2502.19613,
sections 3.1 and 3.2)."""
_TEXTS = ("problem", "question", "text", "prefix", "action", "completion", "response", "solution", "answer")
"""Columns that are shown as texts in rows of no kind that is known."""
_SIDES = {"prompt", "chosen", "rejected"}


def kind_of(row: Row) -> str:
    """The first of ``KINDS`` that the row has, with its value; empty where it has none."""
    return next((f"{name}: {_plain(row[name])}" for name in KINDS if row.get(name) is not None), "")


def meanings(names: Iterable[str]) -> str:
    """What those of the names mean that are a subset, or a kind of pairs, of self-correction; else empty."""
    return " ".join(f"{name}: {_SUBSETS[name]}" for name in sorted(names) if name in _SUBSETS)


def verdict_of(row: Row) -> str:
    """The outcome of the row's verdict; empty where it has none."""
    held = row.get("verdict")
    if isinstance(held, Mapping):
        return str(held.get("outcome") or "")
    return held if isinstance(held, str) else ""


def head(row: Row, place: int = 0) -> str:
    """What the row is about, in one line: its problem or question, or what the user says.

    ``place`` is 0 for the first of the user's turns and -1 for the last: see ``telling``.
    """
    for _, text in _named(row, ("problem", "question", "query", "instruction", "title", "text")):
        return _line(text)
    for name in ("prompt", "messages", "turns", "conversations", "chosen", "completion"):
        held = row.get(name)
        if isinstance(held, str) and held.strip():
            return _line(held)
        said = [_content(m) for m in _messages(held) if _role(m) == "user"]
        if said:
            # A question follows the passages that it is about.
            return _line(said[place] if len(said[place]) <= _HEAD else said[place].strip().split("\n\n")[-1])
    return _line(next((v for k, v in row.items() if isinstance(v, str) and k != "id" and v.strip()), ""))


def telling(rows: Sequence[Row]) -> int:
    """Which of the user's turns tells these rows apart: the first (0), or the last (-1) after worked examples
    that are the same for all."""
    first, last = ({head(row, place) for row in rows} for place in (0, -1))
    return -1 if len(last) > len(first) else 0


def blocks(row: Row) -> list[Block]:
    """What is shown of a row, most telling first; ``fields`` is last and has what no other block shows."""
    found, used = _main(row)
    if meaning := _SUBSETS.get(name := str(row.get("subset" if "turns" in row else "kind"))):
        found.insert(0, {"is": "note", "text": f"{name}: {meaning}"})
    used |= {"id"}
    if judged := _judged(row):
        found.append({"is": "judged", "rows": judged})
    used |= {"scores"} | ({"verdict"} if isinstance(row.get("verdict"), Mapping) else set())
    meta = _json(row.get("meta"))
    if passages := _passages(meta.pop("passages", None)):
        found.append({"is": "passages", "passages": passages})
    rest = {k: v for k, v in row.items() if k not in used and k != "meta" and v is not None}
    rest |= {f"meta.{key}": value for key, value in meta.items()}
    fields = [[name, cut(_plain(value))] for name, value in rest.items() if value not in ("", [], {})]
    return [*found, {"is": "fields", "fields": fields}] if fields else found


def _main(row: Row) -> tuple[list[Block], set[str]]:
    """The blocks of a row's kind, and the columns that they show."""
    names = set(row)
    if drawable(tuple(row)) and (drawn := drawing(row)) is not None:
        shown = {"problem", "answer", "messages", "prompt", "steps", "nodes", "verdict", "start", "rollouts"}
        shown |= {"values", "correct", "decided", "low", "high", "start_prover", "title"}
        return [{"is": "drawing", "drawing": msgspec.to_builtins(drawn)}], shown
    if _SIDES - {"prompt"} <= names:
        return [_pair(row)], set(_SIDES)
    if groups := list(_groups(row)):
        return [_asked(row), {"is": "answers", "groups": groups}], {
            "bases",
            "samples",
            "greedy",
            "problem",
            "messages",
        }
    for name in ("turns", "messages", "conversations"):
        if turns := [_turn(m) for m in _messages(row.get(name))]:
            if isinstance(row.get("completion"), str) and name != "turns":
                turns.append(_said(row))
            hidden = {name, "completion", "reasoning"} | ({"problem"} if name == "messages" else set())
            hidden |= {"messages", "calls"} if name == "turns" and "completion" in row else set()
            return [{"is": "turns", "turns": turns}], hidden
    if isinstance(row.get("steps") or row.get("completions"), list) and isinstance(row.get("labels"), list):
        return [_stepwise(row)], {"prompt", "steps", "completions", "labels"}
    if {"prompt", "completion"} <= names:
        sides = [*_side(row["prompt"], "user", False), *_side(row["completion"], "assistant", True)]
        return [{"is": "turns", "turns": sides}], {"prompt", "completion"}
    if {"instruction", "output"} <= names:
        asked = "\n\n".join(filter(None, (row["instruction"], row.get("input"))))
        sides = [_made("user", asked, False), _made("assistant", row["output"], True)]
        return [{"is": "turns", "turns": sides}], {"instruction", "input", "output"}
    texts = dict(_named(row, _TEXTS))
    made = [{"is": "text", "title": name, "text": cut(text)} for name, text in texts.items()]
    if prompt := _side(row.get("prompt"), "user", False):
        return [{"is": "turns", "turns": prompt}, *made], {"prompt", *texts}
    return made, set(texts)


def _named(row: Row, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The columns of text with these names, in any case, in the order of the names."""
    own = {name.lower(): name for name in row}
    for name in names:
        if name in own and isinstance(text := row[own[name]], str) and text.strip():
            yield own[name], text


def _groups(row: Row) -> Iterator[Block]:
    """Answers with their verdicts, by what they were drawn for: of explorations and of probes."""
    for base in row["bases"] if isinstance(row.get("bases"), list) else ():
        yield from _base(base)
    if isinstance(row.get("samples"), list):
        if row.get("greedy"):
            yield {"title": "The answer drawn greedily", "answers": [_answer(row["greedy"])]}
        if row["samples"]:
            yield {"title": "Sampled answers", "answers": [_answer(one) for one in row["samples"]]}


def _asked(row: Row) -> Block:
    return {"is": "text", "title": "problem", "text": cut(str(row.get("problem") or ""))}


def _base(base: Row) -> Iterator[Block]:
    """A first attempt with its self-evaluations and corrections."""
    number = base.get("index", 0) + 1
    yield {"title": f"First attempt {number}", "answers": [_answer(base["attempt"])]}
    evaluations = [
        {
            **_answer(one),
            "outcome": {True: "says: correct", False: "says: wrong", None: "no verdict"}[
                one.get("says_correct")
            ],
        }
        for one in base.get("evaluations") or ()
    ]
    if evaluations:
        yield {"title": f"What the model says of attempt {number}", "answers": evaluations}
    if base.get("corrections"):
        fixed = [_answer(one) for one in base["corrections"]]
        yield {"title": f"Corrections of attempt {number}", "answers": fixed}


def _answer(judged: Row) -> Block:
    completion, verdict = judged["completion"], judged.get("verdict") or {}
    return {
        "text": cut(completion["text"]),
        "thought": cut(completion.get("reasoning") or ""),
        "outcome": str(verdict.get("outcome") or ""),
        "told": _told(verdict),
    }


def _pair(row: Row) -> Block:
    """A pair of sides; where both begin with the same turns and no prompt is given, these are the prompt."""
    chosen, rejected = _side(row["chosen"], "assistant", True), _side(row["rejected"], "assistant", True)
    prompt = _side(row.get("prompt"), "user", False)
    if not prompt:
        while len(chosen) > 1 and len(rejected) > 1 and chosen[0] == rejected[0]:
            prompt.append({**chosen.pop(0), "train": False})
            rejected.pop(0)
    for side, turns in (("chosen", chosen), ("rejected", rejected)):
        scores = row.get("scores")
        verdicts = [
            s["verdict"]
            for s in (scores if isinstance(scores, list) else ())
            if s["name"] == side or s["name"].startswith(f"{side}_")
        ]
        for turn in turns:
            _mark_unsupported(turn, verdicts)
    return {"is": "pair", "prompt": prompt, "chosen": chosen, "rejected": rejected}


def _side(held: Any, role: str, train: bool) -> list[Block]:
    """A text or messages as turns; only what the assistant says is trained."""
    if isinstance(held, str):
        return [_made(role, held, train)] if held else []
    return [{**turn, "train": train and turn["role"] == "assistant"} for turn in map(_turn, _messages(held))]


def _turn(message: Row) -> Block:
    """A turn with its loss mark: of our own ``train``, axolotl's ``train``, or unknown (``None``)."""
    train = message.get("train", message.get("training"))
    spans = message.get("spans") or ()
    text = _content(message)
    thought = message.get("reasoning") or message.get("reasoning_content") or message.get("thinking") or ""
    pieces: list[list[str]] = []
    if train and spans:
        at = 0
        for span in spans:
            pieces += [[text[at : span["start"]], "out", ""], [text[span["start"] : span["end"]], "loss", ""]]
            at = span["end"]
        pieces.append([text[at:], "out", ""])
    made = _made(_role(message), text, None if train is None else bool(train), str(thought))
    made["pieces"] = [piece for piece in pieces if piece[0]] or made["pieces"]
    if calls := called(message):
        # Beside the text, if there is any: a call without words has a turn of its own.
        said = [[f"{name}({arguments})", "call", "calls a tool"] for name, arguments in calls]
        made["pieces"] = [p for p in made["pieces"] if p[0]] + [[cut(t), k, w] for t, k, w in said]
    return made


def called(message: Row) -> list[tuple[str, str]]:
    """Names and arguments of the calls of tools that a message makes, in OpenAI's or ShareGPT's form."""
    held = message.get("tool_calls")
    if message.get("from") == "function_call":
        return []  # its text is the call
    found = []
    for one in held if isinstance(held, list | tuple) else ():
        function = one.get("function") if isinstance(one, Mapping) else None
        if isinstance(function, Mapping):
            found.append((_plain(function.get("name")), _plain(function.get("arguments"))))
    return found


def _said(row: Row) -> Block:
    """The completion of a sample, with the parts that no passage supports."""
    turn = _made("assistant", row["completion"], None, row.get("reasoning") or "")
    scores = row.get("scores")
    held = [score.get("verdict") for score in scores] if isinstance(scores, list) else []
    verdict = row.get("verdict")
    _mark_unsupported(turn, [verdict if isinstance(verdict, Mapping) else None, *held])
    return turn


def _mark_unsupported(turn: Block, verdicts: Sequence[Row | None]) -> None:
    [(text, _, _)] = turn["pieces"] if len(turn["pieces"]) == 1 else [("", "", "")]
    spans = unsupported_in(text, [v for v in verdicts if v and "detail" in v]) if text else ()
    if spans:
        at, pieces = 0, []
        for span in spans:
            where = f"; nearest is passage {span.passage}" if span.passage else ""
            pieces += [[text[at : span.start], "", ""], [span.text, "unsupported", f"{span.why}{where}"]]
            at = span.end
        turn["pieces"] = [piece for piece in [*pieces, [text[at:], "", ""]] if piece[0]]


def _made(role: str, text: str, train: bool | None, thought: str = "") -> Block:
    return {"role": role, "train": train, "thought": cut(thought), "pieces": [[cut(text), "", ""]]}


def _stepwise(row: Row) -> Block:
    """A row for a process reward model in a trainer's format: steps with a label each."""
    steps, labels = row.get("steps") or row["completions"], row["labels"]
    marks: list[Block] = [{"parent": -1, "text": ""}]
    for at, (step, label) in enumerate(zip(steps, labels, strict=False)):
        value = float(label) if isinstance(label, int | float) else None
        marks.append({"parent": at, "text": cut(str(step)), "value": value})
    values = [m["value"] for m in marks[1:] if m["value"] is not None]
    asked = _side(row.get("prompt"), "user", False)
    text = "\n\n".join(t["pieces"][0][0] for t in asked)
    scale = [min([0.0, *values]), max([1.0, *values])]
    drawn = {"id": "", "title": "steps with their labels", "problem": text, "answer": "", "prompt": []}
    return {"is": "drawing", "drawing": drawn | {"marks": marks, "scale": scale}}


def _judged(row: Row) -> list[list[str]]:
    """Of the verifier and of each score: name, value, outcome, what was read and by which rule."""
    found = []
    verdict, scores = row.get("verdict"), row.get("scores")
    if isinstance(verdict, Mapping):
        found.append(["verifier", _number(verdict.get("score")), str(verdict["outcome"]), _told(verdict)])
    for score in scores if isinstance(scores, list) else ():
        if isinstance(score, Mapping) and "name" in score:
            held = score.get("verdict") or {}
            told = [_number(score.get("value")), str(held.get("outcome") or ""), _told(held)]
            found.append([str(score["name"]), *told])
    return found


def _told(verdict: Row) -> str:
    """What a verifier read, the rule that decided, and a detail that is not a machine's report."""
    read = verdict.get("extracted")
    parts = [f"read {read!r}" if read is not None else "", verdict.get("rule") or ""]
    detail = str(verdict.get("detail") or "")
    return cut(", ".join(filter(None, [*parts, "" if detail.startswith("{") else detail])))


def _passages(held: Any) -> list[list[str]]:
    """Titles and texts, in the order in which they were shown."""
    found = []
    for one in held if isinstance(held, list) else ():
        if isinstance(one, str):
            found.append(["", cut(one)])
        elif isinstance(one, Mapping):
            found.append(
                [_plain(one.get("title") or one.get("id") or ""), cut(_plain(one.get("text") or ""))]
            )
    return found


def _messages(held: Any) -> list[Row]:
    """A list of messages, or one; empty for anything else."""
    if isinstance(held, Mapping):
        return [held]
    return held if isinstance(held, list) and all(isinstance(m, Mapping) for m in held) else []


def _role(message: Row) -> str:
    role = str(message.get("role") or message.get("from") or "?")
    return _ROLES.get(role, role)


def _content(message: Row) -> str:
    held = message.get("content", message.get("value"))
    return held if isinstance(held, str) else _plain(held) if held is not None else ""


def _json(text: Any) -> dict[str, Any]:
    """The keys of a row's ``meta``; a text that is not a JSON object is one key, ``text``."""
    if isinstance(text, Mapping):
        return {k: v for k, v in text.items() if v is not None}
    if not isinstance(text, str) or not text.strip():
        return {}
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        found = None
    return found if isinstance(found, dict) else {"text": text}


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return _number(value)
    if value and isinstance(value, list) and all(isinstance(one, str) for one in value):
        return "\n\n".join(value)
    return msgspec.json.encode(value, enc_hook=str).decode()


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _HEAD else f"{line[: _HEAD - 1]}…"


def cut(text: str) -> str:
    """The text, or its beginning and how much more there is."""
    more = len(text) - MOST
    return text if more <= 0 else f"{text[:MOST]}… ({more:,} more characters are in the file)"
