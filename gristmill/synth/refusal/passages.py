"""Questions over a passage that may not hold the answer: data that answers or abstains, and such questions
made by giving a question another record's passage (after SALU, arXiv 2507.16951)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Struct

from gristmill.core.engine import Ability
from gristmill.core.errors import RowRejected
from gristmill.core.passages import passages
from gristmill.core.prompts import fields, within
from gristmill.core.records import Demonstration, Problem
from gristmill.core.stages import REJECTED_REASON, Context, Estimate, Filter, Rejection, RowStage, derive_seed
from gristmill.synth.refusal.data import NOTHING, Sentence, choose
from gristmill.synth.refusal.forms import Form
from gristmill.synth.refusal.texts import ABSTENTIONS
from gristmill.verifiers.evidence import read_references
from gristmill.verifiers.rules.short_answer import find_whole, tokens

if TYPE_CHECKING:
    import polars as pl

_READING = Form(task="multi_hop")
_FIRST, _DONOR = 0, 1


class PassageQuestions(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes a conversation of each question with its passage: the reference where the passage holds the
    answer, an abstention where it does not.

    Both are one task of one model, as SALU trains them; its reinforcement learning by a confidence score is
    not here, and the wording and the form are this project's own. Without the columns ``answerable`` and
    ``unanswerable`` a question is answerable if it has a reference. One that is called answerable and has no
    reference is rejected.
    """

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Demonstration
    needs: ClassVar[frozenset[Ability]] = frozenset()

    form: Form = _READING
    """How the passages, the question and the answer are put into turns."""
    answerable: str = "answerable"
    """The column that says, true or false, whether the passage holds the answer."""
    unanswerable: str = "is_impossible"
    """The column that says the opposite; the default is SQuAD 2.0's."""
    abstentions: Annotated[tuple[Sentence, ...], Meta(min_length=1)] = ABSTENTIONS
    """The sentences to abstain with; one is chosen by seed for each question."""

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row, by option."""
        return within("form", self.form.places)

    async def __call__(self, record: Problem, context: Context) -> Sequence[Demonstration | Rejection]:
        """One record."""
        known = self._answerable(record)
        answer = self.form.answered(record) if known else choose(self.abstentions, record.id, context)
        return [
            Demonstration(
                f"{record.id}/passage",
                record.id,
                record.problem,
                record.answer if known else None,
                "passage/answerable" if known else "passage/unanswerable",
                self.form.turns(("user", self.form.asked(record), False), ("assistant", answer, True)),
            )
        ]

    def _answerable(self, record: Problem) -> bool:
        meta = fields(record.meta)
        said: set[bool] = set()
        for field, yes in ((self.answerable, True), (self.unanswerable, False)):
            if meta.get(field) is None:
                continue
            if not isinstance(meta[field], bool):
                raise RowRejected(f"{field!r} is neither true nor false", f"it is {meta[field]!r}")
            said.add(meta[field] is yes)
        if len(said) > 1:
            raise RowRejected("called answerable and unanswerable")
        return said.pop() if said else bool(record.answer and record.answer.strip())

    def estimate(self, record: Problem) -> Estimate:
        """It calls no engine."""
        return NOTHING


class SwapPassages(Filter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes a share of the questions unanswerable by giving each another record's passage.

    Which questions these are, and whose passage each gets, follows from a seeded hash of their ids, whatever
    the order of the rows. A passage is taken only if it is another text and holds none of the aliases of the
    answer, compared word for word after normalisation (not as substrings: "art" is not in "party").

    A changed row has no reference any more; its ``meta`` says ``answerable: false``, whose passage it has
    (``swapped_from``) and what the reference was (``unswapped_answer``). Rows without a passage are rejected,
    rows without a reference stay as they are and are not counted in the share.
    """

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Problem

    share: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """The share of the questions with a reference that get another passage."""
    passage: str = "passage"
    """The column that holds the passage."""
    within: str | None = None
    """A column: passages come from rows with the same value, which makes questions that are harder to
    tell."""
    tries: Annotated[int, Meta(ge=1)] = 100
    """The most passages that are looked at for a question before it is rejected."""

    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        """All rows, with changed answers and meta; the texts are held in memory."""
        import polars as pl

        rows = frame.select("id", "answer", "meta").collect()
        ids, answers, metas = (rows[name].to_list() for name in ("id", "answer", "meta"))
        reasons: list[str | None] = [None] * len(ids)
        read = [self._read(meta, reasons, i) for i, meta in enumerate(metas)]
        able = [i for i, a in enumerate(answers) if reasons[i] is None and a is not None and a.strip()]
        # The id settles equal hashes, so that the order of the input never has a say.
        able.sort(key=lambda i: (derive_seed(seed, ids[i], _FIRST), ids[i]))
        donors = self._donors(seed, ids, read, reasons)
        for i in able[: int(self.share * len(able) + 0.5)]:
            donor = self._donor(i, ids, answers[i], read, donors)
            if donor is None:
                reasons[i] = "no other passage without the answer"
                continue
            changed = {self.passage: read[donor][self.passage], "answerable": False}
            told = {"swapped_from": ids[donor], "unswapped_answer": answers[i]}
            metas[i] = msgspec.json.encode({**read[i], **changed, **told}).decode()
            answers[i] = None
        columns = {"answer": answers, "meta": metas, REJECTED_REASON: reasons}
        made = pl.LazyFrame({name: pl.Series(held, dtype=pl.String) for name, held in columns.items()})
        return pl.concat([frame.drop("answer", "meta"), made], how="horizontal")

    def _read(self, meta: str, reasons: list[str | None], row: int) -> dict[str, Any]:
        try:
            found = fields(meta)
        except RowRejected as refused:
            reasons[row] = refused.reason
            return {}
        if not passages(found.get(self.passage)):
            reasons[row] = f"has no {self.passage!r}"
        return found

    def _donors(
        self, seed: int, ids: list[str], read: list[dict[str, Any]], reasons: list[str | None]
    ) -> dict[str, list[int]]:
        """The rows that have a passage, by the field ``within``, each group in its own hashed order."""
        groups: dict[str, list[int]] = {}
        for i in sorted(range(len(ids)), key=lambda i: (derive_seed(seed, ids[i], _DONOR), ids[i])):
            if reasons[i] is None:
                groups.setdefault(self._group(read[i]), []).append(i)
        return groups

    def _group(self, meta: dict[str, Any]) -> str:
        return "" if self.within is None else repr(meta.get(self.within))

    def _donor(
        self,
        row: int,
        ids: list[str],
        answer: str,
        read: list[dict[str, Any]],
        donors: dict[str, list[int]],
    ) -> int | None:
        """The first row from a hashed place of its group on whose passage will do."""
        group = donors[self._group(read[row])]
        own = passages(read[row][self.passage])
        begin = derive_seed(0, ids[row], _DONOR) % len(group)
        for step in range(min(self.tries, len(group))):
            donor = group[(begin + step) % len(group)]
            text = passages(read[donor][self.passage])
            if donor != row and text != own and not holds(text, answer):
                return donor
        return None


def holds(passage: str, answer: str) -> bool:
    """Whether ``passage`` has the answer, or one of its aliases, as whole words."""
    patterns = [words for reference in read_references(answer) if (words := tokens(reference))]
    return bool(find_whole(tokens(passage), patterns))
