"""What of an answer is put before a judge: what follows its reasoning, if it says anything at all.

A judge may take an answer without content for a right one: a mark, "Solution", "Let me think step by step"
("One Token to Fool LLM-as-a-Judge", arXiv 2507.08794). Such answers are not asked about.
"""

from __future__ import annotations

import re

from gristmill.core.answers import final_answer
from gristmill.core.verdicts import Verdict
from gristmill.verifiers.evidence import unparseable
from gristmill.verifiers.text.words import words

_ANNOUNCED = (
    r"(?:the |my |a |your |final |correct |full |complete |detailed |step by step |brief )*"
    r"(?:solution|answer|response|result|explanation|reasoning|analysis|thought process|thinking|proof"
    r"|conclusion|problem|question|task|approach|method|steps?|summary|verdict|output)s?"
)
_BEGIN = r"(?:let us|let me|lets|i will|ill|i am going to|we will|we need to|i need to|we should|to)"
_DO = (
    r"(?:start|begin|think|solve|work|reason|break|analy[sz]e|look|see|consider|go|walk|tackle|find"
    r"|answer|do)"
)
_REST = (
    r"(?: (?:by|with|about|at|on|over|through|out|down|into|to|and|this|that|these|it|the|a|an|of|for|first"
    r"|down|now|steps?|carefully|together|careful|problem|question|task|thinking|solving|reading|analy[sz]ing"
    r"|understanding|solution|answer|given|following|what|we|have|know|parts?|smaller|one|time))*"
)
_HELP = r"(?:i can|i will|i would be|i am|id be)(?: (?:happy|glad|to|help|you|with|this|that))+"
_WORDS = (
    r"step (?:by step|one|\d)|firstly|so|well|okay|ok|sure|certainly|of course|alright|hmm+|thinking"
    r"|great question|good question"
    r"|(?:sure|certainly|okay|ok|of course|alright) (?:thing|here you go|happy to help|lets go|no problem)"
    r"|解|答|答案|解答|解説|かいせつ|回答|思考过程|respuesta|soluci[oó]n|antwort|l[oö]sung|r[eé]ponse|resposta"
    r"|ответ|решение"
)
_EMPTY = re.compile(
    rf"(?:(?:here|heres|this|below|following) (?:(?:is|are|comes?|follows?) )?)?{_ANNOUNCED}"
    r"(?: (?:is|follows|below|here))*"
    rf"|(?:(?:so|first|now|well|then) )*{_BEGIN} {_DO}{_REST}|{_WORDS}|(?:(?:{_WORDS}) )?{_HELP}"
)
"""A phrase in lower case, without marks, that says nothing."""


def judged_part(completion: str) -> str | Verdict:
    """The part of ``completion`` that a judge is shown, or the verdict that there is none to be judged."""
    answer = final_answer(completion)
    if answer is None:
        return unparseable("unfinished reasoning", "the reasoning or the answer tag is not closed")
    if not answer.strip():
        return unparseable("no answer", "the completion is empty")
    if contentless(answer):
        return unparseable("no answer", f"it says nothing: {answer.strip()[:80]!r}")
    return answer


def judged_parts(*completions: str) -> tuple[str, ...] | str:
    """What a judge is shown of answers that it compares, or why at least one of them is not shown."""
    parts: list[str] = []
    for number, completion in enumerate(completions, 1):
        part = judged_part(completion)
        if isinstance(part, Verdict):
            return f"answer {number} is not judged: {part.rule} ({part.detail})"
        parts.append(part)
    return tuple(parts)


def contentless(text: str) -> bool:
    """Whether ``text`` only announces an answer, or has no word, number or formula at all.

    Judged phrase by phrase, so that one that says something makes all of it content.
    """
    if len(text) > 2_000:
        return False
    text = re.sub(r"\b(?:first|now|next|then), ", "", text, flags=re.IGNORECASE)
    phrases = re.split(r"[.:;,!?\n，。：；！？、*#>_`~|()\[\]{}\"“”]+|(?<!\w)-|-(?!\w)", text)
    return all(_says_nothing(phrase) for phrase in phrases)


def _says_nothing(phrase: str) -> bool:
    if not re.search(r"\w", phrase):
        return not re.search(r"[=<>+∅∞√∑∫≤≥≠±]", phrase)
    plain = " ".join(
        word.replace("'", "").replace("’", "").replace("-", " ") for word in words(phrase.casefold())
    )
    return _EMPTY.fullmatch(plain) is not None or _EMPTY.fullmatch(plain.replace(" ", "")) is not None
