"""Problems and samples: rows with a question and a reference answer."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Struct

from gristmill.core.errors import RowRejected
from gristmill.core.records import Problem, Sampled
from gristmill.pipelines.sources.chats import chat
from gristmill.pipelines.sources.columns import MISSING
from gristmill.pipelines.sources.layouts import PROBLEMS, SAMPLES
from gristmill.pipelines.sources.options import Source
from gristmill.pipelines.sources.reading import Reader
from gristmill.pipelines.sources.values import digest, identity, is_nothing, kind, meta, number, opened, short

_LEVEL = re.compile(r"(?:level\s*)?(-?\d{1,9})", re.IGNORECASE)


class Answers(Reader):
    """What problems and samples have in common: a reference answer, or several that are as good."""

    numeric: bool | None = None
    """Whether the first answer was a number."""

    def _answer(self, row: dict[str, Any]) -> str | None:
        """The answer's text; where a row has several that differ, the JSON list of them that verifiers
        read."""
        value = self.columns.given("answer", row)
        more = self.columns.given("aliases", row) if "aliases" in self.columns.mapped else None
        if more is None and not isinstance(value, list):
            return self._marked(value)
        own, others = (one if isinstance(one, list) else [one] for one in (value, more))
        texts = [*map(self._marked, own), *map(self._scalar, others)]
        found = [text for text in dict.fromkeys(texts) if text is not None]
        if len(found) < 2:
            return found[0] if found else None
        return self._checked("answer", msgspec.json.encode(found).decode())

    def _marked(self, value: Any) -> str | None:
        text = self._scalar(value)
        mark = self.source.answer_after
        if text is None or mark is None:
            return text
        if mark not in text:
            raise RowRejected("answer mark missing", f"the answer does not contain {mark!r}.")
        text = text.rpartition(mark)[2].strip()
        if not text:
            raise RowRejected("answer is empty", f"nothing follows {mark!r} in the answer.")
        return text

    def _scalar(self, value: Any) -> str | None:
        """The answer as text; ``None`` where there is none."""
        if is_nothing(value):
            return None
        lenient = self.source.answers == "text"
        if isinstance(value, bool) and lenient:
            return "true" if value else "false"
        as_number = None if isinstance(value, (bool, str)) else number(value)
        if as_number is None and not isinstance(value, str):
            raise RowRejected(
                "answer is neither text nor number",
                f"the answer is {kind(value)}; it must be a text, a number, or a list of these.",
            )
        if self.numeric is None:
            self.numeric = as_number is not None
        if not lenient and self.numeric is not (as_number is not None):
            first = "a number" if self.numeric else "text"
            raise RowRejected(
                "answers of mixed types",
                f"the answer {short(value)} is {kind(value)}, but the first row's is {first}. "
                "Set 'answers: text' in the source to read numbers as text.",
            )
        return self._checked("answer", value.strip() if as_number is None else as_number)

    @property
    def _answer_fields(self) -> tuple[str, ...]:
        """The fields of which ``meta`` need not keep a copy: an answer with its worked solution is kept."""
        return ("aliases",) if self.source.answer_after is not None else ("answer", "aliases")


class Problems(Answers):
    """Problems; whatever else a row has goes to ``meta``."""

    def __init__(self, source: Source, where: str) -> None:
        super().__init__(source, where, Problem, PROBLEMS, ["problem"])

    def _record(self, row: dict[str, Any], own_id: str | None) -> Problem:
        text = self._text("problem", row)
        answer = self._answer(row)
        level, level_used = self._level(row)
        if own_id is None:
            row_id = self._made_id(text, answer)
        else:
            row_id = own_id
            self._once(row_id, True, "")
        fields = ["problem", *self._answer_fields]
        if own_id:
            fields.append("id")
        if level_used:
            fields.append("level")
        return Problem(row_id, text, answer, level, meta(opened(row), self.columns.used(row, fields)))

    def _made_id(self, text: str, answer: str | None) -> str:
        """The id of a row without one: its text's; of a later row that asks the same but has another answer,
        that of both."""
        both = f"{text}\x1f{answer or ''}"
        self._once(both, False, "the same problem and answer")
        row_id = identity(text)
        return row_id if self._is_new(row_id) else digest(both).hex()

    def _level(self, row: dict[str, Any]) -> tuple[int | None, bool]:
        """The level, and whether it was read. Text such as "Level 5" is read as 5."""
        value = self.columns.value("level", row)
        if value is MISSING:
            return None, False
        if value is None:
            return None, True
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
            return value, True
        match = _LEVEL.fullmatch(value.strip()) if isinstance(value, str) else None
        if match:
            return int(match[1]), True
        if is_nothing(value) or "level" not in self.columns.mapped:
            return None, False
        raise RowRejected("level is not a whole number", f"the level is {short(value)}.")


class Samples(Answers):
    """Samples from elsewhere: a problem, and a completion of it or a conversation that ends with one.

    They get ids like our own: the problem's, and a number in the order of the rows. A number is remembered
    of each problem, in about 100 bytes.
    """

    def __init__(self, source: Source, where: str) -> None:
        needed = [("problem", "messages", "prompt"), ("completion", "messages")]
        super().__init__(source, where, Sampled, SAMPLES, needed)
        self.counts: dict[bytes, int] = {}

    def _record(self, row: dict[str, Any], own_id: str | None) -> Struct:
        sent, completion = self._conversation(row)
        question = next((m["content"] for m in reversed(sent) if m["role"] == "user"), None)
        if self.columns.value("problem", row) is not MISSING:
            question = self._text("problem", row)
            sent = sent if any(m["role"] == "user" for m in sent) else [*sent, _user(question)]
        if question is None:
            raise RowRejected("no problem", "neither a problem nor a user's message is in the row.")
        answer = self._answer(row)
        problem_id = self.columns.value("problem_id", row)
        if problem_id is MISSING or is_nothing(problem_id):
            problem_id = identity(question)
        problem_id = number(problem_id) or str(problem_id)
        key = digest(problem_id)
        index = self.counts.get(key, 0)
        fields: dict[str, Any] = {
            "problem_id": problem_id,
            "index": index,
            "problem": question,
            "answer": answer,
            "messages": sent,
            "completion": completion,
            "finish_reason": "stop",
            "prompt_tokens": 0,
            "completion_tokens": 0,
        }
        given = ("index", "finish_reason", "prompt_tokens", "completion_tokens", "model")
        fields |= {f: v for f in given if not is_nothing(v := self.columns.given(f, row))}
        parts = ("problem", "problem_id", "completion", "messages", "prompt", "system", *given)
        used = self.columns.used(row, (*parts, *self._answer_fields))
        made = self._made(row, own_id or f"{problem_id}/{fields['index']}", fields, used)
        self.counts[key] = index + 1
        return made

    def _conversation(self, row: dict[str, Any]) -> tuple[list[dict[str, str]], str]:
        """The messages as sent, and the completion."""
        value = self.columns.given("messages", row)
        if value is None:
            value = self.columns.given("prompt", row)
        sent = [] if value is None else chat(value, "user")
        system = self.columns.given("system", row)
        if not is_nothing(system) and not any(m["role"] == "system" for m in sent):
            sent = [*chat(system, "system"), *sent]
        if self.columns.value("completion", row) is MISSING:
            if not sent or sent[-1]["role"] != "assistant":
                raise RowRejected("no completion", "the messages do not end with the assistant's.")
            return sent[:-1], sent[-1]["content"]
        value = self.columns.value("completion", row)
        if isinstance(value, str) and value.strip():
            return sent, value
        answered = chat(value, "assistant")
        if len(answered) != 1 or answered[0]["role"] != "assistant":
            raise RowRejected("no completion", "the completion must be one message of the assistant's.")
        return sent, answered[0]["content"]


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}
