"""Whether a critique of an answer praises or blames it, by words and rules that can be read here.

Not a sentiment model and not a general lexicon: critiques have a language of their own. "It would be helpful
to explain" praises nothing, "does not address the question" blames without a bad word, and "no errors"
praises with one. A text is cut into clauses, and each is praise, blame, a suggestion, or nothing:

1. "no errors", "without mistakes", "not only": praise, or nothing;
2. what would, could or should be otherwise is a suggestion, whatever words it has;
3. what an answer is not, does not do, lacks or fails to do is blame;
4. else the words decide, by which of both lists has more.

The first clause and those of a conclusion ("Overall, ...") count double. The rules are for English.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

Said = Literal["praise", "blame", "suggestion"]

_PRAISE = """
accurate accurately adept admirable appropriate appropriately astute attractive beautifully beneficial best
brilliant captivating captures clear clearly coherent cohesive commendable commendably compelling complete
comprehensive comprehensively concise convincing correct correctly creative creatively credible demonstrates
detailed easy effective effectively efficient elegant engaging enhances excellent excellently exceptional
exemplary exhaustive faithful fantastic flawless fulfills fulfils good great helpful helpfully highlights
impressive informative innovative insightful interesting knowledgeable logical logically meaningful
memorable nice nicely original outstanding perfect perfectly persuasive polished polite practical precise
precisely professional proper properly readable relevant reliable respectful rich right satisfies skilfully
skillfully solid sound strong strongly successful successfully suitable superb thorough thoroughly
thoughtful truthful unique useful valid valuable vivid well wonderful
"""
_BLAME = """
abrupt abruptly absent absurd ambiguous awkward bad baseless biased bland blunt boring careless clumsy
confused confuses confusing contradiction contradictory contradicts cryptic dangerous deceptive deficient
disappointing disjointed dismissive disorganized disrespectful distracting disturbing dubious erroneous
erroneously error errors evasive fabricated fabricates false falsely flawed gibberish hallucinated
hallucinates hallucination harmful ignored ignores illogical inaccuracies inaccuracy inaccurate inaccurately
inadequate inappropriate incoherent incomplete incomprehensible inconsistent incorrect incorrectly
ineffective inefficient insensitive insufficient insufficiently invalid invented irrelevant lazy limited
meaningless misguided misinterpretation misinterpreted misinterprets misleading misrepresents missed misses
missing mistake mistaken mistakenly mistakes misunderstanding misunderstands misunderstood muddled nonsense
nonsensical offensive omission omissions omits outdated overlooks oversimplifies pointless poor poorly
problematic questionable redundant repeats repetitive rude shallow sloppy superficial terrible trivial
unacceptable unclear unconvincing unethical unfocused unhelpful uninformative unnecessary unorganized
unrealistic unrelated unsafe unsatisfactory unsupported untrue untruthful useless vague weak wrong wrongly
"""
_WORD = re.compile(r"[a-z]+(?:['’-][a-z]+)*")
_TURN = r"(?:but|however|although|though|while|whereas|yet|nevertheless|nonetheless)"
_CLAUSES = re.compile(
    rf"(?<=[.!?;])\s+|\n+|,?\s+{_TURN}\b[,\s]*|^{_TURN}\b[,\s]*", re.IGNORECASE | re.MULTILINE
)
_NUMBERING = re.compile(
    r"^\W*(?:(?:critiques?|feedback|strengths?|weaknesses)\b\s*\d*\s*[:.)]\s*)?(?:\d+\s*[.):]\s*)?"
)
_FAULT = (
    r"(?:errors?|mistakes?|faults?|flaws?|inaccurac\w+|hallucinations?|issues?|problems?|omissions?"
    r"|contradictions?|doubts?)"
)
_FREE = r"(?:no|without(?: any)?|free (?:of|from)|(?:not|n't) (?:contain|have|make|include|show)(?: any)?)"
_CLEAN = re.compile(rf"\b{_FREE}\s+(?:\w+\s+){{0,2}}{_FAULT}\b")
_NOT_ONLY = re.compile(r"\bnot only\b|\bnot just\b")
_SUGGESTION = re.compile(
    r"\b(?:would|could|might|may|should|can)\s+(?:\w+ly\s+|also\s+|still\s+|all\s+)?"
    r"(?:have|be|benefit|include|provide|use|add|enhance|improve|make|help|strengthen|consider|mention"
    r"|explain|try|give|delve)\b"
    r"|\b(?:consider|try to|make sure|ensure|be sure|remember to|aim to|please|next time|in (?:the )?future"
    r"|to improve|room for improvement|areas? (?:for|of) improvement"
    r"|more (?:specific|detailed?|examples?|information|context))\b"
    r"|^(?:add|avoid|aim|check|clarify|double-check|elaborate|expand|explain|focus|include|instead|provide"
    r"|verify|adding|including|providing|expanding|exploring|incorporating|mentioning|discussing)\b"
)
_DENIAL = re.compile(
    r"\b(?:do|does|did|is|are|was|were|has|have|had|can|could|would|should|will)(?:\s+not\b|n['’]t\b)"
    r"|\bcannot\b|\bfail(?:s|ed|ing|ure)?\b|\black(?:s|ed|ing)?\b|\bnot\s+(?:at all|\w+)\b|\bneither\b"
    r"|\bnever\b|\bnone of\b|\bwithout\s+(?:any|\w+ing|further|offering|addressing)\b|\bunable to\b"
    r"|\bno (?:explanation|\w*\s?reason\w*|evidence|attempt|answer|details?|examples?|information|mention"
    r"|justification|effort|relevance|value)\b"
    r"|\bfalls? short\b|\bfell short\b"
    r"|\b(?:simply|merely|only|just) (?:states?|restates?|repeats?|asks?|rephrases?|provides?|mentions?)\b"
    r"|\brather than\b|\binstead of\b|\bdespite\b"
)
_CONCLUSION = re.compile(
    r"^(?:overall|in (?:conclusion|summary|short)|to (?:conclude|sum up|summarize)|therefore|thus|in all)\b"
)
_PRAISE_SET, _BLAME_SET = frozenset(_PRAISE.split()), frozenset(_BLAME.split())


@lru_cache(maxsize=4096)
def stance(critique: str) -> float | None:
    """How much a critique praises (towards 1) or blames (towards -1); ``None`` where it does neither.

    (praise - blame) / (praise + blame + suggestions / 2), of the weights of its clauses.
    """
    weights: dict[Said, float] = {"praise": 0.0, "blame": 0.0, "suggestion": 0.0}
    first = True
    for clause in clauses(critique):
        said = judged(clause)
        if said is not None:
            weights[said] += 2.0 if first or _CONCLUSION.match(clause) else 1.0
            first = False
    told = weights["praise"] + weights["blame"]
    return (weights["praise"] - weights["blame"]) / (told + weights["suggestion"] / 2) if told else None


def clauses(text: str) -> list[str]:
    """The clauses of a text, in lower case, without the numbers and headings of a list."""
    found = (_NUMBERING.sub("", part.strip().lower(), count=1) for part in _CLAUSES.split(text) if part)
    return [clause for clause in found if _WORD.search(clause)]


def judged(clause: str) -> Said | None:
    """What a clause, in lower case, is."""
    rest, clean = _CLEAN.subn(" ", _NOT_ONLY.sub(" ", clause))
    if _SUGGESTION.search(rest):
        return "suggestion"
    if _DENIAL.search(rest):
        return "blame"
    words = _WORD.findall(rest)
    praise = sum(word in _PRAISE_SET for word in words) + clean
    blame = sum(word in _BLAME_SET for word in words)
    if praise == blame:
        return None
    return "praise" if praise > blame else "blame"
