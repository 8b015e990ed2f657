"""What an answer claims: its sentences with their positions, what they cite, and the facts they state.

Mostly for English: stop words, abstentions, and names recognised by their capitals.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from gristmill.verifiers.rules.short_answer import tokens
from gristmill.verifiers.text.numerals import is_number_word
from gristmill.verifiers.text.words import sentences

Kind = Literal["claim", "abstention", "no claim"]

_FENCE = re.compile(r"[ \t]*(?:```|~~~)")
_MARKER = re.compile(r"[ \t]*(?:(?:[-*+•]|[0-9]{1,3}[.)])[ \t]+|\|[ \t]*(?=\S)|(?P<heading>#{1,6}[ \t]+))")
_CODE = re.compile(r"`[^`\n]+`")
_NUMBERS = r"[0-9]{1,3}(?:\s*[,;–-]\s*[0-9]{1,3})*"
_SOURCE = (
    r"(?:passages?|documents?|sources?|contexts?|excerpts?|references|search results"
    r"|(?:provided|given|available|supplied) (?:texts?|articles?|information|materials?|evidence))"
)
_TELL = (
    r"(?:say|mention|contain|provide|specify|state|include|give|tell|address|discuss|describe|indicate|reveal"
    r"|answer|cover|explain|list|name|report|disclose|clarify)"
)
_FAIL = r"(?:(?:do|does|did)(?: not|n['’]t)|fails? to|never)"
_TOLD = (
    r"(?:mentioned|stated|specified|given|provided|found|said|addressed|discussed|contained|included|available"
    r"|answered)"
)
_CANNOT = r"(?:cannot|can['’]t|could not|couldn['’]t|unable to|impossible to)"
_ABSTAINS = re.compile(
    rf"\b{_SOURCE}\b[^.;]{{0,60}}?\b{_FAIL} (?:\w+ ){{0,2}}?{_TELL}\b"
    rf"|\b(?:not|never|\w+n['’]t) (?:\w+ ){{0,2}}?{_TOLD} (?:in|by|from) (?:\w+ ){{0,3}}?{_SOURCE}\b"
    rf"|\b(?:no|none of the) (?:\w+ )?(?:information|mention|details?|answer)\b[^.;]{{0,80}}?\b{_SOURCE}\b"
    rf"|\b{_SOURCE}\b[^.;]{{0,40}}?\b(?:has|have|contains?|gives?|provides?) no\b"
    r"|\b(?:not|n['’]t) (?:have )?enough information\b|\binsufficient information\b"
    rf"|\b{_CANNOT} (?:be )?(?:answer|determin|tell|find|say|infer|conclude)\w*\b[^.;]{{0,80}}?\b{_SOURCE}\b"
    r"|^\W*I (?:do not|don['’]t|cannot|can['’]t|am unable to) (?:know|answer|tell|find|determine)\b",
    re.IGNORECASE,
)
# A clause next to an abstention in the same sentence is a claim of its own.
_TURN = re.compile(r",?\s+(?=(?:but|however|although|though|yet|while|so|except|only)\b)|;\s+", re.IGNORECASE)
_CONCEDES = re.compile(r"\W*(?:although|though|while|even though)\b[^,]*,\s+", re.IGNORECASE)
# A question that states something: "Did you know that ...?", "..., isn't it?"
_ASSERTS = re.compile(
    r"^\W*(?:did you know|do you know that|is it not|isn['’]t|wasn['’]t|aren['’]t|weren['’]t|who knew)\b"
    r"|,\s+(?:\w+n['’]t \w+|right|correct|no|is it|was it|did \w+|does \w+)\?$",
    re.IGNORECASE,
)
_FINITE = re.compile(r"\b(?:is|are|was|were|has|have|had|will|did|does|can|cannot|must)\b")
_QUOTED = re.compile(r"[\"“]([^\"“”]{12,600})[\"”]")
_WORD = re.compile(r"[^\W\d_][\w'’]*(?:[-.&][\w'’]+)*")
_STARTS = re.compile(r"(?:^|[:;\"“”(\[*])[\s\"“(*_]*$")

_STOP_WORDS = (
    "a about above according actually addition additionally after again also although always among an and "
    "any are as at be because been before being below between both but by can case certainly could did do "
    "does doing during each either else especially even ever every example few finally first for from "
    "further furthermore generally had has have having he hence her here hers him his how however i if in "
    "indeed instead into is it its itself just last lastly least many may me meanwhile might more moreover "
    "most "
    "much must my near nevertheless next nonetheless of off often okay on once one only or other our out "
    "over overall own particularly passage passages per rather second shall she should similarly since so "
    "some specifically still such sure than thanks that the their them themselves then there therefore "
    "these they this those though through thus to too toward under until up upon us very was we well were "
    "what when where whereas whether which while who whom whose why will with within would yet you your"
)
STOP = frozenset(_STOP_WORDS.split())
_NEGATIVE = (
    "no not never none neither nor nobody nothing nowhere without cannot cant wont isnt arent wasnt"
    " werent dont doesnt didnt hasnt havent hadnt couldnt wouldnt shouldnt"
)
NEGATIONS = frozenset(_NEGATIVE.split())

_FORMS = (
    "beat beaten|become became|begin began begun|bite bit bitten|blow blew blown|break broke broken|bring "
    "brought|build built|buy bought|catch caught|choose chose chosen|come came|draw drew drawn|drink "
    "drank drunk|drive drove driven|eat ate eaten|fall fell fallen|feed fed|feel felt|fight fought|fly "
    "flew flown|forbid forbade forbidden|forget forgot forgotten|freeze froze frozen|give gave given|go "
    "went gone|grow grew grown|hear heard|hide hid hidden|hold held|keep kept|know knew known|lead "
    "led|leave left|lend lent|lose lost|make made|mean meant|meet met|pay paid|ride rode ridden|rise rose "
    "risen|run ran|say said|see saw seen|sell sold|send sent|shoot shot|show shown|sink sank sunk|sit "
    "sat|sleep slept|speak spoke spoken|spend spent|stand stood|steal stole stolen|strike struck|swim "
    "swam swum|take took taken|teach taught|tell told|think thought|throw threw thrown|wear wore worn|win "
    "won|write wrote written"
)
_PLURALS = "man men|woman women|child children|person people|foot feet|mouse mice"
IRREGULAR = {form: line.split()[0] for line in _FORMS.split("|") for form in line.split()[1:]}
"""The base forms of the common irregular pasts and participles."""
_BASES = IRREGULAR | {line.split()[1]: line.split()[0] for line in _PLURALS.split("|")}


class Sentence(NamedTuple):
    """Characters ``start:end`` of a text; ``text`` is that part without the citations."""

    start: int
    end: int
    text: str
    kind: Kind
    cited: tuple[str, ...]


class Facts(NamedTuple):
    """What a sentence must not invent. ``possible`` names are capitalised where any word would be."""

    numbers: tuple[str, ...]
    names: tuple[str, ...]
    possible: tuple[str, ...]
    quotes: tuple[str, ...]


def split(text: str, ids: Sequence[str] = ()) -> list[Sentence]:
    """The sentences of an answer, in order. A fenced code block is one sentence, each list item begins one.

    Citations are ``[2]``, ``[1, 3]``, ``[1-3]`` and ``[id]`` for ``ids``; after a full stop they belong to
    the sentence that ends there. A heading or a bold line without a full stop or a verb, a question that does
    not state anything, an introducing line ("Three reasons:") and a sentence of stop words only are ``no
    claim``; what speaks against them counts all the same.
    """
    cite = re.compile(
        rf"\[\s*(?:{'|'.join([_NUMBERS, *map(re.escape, sorted(ids, key=len, reverse=True))])})\s*\]"
    )
    found = []
    for start, end, form in _blocks(text):
        if form == "code":
            found.append(Sentence(start, end, text[start:end], "claim", ()))
            continue
        for a, b in _parts(text, _bounds(_masked(text[start:end], cite), start)):
            cited = tuple(m[0][1:-1].strip() for m in cite.finditer(_hidden(text[a:b])))
            bare = " ".join(_uncited(text[a:b], cite).split())
            found.append(Sentence(a, b, bare, _kind(bare, form), cited))
    return found


def _blocks(text: str) -> Iterator[tuple[int, int, str]]:
    """Runs of lines that belong together: code, a heading, a list item, a row of a table, a paragraph."""
    start, form, at = 0, "", 0
    for line in text.splitlines(keepends=True):
        fence, marker = _FENCE.match(line), _MARKER.match(line)
        if form == "code":
            if fence:
                yield start, at + len(line.rstrip()), form
                form = ""
        elif fence or marker or not line.strip() or form == "heading":
            if form:
                yield start, at, form
            form = "code" if fence else "prose" if line.strip() else ""
            start = at
            if marker and not fence:
                form, start = ("heading" if marker["heading"] else "prose"), at + marker.end()
        elif not form:
            start, form = at, "prose"
        at += len(line)
    if form:
        yield start, at, form


def _masked(block: str, cite: re.Pattern[str]) -> str:
    """``block`` with its length unchanged, but code and citations hidden from the search for full stops."""
    block = _hidden(block)
    # "... fell. [2] Then": the citation closes the sentence. "Smith et al. [2] found": it does not.
    block = re.sub(
        rf"(?<=[.!?])\s*(?:{cite.pattern}\s?)+(?=\s*(?:[^\s\W]|\Z|\n))",
        lambda m: (
            m[0] if m.string[m.end() :].lstrip()[:1].islower() else ")" * len(m[0].rstrip()) + _tail(m[0])
        ),
        block,
    )
    return cite.sub(lambda m: "x" * len(m[0]), block)


def _tail(text: str) -> str:
    return text[len(text.rstrip()) :]


def _hidden(text: str) -> str:
    return _CODE.sub(lambda m: "x" * len(m[0]), text)


def _uncited(text: str, cite: re.Pattern[str]) -> str:
    hidden = _hidden(text)
    for m in reversed(list(cite.finditer(hidden))):
        text = text[: m.start()].rstrip() + text[m.end() :]
    return text


def _bounds(masked: str, offset: int) -> list[tuple[int, int]]:
    spans, at = [], 0
    for sentence in sentences(masked):
        at = masked.index(sentence, at)
        spans.append((offset + at, offset + at + len(sentence)))
        at += len(sentence)
    return spans


def _parts(text: str, spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """``spans``, divided where another clause follows an abstention."""
    for start, end in spans:
        sentence = text[start:end]
        cuts = [0]
        if _ABSTAINS.search(sentence):
            concedes = _CONCEDES.match(sentence)
            cuts += [concedes.end()] if concedes else []
            cuts += [m.end() for m in _TURN.finditer(sentence, cuts[-1]) if m.end() < len(sentence)]
        for a, b in zip(cuts, [*cuts[1:], len(sentence)], strict=True):
            yield start + a, start + a + len(sentence[a:b].rstrip())


def _kind(text: str, form: str) -> Kind:
    if _ABSTAINS.search(text):
        return "abstention"
    bold = re.fullmatch(r"\*\*[^*]+\*\*", text)
    finished = text.rstrip("*_ ").endswith((".", "!")) or _FINITE.search(text)
    states = finished and len(content(text)) > 1
    if text.endswith("?") and _ASSERTS.search(text):
        return "claim"
    if text.endswith(("?", ":")) or ((form == "heading" or bold) and not states):
        return "no claim"
    return "claim" if content(text) else "no claim"


def content(text: str) -> list[str]:
    """The stems of the words that carry meaning, and the numbers, in order of the text."""
    return [w for w in stems(text) if w not in STOP and w not in NEGATIONS]


def negated(text: str) -> bool:
    """Whether ``text`` has a word of negation."""
    return not NEGATIONS.isdisjoint(stems(text))


@lru_cache(maxsize=4096)
def stems(text: str) -> tuple[str, ...]:
    """Lower-case words without their commonest endings; numbers in their plain form. Without articles."""
    apart = re.sub(r"(?<=[^\W_])[-–—/](?=[^\W\d_])", " ", text)
    return tuple(_stem(word) for word in tokens(apart)) if apart.strip() else ()


def _stem(word: str) -> str:
    word = _BASES.get(word, word)
    if word in STOP or word in NEGATIONS or any(c.isdigit() for c in word):
        return word
    for ending, instead in (
        ("ies", "y"),
        ("ied", "y"),
        ("ings", ""),
        ("ing", ""),
        ("ed", ""),
        ("ly", ""),
        ("s", ""),
    ):
        if (
            word.endswith(ending)
            and len(word) - len(ending) >= (2 if instead else 3)
            and not word.endswith(("ss", "us", "is"))
        ):
            word = word[: -len(ending)] + instead
            break
    if len(word) > 4 and word[-1] == word[-2] and word[-1] not in "aeiouls":
        word = word[:-1]
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


def facts(text: str) -> Facts:
    """The numbers (in digits or words), names, and quotations of three words or more in a sentence.

    The words "one", "first" and "second" are not taken as numbers, since they rarely count anything.
    """
    digits = [w for w in stems(text) if any(c.isdigit() for c in w)]
    loose = {"1": "1", "1th": "1st", "2th": "2nd"}
    found = [w for w in digits if w not in loose or re.search(rf"(?<!\w){loose[w]}(?!\w)", text)]
    names, possible = _names(text)
    quotes = [q for q in _QUOTED.findall(text) if len(stems(q)) >= 3]
    return Facts(tuple(dict.fromkeys(found)), names, possible, tuple(quotes))


def _names(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    words = list(_WORD.finditer(_hidden(text)))
    capital = [w[0][0].isupper() and len(w[0]) > 1 and not _common(w[0].lower()) for w in words]
    titled = len(words) > 3 and sum(w[0][0].isupper() for w in words) > 0.7 * len(words)
    sure: list[str] = []
    possible: list[str] = []
    for i, word in enumerate(words):
        if not capital[i] or re.fullmatch(r"I['’]\w+", word[0]):
            continue
        first = _STARTS.search(text[: word.start()]) is not None
        runs_on = i + 1 < len(words) and capital[i + 1] and text[word.end() : words[i + 1].start()] == " "
        inner = any(c.isupper() for c in word[0][1:])
        name = re.sub(r"['’]s?$", "", word[0])
        (possible if titled or (first and not runs_on and not inner) else sure).append(name)
    return tuple(dict.fromkeys(sure)), tuple(dict.fromkeys(possible))


def _common(word: str) -> bool:
    """Whether ``word`` (lower case) is not a name even with a capital."""
    return word in STOP or word in NEGATIONS or word in ("yes", "the", "an") or is_number_word(word)
