"""The four metrics of RAG-Reward (arXiv 2501.13264) on two answers to one question over the same passages.

The names are the paper's; how each is decided by rules, and what becomes of abstentions, is this project's
own. A metric says ``first``, ``second`` or ``tie``, and ``None`` where it cannot tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal, NamedTuple, get_args

import msgspec

from gristmill.core.verdicts import Verdict
from gristmill.synth.rag.retrieve import GOLD, PASSAGES
from gristmill.synth.refusal.evidence import declines
from gristmill.verifiers.grounding.verifier import GroundingReport
from gristmill.verifiers.judges.base import Winner
from gristmill.verifiers.rules.short_answer import find_whole, tokens

Metric = Literal["hallucination", "comprehensiveness", "verbosity", "attribution"]
METRICS: tuple[Metric, ...] = get_args(Metric)
LONGER = Fraction(6, 5)
"""An answer is longer than another from this many times its words on."""


class PassageAnswer(NamedTuple):
    """What rules know of one answer: its claims that no passage supports, all of its claims, its citations
    that are right and all that it has or lacks, the reference answers in it (``None``: there are none to
    look for), its words, and whether it abstains."""

    unsupported: int
    claims: int
    right: int
    citations: int
    covered: int | None
    words: int
    abstains: bool


def majority(verdicts: Mapping[Metric, Winner | None], weights: Mapping[Metric, float]) -> Winner:
    """Who has more of the weight of the metrics that are not tied; ``tie`` where both have as much.

    A metric without a weight weighs 1. A metric that could not tell counts as one that is tied.
    """
    # By way of the decimal text: 0.1 and 0.2 are meant to be exactly as much as 0.3.
    lead = sum(
        Fraction(str(weights.get(metric, 1.0))) * (1 if winner == "first" else -1)
        for metric, winner in verdicts.items()
        if winner in ("first", "second")
    )
    return "first" if lead > 0 else "second" if lead < 0 else "tie"


def by_rule(metric: Metric, first: PassageAnswer, second: PassageAnswer) -> Winner | None:
    """What rules say of a metric.

    ``hallucination``: fewer claims that the passages do not support; those that are open count as neither.
    ``attribution``: the greater share of right citations among those that are there or are missing.
    ``comprehensiveness``: more of the reference answers; ``None`` where there are none. ``verbosity``: of two
    that have as many of the reference answers, and at least one, the one that is not a fifth longer.
    """
    if metric == "comprehensiveness" or metric == "verbosity":
        if first.covered is None or second.covered is None:
            return None
        if metric == "comprehensiveness":
            return _more(first.covered, second.covered)
        if first.covered != second.covered or not first.covered:
            return "tie"
        short, long = sorted((first.words, second.words))
        return _more(second.words, first.words) if long >= LONGER * short else "tie"
    if not (first.claims and second.claims):
        return None
    if metric == "hallucination":
        return _more(second.unsupported, first.unsupported)
    shares = [Fraction(a.right, a.citations) if a.citations else Fraction(0) for a in (first, second)]
    return _more(*shares)


def by_abstention(first: PassageAnswer, second: PassageAnswer, answerable: bool | None) -> Winner | None:
    """Who wins by abstaining, or by not doing so; ``None`` where that does not decide.

    Where the passages cannot answer, the one that abstains beats the one that does not; where they can, it
    loses.
    """
    if answerable is None or first.abstains == second.abstains:
        return None
    return "first" if first.abstains != answerable else "second"


def by_conflict(
    first: PassageAnswer, second: PassageAnswer, references: Sequence[str], answer: Any
) -> Winner | None:
    """Which of two answers tells more of what conflicting passages say; ``None`` where that does not decide.

    A question whose ``answer`` is null, and which has several ``references``, is one on which they conflict.
    """
    if answer is not None or len(references) < 2 or first.covered == second.covered:
        return None
    return by_rule("comprehensiveness", first, second)


def _more(first: Any, second: Any) -> Winner:
    return "first" if first > second else "second" if first < second else "tie"


def read_answer(text: str, verdict: Verdict, references: Sequence[str]) -> PassageAnswer:
    """What rules know of an answer, of which ``verdict`` is that of ``grounding``.

    ``ValueError`` for a verdict without a report: an error, an answer that is too long.
    """
    try:
        report = msgspec.json.decode(verdict.detail, type=GroundingReport)
    except msgspec.DecodeError as error:
        raise ValueError(verdict.rule or verdict.outcome.value) from error
    count = report.counts
    unsupported = count.get("unsupported", 0)
    claims = sum(count.get(status, 0) for status in ("supported", "undecided", "unsupported"))
    said = tokens(text)
    covered = sum(bool(find_whole(said, [tokens(one)])) for one in references) if references else None
    return PassageAnswer(
        unsupported=unsupported,
        claims=claims,
        right=report.citations.get("right", 0),
        citations=sum(report.citations.values()),
        covered=covered,
        words=len(text.split()),
        abstains=(not claims and count.get("abstained", 0) > 0)
        or (declines(text) and not covered and not unsupported),
    )


def answerable(meta: Mapping[str, Any], references: Sequence[str], key: str) -> bool | None:
    """Whether a question can be answered from the passages it was given; ``None`` where that is not known.

    What the row says under ``key``, true or false, counts first. A question that names its passages can be
    answered if it has all of them, and one that names none cannot. Otherwise it can if a reference answer
    is in a passage, as whole words, and nothing is known if none does: it may be said in other words.
    """
    if isinstance(meta.get(key), bool):
        return bool(meta[key])
    shown = [one for one in meta.get(PASSAGES) or [] if isinstance(one, dict)]
    text = tokens(" ".join(str(one.get("text", "")) for one in shown))
    holds = any(find_whole(text, [tokens(one)]) for one in references if one.strip())
    gold = meta.get(GOLD)
    if isinstance(gold, list):
        return holds or (bool(gold) and set(gold) <= {one.get("source") for one in shown})
    return True if holds else None


def references_of(meta: Mapping[str, Any], keys: Sequence[str]) -> tuple[str, ...]:
    """The answers that a row names under the first of ``keys`` that has some: a text or a list of texts."""
    for key in keys:
        held = meta.get(key)
        listed = [held] if isinstance(held, str) else held if isinstance(held, list) else []
        if found := tuple(one for one in listed if isinstance(one, str) and tokens(one)):
            return found
    return ()
