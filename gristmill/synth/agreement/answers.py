"""The answers of samples, and which of them are equal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from gristmill.core.records import Sampled
from gristmill.verifiers.rules.votes import Grouping, group_texts, group_values, vote

Answers = Literal["math", "short", "verdict"]
"""Where an answer is read: ``math``, the final answer of the text; ``short``, a short one (after "the answer
is", or the last line); ``verdict``, what the verifier has extracted."""
Equal = Literal["math", "text"]
"""When answers are equal: as mathematical values, or with the same words and numbers."""


def said(completion: str, how: Literal["math", "short"]) -> str | None:
    """The final answer of a text, ``None`` where it has none."""
    if how == "math":
        from gristmill.verifiers.math import extract

        found = extract(completion)
        return None if found is None else found.text
    from gristmill.verifiers.rules.short_answer import extract as extract_short

    short = extract_short(completion)
    return None if short is None else short.text


def answer_of(sample: Sampled, how: Answers = "math") -> str | None:
    """A sample's answer; ``None`` where it has none, and for a sample that was cut off."""
    if sample.finish_reason != "stop":
        return None
    if how == "verdict":
        return None if sample.verdict is None else sample.verdict.extracted
    return said(sample.completion, how)


def grouping(equal: Equal) -> Grouping:
    """The function that puts equal answers into classes."""
    return group_texts if equal == "text" else group_values


def class_labels(samples: Sequence[Sampled]) -> list[str | None]:
    """Each sample's answer as the first of its class wrote it; ``None`` without a finished answer."""
    answers = [answer_of(sample) for sample in samples]
    labels: list[str | None] = [None] * len(samples)
    for alike in vote(answers).classes:
        for place in alike:
            labels[place] = answers[alike[0]]
    return labels


def same(first: str, second: str, equal: Equal = "math") -> bool:
    """Whether two answers are equal."""
    return first == second or len(grouping(equal)([first, second])) == 1


def truth(decided: Iterable[bool | None], label: str, gold: str | None, equal: Equal = "math") -> bool | None:
    """Whether an answer is right: by what the verifier ``decided`` on the samples that gave it, or where it
    decided none, by whether the answer equals ``gold``.

    ``None`` where neither can say, where the verdicts contradict each other, and where the math verifier
    cannot decide, such as for a reference that is a whole solution.
    """
    found = {right for right in decided if right is not None}
    if found:
        return found.pop() if len(found) == 1 else None
    if gold is None:
        return None
    if equal == "text":
        return same(label, gold, equal)
    from gristmill.verifiers.math import verify

    verdict = verify(f"\\boxed{{{label}}}", gold)
    return verdict.correct if verdict.decided else None


BACKWARD = "backward vote"
"""How the rules of ``backward_vote``'s verdicts begin, which say what answer won and not what is right."""
