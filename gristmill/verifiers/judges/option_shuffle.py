"""The option-shuffle check (ACRE, arXiv 2510.10104): does the reasoning lead to the answer, or the letter?

The reasoning of a completion is kept, the options are put in another order, and the question is asked again.
An answer that follows from the reasoning keeps its content. The letters of options are removed from the
reasoning (a letter is replaced by its option's content), and so is the final answer, since either would tell
the model what to say. The rules are the project's own, and so are the coefficients of ``reward``, since
the paper's three were not available.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Engine, Message, Request, Sampling
from gristmill.core.errors import GristmillError
from gristmill.core.prompts import fill
from gristmill.core.stages import Estimate
from gristmill.core.verdicts import Verdict
from gristmill.verifiers.evidence import decided, unparseable
from gristmill.verifiers.guard import failure
from gristmill.verifiers.judges.base import bounds
from gristmill.verifiers.rules.choice import Choice, key, read_key, shuffle
from gristmill.verifiers.rules.listed import LETTERS, split_options
from gristmill.verifiers.text.words import sentences

_PROMPT = """{question}

{options}

Reasoning:
{reasoning}

Which option does this reasoning lead to? End with a line "The answer is L", L being the option's letter."""

_FINAL = re.compile(
    r"\\(?:boxed|fbox)\b|####|\b(?:final\s+)?answer(?:\s+(?:is|was|must be|should be)\b|\s*+\*{0,2}+\s*+:)",
    re.IGNORECASE,
)
_FIXED = re.compile(
    r"\b(?:all|none|both|neither|any|either|some|more than one|two|three)\s+(?:of\s+)?(?:the\s+)?"
    r"(?:above|below|these|those|others?|options|choices)\b"
    r"|\b(?:both|neither|either|only|options?|choices?)\s+\(?[A-Z]\)?(?![\w'’])"
    r"|(?<![\w'’])\(?[A-Z]\)?\s*(?:,|and|or|&|nor)\s*\(?[A-Z]\)?(?![\w'’])"
    r"|\b(?:the\s+)?(?:previous|preceding|following|first|second|third|last)\s+(?:\w+\s+)?(?:options?|choices?)\b"
)

_ONE = r"\(?LETTER\)?(?![\w'’(^*/+=-])"
_LIST = rf"{_ONE}(?:\s*(?:,\s*(?:and|or)\b|,|/|&|\b(?:and|or|nor)\b)\s*{_ONE}){{0,9}}"
_LETTERS = (
    # "B. Paris" at the start of a line
    r"(?m:^)(?P<row>[ \t]*(?:[-*•][ \t]+)?\**)\(?(?P<label>LETTER)[).:]\**[ \t]*(?=\S)"
    # "option B", "between A and C"
    r"|(?P<lead>\b(?i:options?|choices?|answers?|letters?|pick|select|choose|choosing|eliminates?|eliminating"
    r"|excludes?|excluding|between|rules? out|ruling out|leaves|leaving|only|not|so|thus|hence|therefore"
    rf"|go with|going with)[\s:*]+)(?P<named>{_LIST})"
    r"|(?P<bracketed>\(LETTER\))"
    # "B is wrong": only a verb shows that it is a letter and not a word, and only where a clause begins
    rf"|(?<![\w'’])(?P<subject>{_LIST})(?=\s+(?:is|are|was|were|can|cannot|can't|must|would|could|does|seems?|"
    r"fits?|match(?:es)?|says?|states?)\b)"
)
_CLAUSE = re.compile(
    r"(?:^|[.;:!?,\n*]|\b(?:and|but|or|while|since|because|that|think|believe|if))\s*$", re.I
)


class OrderChange(StrEnum):
    """How an answer changed when the options were shuffled."""

    RIGHT = "both right and agree"
    WRONG = "agree and wrong"
    CHANGED = "changed"
    UNDECIDED = "undecided"


class ShuffleCheck(Struct, frozen=True):
    """One check. ``before`` and ``after`` are the chosen contents, ``None`` if none could be read.

    ``order[i]`` is the index that the option shown at ``i`` had before; empty if the model was not asked.
    """

    change: OrderChange
    before: str | None = None
    after: str | None = None
    order: tuple[int, ...] = ()
    why: str = ""
    """Why it is undecided."""


class ShuffleRates(Struct, frozen=True):
    """Counts of checks by their results. Rates are shares of the decided ones, ``None`` if there are none."""

    right: int
    wrong: int
    changed: int
    undecided: int

    @property
    def consistency(self) -> float | None:
        """The share of answers that stayed the same, right or wrong."""
        decided = self.right + self.wrong + self.changed
        return (self.right + self.wrong) / decided if decided else None


def movable(options: Sequence[str]) -> bool:
    """Whether the options mean the same in any order: none refers to others ("none of these")."""
    return not any(_FIXED.search(_lowered(option)) for option in options)


def _lowered(option: str) -> str:
    """Lower case, except for single capitals, which may be the names of options."""
    return re.sub(r"[^\W\d_]{2,}", lambda m: m[0].lower(), option)


def split_answer(completion: str) -> tuple[str, str]:
    """The reasoning and the final answer, which begins with the sentence that states it.

    That is the first sentence on the last line with "the answer is", "Answer:", a box or ``####``, or a last
    line that is only a letter. Without either the second part is empty.
    """
    rows = completion.rstrip().splitlines()
    for at in range(len(rows) - 1, -1, -1):
        if _FINAL.search(rows[at]):
            parts = sentences(rows[at])
            cut = next((i for i, part in enumerate(parts) if _FINAL.search(part)), 0)
            before, after = " ".join(parts[:cut]), " ".join(parts[cut:])
            return "\n".join([*rows[:at], before]).strip(), "\n".join([after, *rows[at + 1 :]])
    last = len(rows)
    if rows and re.fullmatch(r"\W*(?:option\s+)?\W*[A-Z]\W*", rows[-1], re.IGNORECASE):
        last -= 1
    return "\n".join(rows[:last]).strip(), "\n".join(rows[last:])


def strip_letters(reasoning: str, options: Sequence[str]) -> str:
    """``reasoning`` with the letters that name options replaced by those options' contents.

    Such letters are in "Option B", "(B)", "B is wrong", "between B and C", and "B. Paris" at the start of a
    line (which becomes "Paris"). Other capitals ("vitamin C", "A dog") and letters beyond the options stay.
    """
    known = LETTERS[: len(options)]

    def contents(letters: str) -> str:
        return re.sub(rf"(?<![\w'’])\(?([{known}])\)?(?![\w'’])", lambda m: _option(m[1], options), letters)

    def replaced(found: re.Match[str]) -> str:
        if found["label"]:
            option = _option(found["label"], options)
            given = found.string.startswith(option, found.end())
            return found["row"] + ("" if given else f"{option}: ")
        if found["subject"] and not _CLAUSE.search(found.string[max(0, found.start() - 20) : found.start()]):
            return found[0]
        return (found["lead"] or "") + contents(found["named"] or found["subject"] or found["bracketed"])

    # One pass, so that an inserted content is not searched for letters again.
    return re.sub(_LETTERS.replace("LETTER", f"[{known}]"), replaced, reasoning)


def _option(letter: str, options: Sequence[str]) -> str:
    return options[LETTERS.index(letter)]


def chosen(completion: str, options: Sequence[str]) -> str | None:
    """The content of the option that ``completion`` chooses; ``None`` if ``Choice`` cannot read one."""
    verdict = Choice()(completion, key(options, options[0]))
    if not verdict.decided or verdict.extracted is None:
        return None
    return options[LETTERS.index(verdict.extracted[0])]


def compare(before: str | None, after: str | None, answer: str) -> OrderChange:
    """How an answer changed, from the contents before and after and the right option's content."""
    if before is None or after is None:
        return OrderChange.UNDECIDED
    if _plain(before) != _plain(after):
        return OrderChange.CHANGED
    return OrderChange.RIGHT if _plain(before) == _plain(answer) else OrderChange.WRONG


def _plain(text: str) -> str:
    return " ".join(text.split())


def rates(checks: Sequence[ShuffleCheck]) -> ShuffleRates:
    """The counts of ``checks``."""
    found = Counter(c.change for c in checks)
    return ShuffleRates(
        found[OrderChange.RIGHT],
        found[OrderChange.WRONG],
        found[OrderChange.CHANGED],
        found[OrderChange.UNDECIDED],
    )


def reward(
    check: ShuffleCheck, *, right: float = 1.0, wrong: float = 0.2, changed: float = 0.0
) -> float | None:
    """A graded reward, highest for answers that are right and stay the same; ``None`` if undecided."""
    worth = {OrderChange.RIGHT: right, OrderChange.WRONG: wrong, OrderChange.CHANGED: changed}
    return worth.get(check.change)


def verdict(check: ShuffleCheck) -> Verdict:
    """``correct`` for an answer that is right and stays the same; ``unparseable`` if that is undecided."""
    if check.change is OrderChange.UNDECIDED:
        return unparseable("option shuffle", check.why, check.before)
    detail = f"before: {check.before}; after: {check.after}"
    rule = f"option shuffle: {check.change}"
    return decided(check.change is OrderChange.RIGHT, rule=rule, extracted=check.before, detail=detail)


async def check_options(
    question: str,
    options: Sequence[str],
    answer: str,
    completion: str,
    engine: Engine,
    *,
    seed: int,
    sampling: Sampling | None = None,
) -> ShuffleCheck:
    """Ask ``question`` again with the reasoning of ``completion`` and its ``options`` shuffled.

    ``question`` does not include its options; ``answer`` is the right option's letter or content. One
    completion is requested, or none if the check is impossible: options that refer to each other or are
    equal, no readable answer, no reasoning before it. Raises the engine's errors, and ``GristmillError`` for
    fewer than two options or an ``answer`` that is not one of them.
    """
    right = _content(answer, options)
    shown = shuffle(options, seed)
    reasoning, final = split_answer(completion)
    before = chosen(final or completion, options)
    reasoning = strip_letters(reasoning, options)
    if len({_plain(o) for o in options}) < len(options):
        return ShuffleCheck(OrderChange.UNDECIDED, before, why="two options are equal")
    if not movable(options):
        return ShuffleCheck(OrderChange.UNDECIDED, before, why="the options refer to each other")
    if before is None:
        return ShuffleCheck(OrderChange.UNDECIDED, why="no answer could be read")
    if not reasoning:
        return ShuffleCheck(OrderChange.UNDECIDED, before, why="there is no reasoning before the answer")
    listed = "\n".join(f"({letter}) {o}" for letter, o in zip(LETTERS, shown.options, strict=False))
    text = fill(_PROMPT, question=question, options=listed, reasoning=reasoning)
    request = Request((Message("user", text),), sampling or Sampling(temperature=0.0), seed)
    [again] = await engine.generate(request)
    after = chosen(again.text, shown.options) if again.finished else None
    why = "" if after is not None else "the second answer could not be read"
    return ShuffleCheck(compare(before, after, right), before, after, shown.order, why)


def _content(answer: str, options: Sequence[str]) -> str:
    for option in options:
        if _plain(option) == _plain(answer):
            return option
    letter = answer.strip().strip("().").upper()
    if len(letter) == 1 and letter in LETTERS[: len(options)]:
        return options[LETTERS.index(letter)]
    raise GristmillError(
        f"the answer {answer!r} is not one of the {len(options)} options.",
        remedy="Give its letter or its text, as in the options.",
    )


class OptionShuffle(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``check_options`` as a model verifier: correct only for an answer that is right and stays the same.

    The reference is as for ``Choice``. The options are the reference's or, if it has none, those that the
    problem lists; the question is asked again without that list. ``error`` without options, or if the
    reference's answer is not one of them.
    """

    sampling: Sampling = Sampling(temperature=0.0)
    """How the second answer is sampled."""

    @property
    def needs(self) -> frozenset[Ability]:
        """No ability except chat."""
        return frozenset({Ability.CHAT})

    def estimate(self, completion: str, reference: str, *, problem: str) -> Estimate:
        """One question at most."""
        cost = bounds(1, 1, "text", self.sampling.max_tokens, problem, reference, completion)
        return replace(cost, completions_min=0)

    async def __call__(
        self, completion: str, reference: str, *, problem: str, engine: Engine, seed: int
    ) -> Verdict:
        """Judge one answer by asking again with the options shuffled."""
        try:
            given = read_key(reference)
        except ValueError as error:
            return failure("reference unparseable", str(error))
        question, listed = split_options(problem)
        options = given.options or split_options(given.problem)[1] or listed
        if not 2 <= len(options) <= len(LETTERS):
            return failure("no options", f"{len(options)} options in the reference or the problem")
        try:
            answer = _content(given.answer, options)
        except GristmillError as error:
            return failure("reference unparseable", str(error))
        check = await check_options(
            question, options, answer, completion, engine, seed=seed, sampling=self.sampling
        )
        return verdict(check)
