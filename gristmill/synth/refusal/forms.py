"""How a question and what is said about it are put into turns: templates by kind of task, three forms.

The places of a template are filled from the record and from the fields of its ``meta``, by name. A record
that lacks one is rejected: a place that stays open would be trained as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

from msgspec import Struct

from gristmill.core.engine import Message, Role
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.passages import passages
from gristmill.core.prompts import RowValues, fields, fill, require, row_places
from gristmill.core.records import Turn
from gristmill.synth.refusal.texts import MAY_DECLINE
from gristmill.verifiers.evidence import read_references
from gristmill.verifiers.rules.choice import read_key
from gristmill.verifiers.rules.listed import LETTERS, split_options
from gristmill.verifiers.rules.short_answer import tokens

Task = Literal["question", "multiple_choice", "claim", "multi_hop", "math"]
FormKind = Literal["conversation", "system", "plain"]


class AskedQuestion(Protocol):
    """What a question is made of: any record with these fields."""

    @property
    def problem(self) -> str:
        """The question's text."""
        ...

    @property
    def answer(self) -> str | None:
        """The reference answer."""
        ...

    @property
    def meta(self) -> str:
        """A JSON object with whatever else is known of it."""
        ...


class Templates(NamedTuple):
    """The templates of a task: the question in a conversation, in plain text, and the answer."""

    chat: str
    plain: str
    answer: str


TASKS: dict[Task, Templates] = {
    "question": Templates("{problem}", "Question: {problem} Answer:", "{answer}."),
    "multiple_choice": Templates(
        "{problem}\n{options}\nAnswer with the letter of the right option.",
        "Question: {problem}\n{options}\nAnswer:",
        "{letter}.",
    ),
    "claim": Templates(
        "Evidence:\n{evidence}\n\nClaim: {problem}\nWhat does the evidence make of it? One of: {labels}.",
        "Evidence: {evidence} Claim: {problem} Question: is the claim one of {labels}? Answer:",
        "{answer}.",
    ),
    "multi_hop": Templates(
        "{passages}\n\nUsing these passages, answer the question: {problem}",
        "{passages}\nQuestion: {problem} Answer:",
        "{answer}.",
    ),
    "math": Templates(
        "{problem}\nPut the final answer in \\boxed{}.",
        "Question: {problem} Answer:",
        "\\boxed{{answer}}.",
    ),
}

_COLUMNS: dict[str, tuple[str, ...]] = {
    "options": ("options", "choices"),
    "evidence": ("evidence", "context", "passage"),
    "passages": ("passages", "context", "documents", "passage", "evidence"),
}
"""Where a place is looked for in ``meta`` where no ``columns`` say it; the first that is there."""


class Form(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a question is asked and an answer given.

    Places of the templates are ``{problem}``, ``{answer}`` (the first where there are aliases), ``{labels}``,
    ``{letter}`` and ``{content}`` of the right option, and any field of ``meta``. Lists of options are
    lettered, and lists of passages numbered with their titles, HotpotQA's forms included.
    """

    kind: FormKind = "conversation"
    """``conversation`` has the question in a user turn and the answer in an assistant turn; ``system`` has a
    message before them that says the model may decline; ``plain`` is one text, whose pieces are turns that
    join to it as they are (the export ``text``)."""
    task: Task = "question"
    """Which templates are used: for short answers, multiple choice, claims with evidence, multi-hop reading
    or mathematics."""
    question: str | None = None
    """The template of the question in place of the task's."""
    answer: str | None = None
    """The template of the answer in place of the task's."""
    labels: tuple[str, ...] = ()
    """The labels of which the reference must be one as a whole: "supported" is not "not_supported"."""
    columns: dict[str, str] = {}
    """The field of ``meta`` that a place is filled from, by place: ``{passages: context}``."""
    system: str = MAY_DECLINE
    """The message before the question where ``kind`` is ``system``."""
    joint: str = " "
    """What is between the pieces of the plain form."""

    def __post_init__(self) -> None:
        if self.question is not None:
            require("form.question", self.question, "problem")
        require("form.answer", self.answer)
        if self.task == "claim" and not self.labels:
            raise RecipeError(
                "form: a claim has no labels to choose from.",
                remedy="Set labels, such as [supported, refuted, not enough info].",
            )

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the templates want of a row, by option: less what the form finds or makes itself."""
        own = {"problem", "answer", "labels", "letter", "content", *_COLUMNS} - set(self.columns)
        wanted = row_places(own, question=self.question, answer=self.answer)
        return {
            option: frozenset(self.columns.get(place, place) for place in named)
            for option, named in wanted.items()
        }

    def asked(self, record: AskedQuestion) -> str:
        """The question's text. ``RowRejected`` where the record lacks something that it needs."""
        templates = TASKS[self.task]
        default = templates.plain if self.kind == "plain" else templates.chat
        return fill(self.question or default, RowValues(record), **self._values(record))

    def answered(self, record: AskedQuestion, answer: str | None = None) -> str:
        """The text of the reference, or of another ``answer``, closed by one full stop and never shortened.

        ``RowRejected`` where there is no reference, or it is not one of the options or labels.
        """
        values = self._values(record)
        said = self._reference(record) if answer is None else {"answer": answer.strip()}
        text = fill(self._answer_template(answer is None), RowValues(record), **{**values, **said})
        ended = said["answer"].endswith((".", "!", "?"))
        return text[:-1] if ended and text.endswith(said["answer"] + ".") else text

    def _answer_template(self, reference: bool) -> str:
        if self.answer is not None:
            return self.answer
        # An answer that a model gave is not looked up among the options.
        return TASKS[self.task if reference or self.task != "multiple_choice" else "question"].answer

    def turns(self, *pieces: tuple[Role, str, bool]) -> tuple[Turn, ...]:
        """(role, text, whether it carries loss) as the turns of this form, the system's before them."""
        if self.kind != "plain":
            turns = [Turn(role, text, train) for role, text, train in pieces]
            return (*self._system(), *turns)
        # The blank belongs to the piece after it, as in the words of most tokenizers.
        spaced = (text if i == 0 else self.joint + text for i, (_, text, _) in enumerate(pieces))
        return tuple(Turn(role, text, train) for text, (role, _, train) in zip(spaced, pieces, strict=True))

    def prompt(self, record: AskedQuestion) -> tuple[Message, ...]:
        """The messages that ask the question, for a preference pair."""
        return tuple(Message(t.role, t.content) for t in self.turns(("user", self.asked(record), False)))

    def _system(self) -> list[Turn]:
        return [Turn("system", self.system, False)] if self.kind == "system" else []

    def _values(self, record: AskedQuestion) -> dict[str, str]:
        values = {name: text for name, held in fields(record.meta).items() if (text := _shown(held))}
        for place, names in _COLUMNS.items():
            column = self.columns.get(place) or next((n for n in names if n in values), None)
            if column in values:
                values[place] = values[column]
        for place, column in self.columns.items():
            if column in values:
                values[place] = values[column]
        values["problem"] = record.problem
        values["labels"] = ", ".join(self.labels)
        if self.task == "multiple_choice":
            stem, options = _options(record, self.columns.get("options"))
            values["problem"] = stem
            values["options"] = lettered(options)
        return values

    def _reference(self, record: AskedQuestion) -> dict[str, str]:
        if record.answer is None or not record.answer.strip():
            raise RowRejected("has no reference answer")
        if self.task == "multiple_choice":
            return _chosen(record, self.columns.get("options"))
        references = read_references(record.answer)
        if not references:
            raise RowRejected("has no reference answer")
        if self.labels:
            known = {_label(label): label for label in self.labels}
            if _label(references[0]) not in known:
                detail = f"{references[0]!r} is not one of {list(self.labels)}"
                raise RowRejected("the reference is not one of the labels", detail)
            return {"answer": known[_label(references[0])]}
        return {"answer": references[0].strip()}


def lettered(options: Sequence[str]) -> str:
    """One option a line, each behind its letter."""
    return "\n".join(f"{LETTERS[i]}. {option}" for i, option in enumerate(options))


def _shown(held: Any) -> str:
    """A field of ``meta`` as text; empty for what cannot be shown."""
    if isinstance(held, bool):
        return "yes" if held else "no"
    return str(held) if isinstance(held, int | float) else passages(held)


def _options(record: AskedQuestion, column: str | None) -> tuple[str, tuple[str, ...]]:
    """A multiple-choice question without its options, and these: from the reference's JSON, ``meta`` or the
    question's own text, in this order."""
    stem, listed = split_options(record.problem)
    meta = fields(record.meta)
    names = (column,) if column else _COLUMNS["options"]
    held = next((meta[n] for n in names if isinstance(meta.get(n), list)), None)
    options = _key_options(record) or (tuple(map(str, held)) if held else listed)
    if not 2 <= len(options) <= len(LETTERS):
        raise RowRejected("has no options to choose from", f"{len(options)} options were found")
    return (stem.strip() if listed else record.problem), options


def _key_options(record: AskedQuestion) -> tuple[str, ...]:
    try:
        return read_key(record.answer or "").options
    except ValueError:  # no reference, or one that is not such JSON, has no options
        return ()


def _chosen(record: AskedQuestion, column: str | None) -> dict[str, str]:
    """The right option's letter and content."""
    _, options = _options(record, column)
    try:
        said = read_key(record.answer or "").answer.strip()
    except ValueError as error:
        raise RowRejected("the reference is unreadable", str(error)[:200]) from error
    letter = re.fullmatch(r"\(?([A-Z])[).:]{0,2}", said)
    fits = {LETTERS.index(letter[1])} if letter and LETTERS.index(letter[1]) < len(options) else set()
    fits |= {i for i, option in enumerate(options) if tokens(option) == tokens(said)}
    if len(fits) != 1:
        detail = f"{said!r} fits {len(fits)} of {len(options)} options"
        raise RowRejected("the reference is not one of the options", detail)
    [index] = fits
    return {"letter": LETTERS[index], "content": options[index], "answer": LETTERS[index]}


def _label(text: str) -> str:
    """A label as it is compared: whole, whatever its case and the marks between its words."""
    return " ".join(re.findall(r"[^\W_]+", text.casefold()))
