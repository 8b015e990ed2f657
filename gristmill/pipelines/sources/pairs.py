"""Preference pairs (two sides, the best against the worst of rated responses, comparisons), and completions
with a label each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from gristmill.core.errors import RowRejected
from gristmill.core.records import Labelled, Pair
from gristmill.core.stages import Rejection
from gristmill.pipelines.sources.chats import Chat, chat, marked
from gristmill.pipelines.sources.columns import Located
from gristmill.pipelines.sources.layouts import INSIDE, Layout
from gristmill.pipelines.sources.options import Source
from gristmill.pipelines.sources.reading import Reader
from gristmill.pipelines.sources.values import digest, is_nothing, kind, number, short

_ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
"""HelpSteer's ratings of a response."""
_FIRST = ("model_a", "a", "first", "response_a")
_SECOND = ("model_b", "b", "second", "response_b")
_TIE = ("tie", "both")
"""How a comparison's winner is called; a tie by how it begins: "tie (bothbad)", "both_bad"."""
Scores = dict[str, float]


class Pairs(Reader):
    """Pairs of one layout, with the scores of their sides where they are known.

    Rejected: ties, equal sides, and sides that do not continue one prompt.
    """

    def __init__(self, source: Source, where: str, layout: Layout) -> None:
        super().__init__(source, where, Pair, layout.parts, layout.needed)
        self.layout = layout

    def convert(self, found: Iterator[Located]) -> Iterator[Struct | Rejection]:
        """Each row as a pair, or rejected; of HelpSteer's ratings, each run of rows with one prompt."""
        if self.layout.form == "attributes":
            found = self._together(found)
        return super().convert(found)

    def _record(self, row: dict[str, Any], own_id: str | None) -> Struct:
        form = self.layout.form
        if form == "sides":
            return self._sides(row, own_id)
        if form == "strength":
            return self._strength(row, own_id)
        if form in ("winner", "flags"):
            return self._comparison(row, own_id)
        if form == "ratings":
            return self._best_and_worst(row, own_id, self._zipped(row))
        listed = row["completions"] if form == "attributes" else self._part("completions", row)
        if not isinstance(listed, list):
            raise RowRejected("completions are not a list", f"they are {kind(listed)}.")
        found = [one for one in listed if isinstance(one, dict)]
        if form == "ranks":
            found = _unranked(found, self.source.columns.get(INSIDE, "rank"))
        return self._best_and_worst(row, own_id, found)

    def _sides(self, row: dict[str, Any], own_id: str | None) -> Struct:
        chosen, rejected = self._part("chosen", row), self._part("rejected", row)
        prompt = self.columns.given("prompt", row)
        sent = [] if is_nothing(prompt) else chat(prompt, "user")
        system = self.columns.given("system", row)
        if not is_nothing(system) and not any(m["role"] == "system" for m in sent):
            sent = [*chat(system, "system"), *sent]
        scores: dict[str, Scores] = {}
        for side in ("chosen", "rejected"):
            value = self.columns.given(f"{side}_score", row)
            if not is_nothing(value):
                scores[side] = {"": _rating(value, f"{side} score")}
        sides = chat(chosen, "assistant"), chat(rejected, "assistant")
        both = scores.get("chosen", {}), scores.get("rejected", {})
        return self._pair(row, own_id, sent, sides, both, more=self._models(row, "chosen", "rejected"))

    def _strength(self, row: dict[str, Any], own_id: str | None) -> Struct:
        """HelpSteer2's and 3's preferences: below 0 the first response is better, above it the second."""
        strength = _rating(self._part("strength", row), "preference")
        if not strength:
            raise RowRejected("tie", "the preference is 0: neither response is better.")
        sides = chat(self._part("first", row), "assistant"), chat(self._part("second", row), "assistant")
        better, worse = sides if strength < 0 else sides[::-1]
        # The strength itself stays in ``meta``.
        return self._pair(row, own_id, self._asked(row), (better, worse), ({}, {}), keep=("strength",))

    def _comparison(self, row: dict[str, Any], own_id: str | None) -> Struct:
        """Two answers or conversations and which of them won, as in Chatbot Arena's published votes
        (arXiv 2403.04132)."""
        flags = self.layout.form == "flags"
        winner = self._flagged(row) if flags else _winner(self._part("winner", row))
        places = ("first", "second") if winner == "first" else ("second", "first")
        asked = self.columns.given("prompt", row)
        if flags:
            better, worse = (_interleaved(asked, self._part(place, row)) for place in places)
            sent: Chat = []
        else:
            better, worse = (chat(self._part(place, row), "assistant") for place in places)
            sent = [] if is_nothing(asked) else chat(asked, "user")
        # Who won stays in ``meta``.
        told = ("winner", "first_won", "second_won", "tie")
        more = self._models(row, *places) | {"first_preferred": winner == "first"}
        return self._pair(row, own_id, sent, (better, worse), ({}, {}), keep=told, more=more)

    def _flagged(self, row: dict[str, Any]) -> str:
        """The winner by a column for each outcome, 1 in the one that came true."""
        won = {name: self.columns.given(f"{name}_won", row) for name in ("first", "second")}
        names = [name for name, value in won.items() if _is_number(value) and float(value) == 1]
        if not names:
            raise RowRejected("tie", "neither answer is marked as the winner.")
        if len(names) == 2:
            raise RowRejected("winner is not known", "both answers are marked as the winner.")
        return names[0]

    def _models(self, row: dict[str, Any], chosen: str, rejected: str) -> dict[str, Any]:
        """The models of both sides, by the parts that begin with the sides' names, where they are known."""
        found = {
            f"{side}_model": self.columns.given(f"{part}_model", row)
            for side, part in (("chosen", chosen), ("rejected", rejected))
        }
        return {key: value for key, value in found.items() if not is_nothing(value)}

    def _zipped(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """distilabel's form: a list of responses and one of their ratings."""
        said, ratings = self._part("generations", row), self._part("ratings", row)
        if not (isinstance(said, list) and isinstance(ratings, list) and len(said) == len(ratings)):
            raise RowRejected(
                "ratings do not fit", "'generations' and 'ratings' must be lists of one length."
            )
        return [{"response": s, "overall_score": r} for s, r in zip(said, ratings, strict=True)]

    def _best_and_worst(
        self, row: dict[str, Any], own_id: str | None, listed: list[dict[str, Any]]
    ) -> Struct:
        own = self.source.columns.get(INSIDE) if self.layout.form != "ranks" else None
        rated = [(score, one) for one in listed if (score := _score(one, own)) is not None]
        if len(rated) < 2:
            raise RowRejected("too few ratings", f"{len(rated)} of {len(listed)} responses have a score.")
        best, worst = max(rated, key=lambda r: r[0]), min(rated, key=lambda r: r[0])
        sides = chat(best[1].get("response"), "assistant"), chat(worst[1].get("response"), "assistant")
        told = {
            f"{side}_{key}": one[key]
            for side, (_, one) in (("chosen", best), ("rejected", worst))
            for key in ("model", "critique")
            if key in one
        }
        scores = [
            {"": score} | {a: float(one[a]) for a in _ATTRIBUTES if _is_number(one.get(a))}
            for score, one in (best, worst)
        ]
        return self._pair(row, own_id, self._asked(row), sides, (scores[0], scores[1]), more=told)

    def _asked(self, row: dict[str, Any]) -> Chat:
        prompt = self._part("prompt", row)
        helpsteer = self.layout.name == "helpsteer" and isinstance(prompt, str)
        return marked(prompt) if helpsteer else chat(prompt, "user")

    def _pair(
        self,
        row: dict[str, Any],
        own_id: str | None,
        sent: Chat,
        sides: tuple[Chat, Chat],
        scores: tuple[Scores, Scores],
        *,
        keep: tuple[str, ...] = (),
        more: Mapping[str, Any] | None = None,
    ) -> Struct:
        if scores[0] and scores[1] and scores[0][""] == scores[1][""]:
            raise RowRejected("tie", f"both sides have the score {scores[0]['']:g}.")
        prompt, chosen, rejected = _apart(sent, *sides)
        fields = {
            "problem_id": _problem_id(self, row, prompt),
            "kind": self.layout.name,
            "prompt": prompt,
            "chosen": chosen,
            "rejected": rejected,
            "scores": [
                {"name": side + (name and f"_{name}"), "value": value}
                for side, found in zip(("chosen", "rejected"), scores, strict=True)
                for name, value in found.items()
            ],
        }
        used = self.columns.used(row, (part for part in self.layout.parts if part not in keep))
        used |= {"completions"} if self.layout.form == "attributes" else set()
        return self._made(row, own_id, fields, used, more)

    def _part(self, field: str, row: dict[str, Any]) -> Any:
        value = self.columns.given(field, row)
        if value is None:
            raise self.columns.lacks(field, row)
        return value

    def _together(self, found: Iterator[Located]) -> Iterator[Located]:
        """Consecutive rows of one prompt as one row, which has them under ``completions``."""
        first: Located | None = None
        listed: list[dict[str, Any]] = []
        asked: Any = None
        for row in found:
            value = row.value
            prompt = self.columns.value("prompt", value) if isinstance(value, dict) else None
            if first is not None and isinstance(value, dict) and prompt == asked:
                listed.append(self._rated(value))
                continue
            if first is not None:
                yield _grouped(first, listed)
            first, listed, asked = None, [], prompt
            if isinstance(value, dict):
                first, listed = row, [self._rated(value)]
            else:
                yield row
        if first is not None:
            yield _grouped(first, listed)

    def _rated(self, row: dict[str, Any]) -> dict[str, Any]:
        said = self.columns.given("response", row)
        return row | {"response": said, "helpfulness": self.columns.given("helpfulness", row)}


class LabelledRows(Reader):
    """Completions with a label each, as TRL's trainers for KTO and BCO read them."""

    def __init__(self, source: Source, where: str, layout: Layout) -> None:
        super().__init__(source, where, Labelled, layout.parts, layout.needed)
        self.layout = layout

    def _record(self, row: dict[str, Any], own_id: str | None) -> Struct:
        given = {part: self.columns.given(part, row) for part in self.layout.parts}
        if lacking := next((part for part in self.layout.needed if given[part] is None), None):
            raise self.columns.lacks(lacking, row)
        prompt, completion = chat(given["prompt"], "user"), chat(given["completion"], "assistant")
        if not is_nothing(given["system"]) and not any(m["role"] == "system" for m in prompt):
            prompt = [*chat(given["system"], "system"), *prompt]
        if not completion or completion[0]["role"] != "assistant":
            raise RowRejected(
                "completion does not continue the prompt", "it does not begin with the assistant's turn."
            )
        fields = {
            "problem_id": _problem_id(self, row, prompt),
            "prompt": prompt,
            "completion": completion,
            "label": given["label"],
        }
        if not is_nothing(given["weight"]):
            fields["weight"] = given["weight"]
        return self._made(row, own_id, fields, self.columns.used(row, self.layout.parts))


def _problem_id(reader: Reader, row: dict[str, Any], prompt: Chat) -> str | int:
    """A row's own id of its problem, else one that all rows with this prompt have."""
    own = reader.columns.value("problem_id", row)
    if not isinstance(own, str | int) or is_nothing(own):
        own = digest(msgspec.json.encode(prompt).decode()).hex()
    return number(own) or own


def _grouped(first: Located, listed: list[dict[str, Any]]) -> Located:
    assert isinstance(first.value, dict)
    shared = {k: v for k, v in first.value.items() if all(one.get(k) == v for one in listed)}
    own = {k: v for k, v in shared.items() if k not in ("response", *_ATTRIBUTES)}
    return first._replace(value=own | {"completions": listed})


def _apart(sent: Chat, chosen: Chat, rejected: Chat) -> tuple[Chat, Chat, Chat]:
    """The prompt and what each side adds to it. Sides may begin with the prompt, or with more of it."""
    n = len(sent)
    if n and chosen[:n] == sent and rejected[:n] == sent:
        chosen, rejected = chosen[n:], rejected[n:]
    prompt = list(sent)
    while len(chosen) > 1 and len(rejected) > 1 and chosen[0] == rejected[0]:
        prompt, chosen, rejected = [*prompt, chosen[0]], chosen[1:], rejected[1:]
    if chosen == rejected:
        raise RowRejected("equal sides", "the chosen side is the rejected one.")
    for side, name in ((chosen, "chosen"), (rejected, "rejected")):
        if not side or side[0]["role"] != "assistant":
            raise RowRejected(
                "sides do not continue one prompt",
                f"the {name} side does not begin with the assistant's turn.",
            )
    if not prompt:
        raise RowRejected("no prompt", "neither a prompt is given, nor do both sides begin with one.")
    return prompt, chosen, rejected


def _winner(value: Any) -> str:
    """Which answer won, by the words of published votes."""
    word = value.strip().lower() if isinstance(value, str) else ""
    if word.startswith(_TIE):
        raise RowRejected("tie", f"the winner is {short(value)}.")
    for name, words in (("first", _FIRST), ("second", _SECOND)):
        if word in words:
            return name
    raise RowRejected(
        "winner is not known",
        f"the winner is {short(value)}; known: {', '.join((*_FIRST, *_SECOND))}, and what begins with 'tie' "
        "or 'both'.",
    )


def _interleaved(asked: Any, said: Any) -> Chat:
    """A conversation of two JSON lists of texts: what the user said, and the answers to each."""
    turns = []
    for what, value in (("prompt", asked), ("answer", said)):
        try:
            turns.append(msgspec.json.decode(value, type=list[str]))
        except (msgspec.DecodeError, TypeError, UnicodeError) as e:
            raise RowRejected(
                "not a list of turns", f"the {what} is {short(value)}, not a JSON list of texts."
            ) from e
    if len(turns[0]) != len(turns[1]):
        raise RowRejected("turns do not fit", f"{len(turns[0])} turns of the user, {len(turns[1])} answers.")
    return [
        message
        for question, answer in zip(*turns, strict=True)
        for message in (*chat([{"role": "user", "content": question}], "user"), *chat(answer, "assistant"))
    ]


def _unranked(listed: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """Ranked answers, 1 for the best, as rated ones: the score is the rank with its sign turned."""
    return [
        one | {"response": one.get("answer"), "overall_score": 0 - _rating(one[key], "rank")}
        for one in listed
        if not is_nothing(one.get(key))
    ]


def _score(one: Mapping[str, Any], key: str | None) -> float | None:
    """The score of a rated response: under ``key``, else UltraFeedback's overall score, its fine-grained one,
    or the mean of its annotations' ratings, or HelpSteer's helpfulness."""
    for name in (key,) if key else ("overall_score", "fine-grained_score", "helpfulness"):
        value = one.get(name)
        if not is_nothing(value):
            return _rating(value, name)
    aspects = one.get("annotations")
    if key or not isinstance(aspects, dict):
        return None
    ratings = [a["Rating"] for a in aspects.values() if isinstance(a, dict) and _is_number(a.get("Rating"))]
    return sum(map(float, ratings)) / len(ratings) if ratings else None


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False


def _rating(value: Any, what: str) -> float:
    if isinstance(value, bool) or not _is_number(value):
        raise RowRejected("score is not a number", f"the {what} is {kind(value)}.")
    return float(value)
