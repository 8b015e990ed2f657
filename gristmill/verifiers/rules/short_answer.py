"""Short answers: normalised exact match and token F1, with numbers, dates and labels compared as such.

The normalisation is SQuAD's (lower case, no punctuation, no articles, single spaces) except for four things
that it gets wrong: numbers are compared as numbers (``3.5`` is not ``35``), punctuation between two digits
separates them (``1-0`` is not ``10``), ``+ # = < > ^`` stay (``C++`` is not ``C``), and an answer that
consists only of an article or a mark ("A", "?") is kept. Because of these it is written here: the libraries
with a SQuAD metric (evaluate, torchmetrics) have the original's.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

from msgspec import Meta, Struct

from gristmill.core.errors import RecipeError
from gristmill.core.verdicts import Verdict
from gristmill.verifiers.evidence import decided, read_references, unparseable
from gristmill.verifiers.guard import answered, failure
from gristmill.verifiers.math import last_box
from gristmill.verifiers.text.numerals import dates, is_number_word, numeral
from gristmill.verifiers.text.words import lines, sentences

Extract = Literal["auto", "whole", "marker", "last_line", "first_sentence"]

LIMIT = 20_000
"""The longest extracted answer that is compared, in characters."""

_LAYERS = 6
"""At most this many layers of decoration are removed, since a hostile text may consist of nothing else."""

_MARKER = re.compile(
    # Possessive, so that no run of blanks is read twice.
    r"\banswer(?:\s++(?:is|was|would be|should be)\b|\s*+\*{0,2}+\s*+[:=])(?:\*\*)?+[\s:]*+|^[ \t]*+####\s*+",
    re.IGNORECASE | re.MULTILINE,
)
_KEPT = frozenset("+#=<>^")
_WRAPPERS = re.compile(r"\\(?:text|textbf|mathrm|textit|mathbf)\s*\{([^{}]*)\}")
_ARTICLES = frozenset(("a", "an", "the"))
_BETWEEN_DIGITS = re.compile(r"(?<=\d)[^\w\s.,+#=<>^](?=\d)|(?<=\d),(?=\d)")
_LABEL_WORD = re.compile(r"\w++(?:[-_.'’]\w++)*+")
_NEGATION = (
    "not never no non un nor neither cannot cant isnt wasnt arent werent doesnt didnt dont wont wouldnt "
    "couldnt shouldnt hasnt havent hardly scarcely without lacks lack fails failed unable nothing rather "
    "than instead far whether wrong false incorrect"
)
_NEGATIONS = frozenset(_NEGATION.split())
_DEGREE = "partially partly barely mostly somewhat largely weakly slightly half nearly almost only"
_DEGREES = frozenset(_DEGREE.split())
_FILLER = (
    "a an the be been being is are was were it this that to of as at all so quite really very fully entirely "
    "completely wholly totally strictly exactly directly explicitly clearly actually truly well adequately "
    "sufficiently necessarily considered deemed called labelled labeled say said from than any either "
    "evidence claim"
)
_FILLERS = frozenset(_FILLER.split())
_PHRASE = re.compile(r"\b(?:no|without(?: a)?) (?:doubt|question)\b")
"""Phrases whose "no" does not answer anything."""
_PARTED = re.compile(r"[.;:!?,\n]")
_CONTRACTED = re.compile(r"['’]")


class ShortAnswer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Judge a short answer against one reference, or a JSON list of aliases of which the best counts."""

    metric: Literal["exact", "f1", "contains"] = "exact"
    """``exact``: equal after normalisation. ``f1``: the F1 of the normalised tokens, as in SQuAD.
    ``contains``: the answer contains a reference as whole words ("art" is not in "party"); a list of guesses
    passes that as well."""
    threshold: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """The lowest F1 that counts as ``correct``, in (0, 1]."""
    extract: Extract = "auto"
    """Where the answer is: after the last ``marker`` (a box, "the answer is", "answer:", ``####``), in the
    ``last_line``, the ``first_sentence`` or the ``whole`` text. ``auto``: after a marker if there is one,
    otherwise in the last line. The verdict's rule says which it was."""
    date_order: Literal["undecided", "day_first", "month_first"] = "undecided"
    """How ``1/2/2020`` is read; ``undecided`` makes it ``unparseable`` if it matters. An answer and a
    reference that are both dates are compared only as dates."""
    labels: tuple[str, ...] = ()
    """The set that answers come from. The answer must be, or contain as a whole, exactly one label:
    "supported" is not found in "not_supported" or "partially supported" if those are labels too. A label that
    is denied ("not fully supported", "neither supported nor refuted") or weakened ("barely supported") is not
    named; alternatives ("supported or refuted") are ``incorrect``; else no label or several labels are
    ``unparseable``."""

    def __post_init__(self) -> None:
        joined = Counter(_label_words(label) for label in self.labels)
        same = [" ".join(words) for words, n in joined.items() if n > 1 or not words]
        if same:
            raise RecipeError(
                f"short_answer: the labels {list(self.labels)} are not distinct words: {same}.",
                remedy="Give labels that differ in more than case, '-' and '_'.",
            )

    def __call__(self, completion: str, reference: str) -> Verdict:
        """Judge ``completion``; a blank reference, or one outside ``labels``, is an ``error``."""
        return answered(self._verify, completion, reference)

    def refuses(self, reference: str) -> str:
        """Why nothing can be judged by ``reference``; empty where it can."""
        wanted = read_references(reference)
        if not wanted:
            return "the reference is empty"
        known = {_label_words(label) for label in self.labels}
        if self.labels and not known.issuperset(map(_label_words, wanted)):
            return f"{list(wanted)} is not among {list(self.labels)}"
        return ""

    def _verify(self, completion: str, reference: str) -> Verdict:
        if why := self.refuses(reference):
            return failure("reference unparseable", why)
        wanted = read_references(reference)
        found = extract(completion, self.extract)
        if found is None or not found.text:
            return unparseable("no answer", f"nothing to read by {self.extract!r}")
        if len(found.text) > LIMIT:
            return unparseable("too long", f"the answer has {len(found.text):,} characters, over {LIMIT:,}")
        if self.labels:
            return self._by_label(completion, found, wanted)
        return self._by_date(found, wanted) or self._by_tokens(found, wanted)

    def _by_label(self, completion: str, found: ShortExtracted, wanted: Sequence[str]) -> Verdict:
        known = {_label_words(label): label for label in self.labels}
        gold = {known[_label_words(w)] for w in wanted}
        named = whole_labels(found.text, self.labels)
        if not named and found.by == "last line":  # a label, then its explanation
            found = ShortExtracted(undecorated(lines(completion)[0]), "first line")
            if _label_words(found.text) in known:
                named = whole_labels(found.text, self.labels)
        rule = f"label: {found.by}"
        distinct = {place.label for place in named if not place.denied and not place.weakened}
        weakened = {place.label for place in named if place.weakened}
        if len(distinct) > 1 and any(place.alternative for place in named):
            which = ", ".join(self.labels[i] for i in sorted(distinct))
            return decided(False, rule=f"{rule}: hedge", extracted=which, detail=f"several labels: {which}")
        if len(distinct) != 1 or weakened:
            shown = sorted(distinct | weakened or {place.label for place in named})
            which = ", ".join(self.labels[i] for i in shown)
            why = "several labels" if distinct else "weakened" if weakened else "denied"
            return unparseable(rule, f"{why}: {which}" if which else "no label", found.text)
        label = self.labels[min(distinct)]
        return decided(label in gold, rule=rule, extracted=label)

    def _by_date(self, found: ShortExtracted, wanted: Sequence[str]) -> Verdict | None:
        answer = dates(found.text, self.date_order)
        golds = [gold for w in wanted if (gold := dates(w, self.date_order))]
        if not answer or not golds:
            return None
        rule = f"date: {found.by}"
        if answer in golds:
            return decided(True, rule=rule, extracted=found.text)
        if any(set(answer) & set(gold) for gold in golds):
            return unparseable(rule, "the day and the month cannot be told apart; set date_order", found.text)
        return decided(False, rule=rule, extracted=found.text)

    def _by_tokens(self, found: ShortExtracted, wanted: Sequence[str]) -> Verdict:
        answer = tokens(found.text)
        golds = [tokens(w) for w in wanted] + [tokens(undecorated(w)) for w in wanted]
        if self.metric == "f1":
            score = max(f1(answer, gold) for gold in golds)
        elif self.metric == "contains":
            score = float(bool(find_whole(answer, golds)))
        else:
            score = float(answer in golds)
        return decided(
            score >= (self.threshold if self.metric == "f1" else 1),
            score=score,
            rule=f"{self.metric}: {found.by}",
            extracted=found.text,
        )


class ShortExtracted(NamedTuple):
    """An answer and where it was found."""

    text: str
    by: str


def extract(text: str, how: Extract = "auto") -> ShortExtracted | None:
    """The answer in ``text``, without decoration; ``None`` if ``marker`` finds none."""
    if how in ("auto", "marker"):
        marked = _marked(text)
        if marked is not None or how == "marker":
            return marked
        how = "last_line"
    if how == "last_line":
        found = lines(text)[-1:]
        return ShortExtracted(undecorated(found[0] if found else ""), "last line")
    if how == "first_sentence":
        found = sentences(text[:LIMIT])[:1]
        return ShortExtracted(undecorated(found[0] if found else ""), "first sentence")
    return ShortExtracted(undecorated(text), "whole")


def _marked(text: str) -> ShortExtracted | None:
    """The content of the last box, or what follows the last marker on its line, up to a sentence's end."""
    if (box := last_box(text)) is not None:
        return ShortExtracted(undecorated(box), "box")
    for marker in reversed(list(_MARKER.finditer(text))):
        end = text.find("\n", marker.end())
        if content := text[marker.end() : end if end >= 0 else None].strip():
            break
    else:
        return None
    first = sentences(content[:LIMIT]) if len(content) <= LIMIT else [content]
    return ShortExtracted(undecorated(first[0]), "marker")


def undecorated(text: str) -> str:
    r"""``text`` without Markdown emphasis, ``\text{}``, dollar signs of formulas, quotes and a last stop."""
    text = _WRAPPERS.sub(r"\1", text.strip())
    for _ in range(_LAYERS):
        for mark in ("**", "__", "`", "*", "$", '"', "'"):
            if len(text) >= 2 * len(mark) and text.startswith(mark) and text.endswith(mark):
                text = text[len(mark) : -len(mark)].strip()
        text = text.removesuffix(".").strip() if not re.search(r"\b\w\.\w\.$", text[-8:]) else text
        text = text.strip("“”").strip()
    return text


def tokens(text: str) -> list[str]:
    """The normalised tokens of ``text`` (see the module), each number in one plain form, in order."""
    pieces: list[str] = []
    for chunk in unicodedata.normalize("NFC", text).lower().replace("−", "-").split():
        pieces += _pieces(chunk)
    read: list[str] = []
    at = 0
    while at < len(pieces):
        number = numeral(pieces, at)
        value, at = number or (pieces[at], at + 1)
        if number is None and value in ("percent", "%") and read and read[-1][-1].isdigit():
            continue
        read.append(value)
    kept = [word for word in read if word not in _ARTICLES]
    return kept or read or [text.strip()]


def _pieces(chunk: str) -> list[str]:
    """The words of a text without spaces: a number stays whole, other punctuation is removed."""
    core = chunk.strip("\"'“”‘’()[]{}*_`,;:!?.%")
    signed = chunk.lstrip("\"'“”‘’([{*_`")
    if signed[:1] == "." and signed[1:2] == core[:1] and core[:1].isdigit():
        core = "." + core
    if core and numeral([core], 0):
        return [core]
    if "-" in core and all(map(is_number_word, core.split("-"))):
        return core.split("-")
    parts = _BETWEEN_DIGITS.sub(" ", core).split()
    return [word for part in parts if (word := "".join(c for i, c in enumerate(part) if _stays(part, i)))]


def _stays(part: str, i: int) -> bool:
    character = part[i]
    if character == ".":  # a decimal point
        return part[i - 1 : i].isdigit() and part[i + 1 : i + 2].isdigit()
    return character in _KEPT or not unicodedata.category(character).startswith(("P", "S"))


def f1(answer: Sequence[str], gold: Sequence[str]) -> float:
    """The harmonic mean of the precision and the recall of tokens, counted with repetition."""
    common = (Counter(answer) & Counter(gold)).total()
    return 2 * common / (len(answer) + len(gold)) if common else 0.0


def find_whole(sequence: Sequence[str], patterns: Sequence[Sequence[str]]) -> list[tuple[int, int]]:
    """Where ``patterns`` occur in ``sequence``: (pattern, position) pairs, the longest at each position, none
    overlapping. A pattern is not found inside a longer one."""
    by_first: dict[str, list[int]] = {}
    for index in sorted(range(len(patterns)), key=lambda i: -len(patterns[i])):
        if patterns[index]:
            by_first.setdefault(patterns[index][0], []).append(index)
    found, at = [], 0
    while at < len(sequence):
        for index in by_first.get(sequence[at], ()):
            pattern = patterns[index]
            if list(sequence[at : at + len(pattern)]) == list(pattern):
                found.append((index, at))
                at += len(pattern) - 1
                break
        at += 1
    return found


class LabelPlace(NamedTuple):
    """A place where a text names a label: which, and how.

    ``denied``: a word such as "not" or "whether" governs it, or it is asked. ``weakened``: a degree stands at
    it that is not part of it. ``alternative``: an "or" or "and" joins it to the label before it.
    """

    label: int
    denied: bool = False
    weakened: bool = False
    alternative: bool = False


def whole_labels(text: str, labels: Sequence[str]) -> list[LabelPlace]:
    """Each place where ``text`` names one of ``labels`` as a whole.

    Case does not matter, and "not_supported", "not-supported" and "not supported" are one label; but
    "partially_supported" is one word, in which "supported" is not found. A denial reaches over words such as
    "fully" or "considered", and over an "or" or "nor" to the next label.
    """
    text = _PHRASE.sub(lambda m: "_" * len(m[0]), text.casefold())
    found = list(_LABEL_WORD.finditer(text))
    words = [_joined(m[0]) for m in found]
    patterns: list[tuple[str, ...]] = []
    for label in labels:
        spaced = _label_words(label)
        patterns += [spaced, ("_".join(spaced),)]
    places: list[LabelPlace] = []
    end = 0
    for index, at in find_whole(words, patterns):
        before = at
        stop = max(end, _sentence(text, found, at))
        while before > stop and words[before - 1] in _FILLERS:
            before -= 1
        between = set(words[end:at]) - _FILLERS
        joined = bool(places) and between <= {"or", "and", "nor"}
        cut = text[found[at - 1].end() : found[at].start()] if at else ""
        alternative = joined and (bool(between) or "/" in cut)
        word = words[before - 1] if before > stop else ""
        end = at + len(patterns[index])
        asked = text[found[end - 1].end() :].lstrip("\"'*_ ").startswith("?")
        denied = asked or word in _NEGATIONS or (alternative and places[-1].denied)
        own = _DEGREES.isdisjoint(patterns[index])  # "only partially supported" is what it says
        weakened = not denied and own and bool(_DEGREES & {word, *words[end : end + 2]})
        places.append(LabelPlace(index // 2, denied, weakened, alternative))
    return places


def _sentence(text: str, found: Sequence[re.Match[str]], at: int) -> int:
    """The first of the words before ``found[at]`` that no full stop, comma or the like parts from it."""
    while at > 0 and not _PARTED.search(text[found[at - 1].end() : found[at].start()]):
        at -= 1
    return at


def _joined(word: str) -> str:
    plain = _CONTRACTED.sub("", word)
    return plain if plain in _NEGATIONS else re.sub("[-.'’]", "_", word)


def _label_words(label: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[^\W_]+", label.casefold()))
