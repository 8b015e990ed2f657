"""Which answers to a question are known to be right or wrong, for preference pairs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from gristmill.core.engine import Ability
from gristmill.core.errors import RowRejected
from gristmill.core.knowledge import Certainty, Knowledge
from gristmill.core.records import Problem
from gristmill.core.stages import Context, Estimate, Rejection
from gristmill.synth.refusal.forms import Form
from gristmill.synth.refusal.probe import ProbeKnowledge
from gristmill.verifiers.rules.formats import is_refusal

_SPAN = 400
"""A refusal is looked for in this many first characters."""
_DECLINES = re.compile(
    r"(?:\A|[.!?,;:]\s|\b(?:but|and|so|that|sorry|afraid),?\s)\s*I(?:"
    r"(?:['’]d| would) (?:only |just |have to )?"
    r"(?:be (?:only |just )?guessing|(?:make|be making) (?:something|it|one|this|an answer) up)(?!\w)"
    r"|(?:['’]m| am)? ?"
    r"(?:(?:really|honestly|simply|just|unfortunately) )?"
    r"(?:(?:do not|don['’]t) (?:know|have (?:any |enough |reliable )*(?:knowledge|information))"
    r"|(?:cannot|can['’]t|could not|not able to|unable to|would rather not) "
    r"(?:say|tell|answer|determine|give (?:a|an|any)|guess)"
    r"|(?:not (?:\w+ )?(?:sure|certain)|unsure|uncertain)"
    r"(?: (?:enough|about|whether|if|what|who|where|when|which|of the answer)|(?=\s*(?:[.!,;]|\Z)))"
    r"|have no (?:\w+ )?(?:idea|knowledge|information|answer))(?!\w))",
    re.IGNORECASE,
)


def declines(text: str, sentences: Sequence[str] = ()) -> bool:
    """Whether ``text`` says that it does not answer: one of ``sentences`` is at its beginning, or a
    phrase of not knowing or of refusing is among its first 400 characters. English only.

    Case, blanks and a last full stop do not matter, and a sentence ends with a word: "Pass" is not at
    the beginning of "Passau".
    """
    head = _plain(text[:_SPAN])
    given = (_plain(s).rstrip(".") for s in sentences)
    return (
        any(s and head.startswith(s) and not head[len(s) : len(s) + 1].isalnum() for s in given)
        or _DECLINES.search(text[:_SPAN]) is not None
        or is_refusal(text)
    )


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold().replace("’", "'")


class KnownAnswers(NamedTuple):
    """Answers that are known to be right, and such as are known to be wrong, each text once."""

    right: tuple[str, ...]
    wrong: tuple[str, ...]


def told(record: Certainty, form: Form) -> KnownAnswers:
    """What the split alone tells: the reference is right, the greedy answer is wrong if its verdict says so,
    and the most frequent one is wrong where all samples are judged and none is right. Each is put as the
    form puts an answer: for mathematics with reasoning use samples."""
    right, wrong = [form.answered(record)], []
    if record.greedy is not None and record.greedy_correct is False:
        wrong.append(form.answered(record, record.greedy))
    elif record.majority is not None and record.correct == 0 and 0 < record.decided == len(record.classes):
        wrong.append(form.answered(record, record.majority))
    return KnownAnswers(tuple(right), tuple(w for w in wrong if w not in right and not declines(w)))


def sampled(knowledge: Knowledge) -> KnownAnswers:
    """The finished samples by their verdicts, in the order in which they were drawn; an answer without a
    decided verdict is neither right nor wrong, and one that declines is not an answer."""
    drawn = ([] if knowledge.greedy is None else [knowledge.greedy]) + list(knowledge.samples)
    usable = [
        (j.completion.text.strip(), j.verdict.correct)
        for j in drawn
        if j.completion.finished and j.verdict.decided and j.completion.text.strip()
    ]
    right = dict.fromkeys(text for text, correct in usable if correct)
    wrong = dict.fromkeys(text for text, correct in usable if not correct and not declines(text))
    # A verifier that says both of one text is no evidence for either.
    return KnownAnswers(tuple(t for t in right if t not in wrong), tuple(t for t in wrong if t not in right))


async def answers(
    record: Certainty, probe: ProbeKnowledge | None, form: Form, context: Context
) -> KnownAnswers:
    """The samples that ``probe`` drew of this question; the completion log answers for those drawn before.
    Without a probe, what ``told`` says. ``RowRejected`` where the probe made nothing."""
    if probe is None:
        return told(record, form)
    problem = Problem(record.id, record.problem, record.answer, meta=record.meta)
    made = await probe(problem, context)
    found = next((m for m in made if isinstance(m, Knowledge)), None)
    if found is None:
        why = "; ".join(m.reason for m in made if isinstance(m, Rejection))
        raise RowRejected("the probe gave no answers", why)
    return sampled(found)


def needs_of(probe: ProbeKnowledge | None) -> frozenset[Ability]:
    """What a stage with this probe needs of its engine."""
    return frozenset() if probe is None else probe.needs


def cost_of(record: Certainty, probe: ProbeKnowledge | None, rows_max: int) -> Estimate:
    """What drawing the samples costs, of which at most ``rows_max`` pairs are made; nothing where the log has
    them."""
    if probe is None:
        return Estimate(0, 0, 0, 0, rows_max)
    cost = probe.estimate(Problem(record.id, record.problem, record.answer, meta=record.meta))
    return replace(cost, rows_max=rows_max)
