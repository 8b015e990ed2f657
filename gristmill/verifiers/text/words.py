"""The parts of a text: words, sentences, paragraphs, headings, and its language. All in linear time.

Own code, since it decides verdicts and must be exact, small and safe with hostile text: language detectors
(langdetect, lingua, fastText) guess on short texts, are large or need a model, and sentence splitters (nltk,
spacy) need data of their own.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

_CJK = "\u3040-\u30ff\u3400-\u9fff"
# Vowel signs and accents that are characters of their own; \w has them not.
_MARKS = "".join(c for c in map(chr, range(0x300, 0x1E00)) if unicodedata.category(c).startswith("M"))
_LETTERS = rf"[^\W_{_CJK}]++(?:[{_MARKS}]++[^\W_{_CJK}]*+)*+"
_WORD = re.compile(rf"[{_CJK}]|{_LETTERS}(?:['’\-]{_LETTERS})*+")
# Possessive, and only from the start of a run: a megabyte of full stops is read once.
_STOP = re.compile(
    r"(?<![.!?…])[.!?…]++[\"'”’)\]*_]*+(?=\s|\Z)"
    # A mark that the next sentence is glued to: "Wait!What" and "the end.Then", not "v2.Final" or "U.S.A".
    r"|(?<=[^\W\d_])[!?]++(?=[^\W\d_])|(?<=[^\W\d_]{2})\.(?=[^\W\d_]['’]?[^\W\d_]*+(?:[\s,;:.!?]|\Z))"
    r"|(?<![。！？।॥؟۔])[。！？।॥؟۔]++"
)
_ABBREVIATION = (
    "dr mr mrs ms st jr sr prof vs etc no fig eq inc ltd co dept gen col lt capt rev hon mt approx cf e.g i.e"
    " jan feb mar apr jun jul aug sep sept oct nov dec"
)
_ABBREVIATIONS = frozenset(_ABBREVIATION.split())
_PARAGRAPH = re.compile(r"\n[^\S\n]*+\n\s*+")
# Glued to its word, a star is a bullet only if it opens no emphasis.
_BULLET = re.compile(
    r"[ \t]{0,20}(?:(?:[-*+•‣]|\d{1,3}[.)])[ \t]+\S|[-•‣][^\W\d_]{2}|\*[^\W\d_](?![^*\n]*\*(?:\W|\Z)))"
)
_MARKED_HEADING = re.compile(r"[ \t]{0,3}#{1,6}[ \t]+(.+)|[ \t]{0,3}\*\*([^*\n]{1,200})\*\*[ \t]*:?[ \t]*")
_PLAIN_HEADING = re.compile(r"[ \t]{0,3}(?:\*\*)?([^\W\d_][^:*\n]{0,80}?)(?:\*\*)?[ \t]*:(?:\*\*)?(?:\s|\Z)")


def words(text: str) -> list[str]:
    """Words as a reader counts them: "don't" and "well-known" count as one each, and so does each Han or kana
    character, since finding words among those needs a dictionary."""
    return _WORD.findall(text)


def sentences(text: str) -> list[str]:
    """Sentences, found by their end marks. A line break alone does not end a sentence.

    Neither does a full stop after an abbreviation or a single capital ("J. Bach", "the U.S. Navy") or before
    a lower-case letter, so "vitamin C. Then ..." counts as one sentence. In a text without any capital a
    lower-case letter may begin one. A mark that the next sentence is glued to ends one if a capital follows:
    "It ends.Then it goes on".
    """
    found, start = [], 0
    small = text == text.lower()
    for stop in _STOP.finditer(text):
        if not _ends(text, stop, small):
            continue
        if sentence := text[start : stop.end()].strip():
            found.append(sentence)
        start = stop.end()
    if rest := text[start:].strip():
        found.append(rest)
    return found


def _ends(text: str, stop: re.Match[str], small: bool) -> bool:
    if stop[0].strip(".…\"'”’)]*_"):
        return True
    before = text[max(0, stop.start() - 24) : stop.start()].split()
    last = before[-1].lstrip("(\"'“‘*") if before else ""
    following = text[stop.end() : stop.end() + 8].lstrip()[:1]
    if not following:
        return True
    if stop.end() < len(text) and not text[stop.end()].isspace():  # glued
        return following.isupper() and last.islower() and last not in _ABBREVIATIONS
    if following.islower() and not small:
        return False
    if stop[0] != ".":
        return True
    initial = (
        len(last) == 1 and last.isalpha() and last not in ("I", "i" if small else "I")
    ) or re.fullmatch(r"(?:[^\W\d_]\.)+[^\W\d_]", last)
    return not initial and last.lower() not in _ABBREVIATIONS


def paragraphs(text: str) -> list[str]:
    """Runs of text between blank lines."""
    return [p for p in _PARAGRAPH.split(text.strip()) if p.strip()]


def lines(text: str) -> list[str]:
    """Lines that are not blank, stripped."""
    return [line for raw in text.splitlines() if (line := raw.strip())]


def bullets(text: str) -> list[str]:
    """Items of bulleted and numbered lists."""
    return [line.strip() for line in text.splitlines() if _BULLET.match(line)]


def headings(text: str) -> list[str]:
    """Markdown headings (``## Title``) and lines that are bold throughout."""
    found = (_MARKED_HEADING.fullmatch(line) for line in text.splitlines())
    return [(m[1] or m[2]).rstrip("# \t").strip(" :*") for m in found if m]


def sections(text: str) -> list[str]:
    """Headings in the widest sense, in order: also the text before a colon at the start of a line."""
    titles = []
    for line in text.splitlines():
        if marked := headings(line):
            titles += marked
        elif plain := _PLAIN_HEADING.match(line):
            titles.append(plain[1].strip())
    return titles


def repetition(parts: list[str], n: int = 1) -> float:
    """The share of n-grams of ``parts`` that repeat an earlier one; 0.0 if there are fewer than two."""
    grams = list(zip(*(parts[i:] for i in range(n)), strict=False))
    return 1 - len(set(grams)) / len(grams) if len(grams) > 1 else 0.0


_SCRIPTS = {
    "kana": "\u3040-\u30ff",
    "han": "\u3400-\u9fff",
    "ko": "\uac00-\ud7af\u1100-\u11ff",
    "el": "\u0370-\u03ff",
    "cyrillic": "\u0400-\u04ff",
    "he": "\u0590-\u05ff",
    "arabic": "\u0600-\u06ff",
    "hi": "\u0900-\u097f",
    "th": "\u0e00-\u0e7f",
    "latin": "A-Za-z\u00c0-\u024f",
}
_SCRIPT = {name: re.compile(f"[{span}]") for name, span in _SCRIPTS.items()}
_STOP_WORDS = {
    language: frozenset(listed.split())
    for language, listed in {
        "en": "the and of to in is that it was for on are with as his they at be this have from or by not "
        "but what were we when your can there an which their if will you i has would been",
        "de": "der die und das ist nicht ein eine zu den mit von sich auf für im dem es auch als an werden "
        "aus er hat dass sie nach wird bei einer um am sind noch wie einem über ich wir war",
        "fr": "le la les de des et est un une du en que qui dans pour pas sur au avec ce il elle ne se plus "
        "par je nous vous sont mais ou cette être ont aux été son sa ses",
        "es": "el la los las de y que en un una es por con no para su se del al lo como más pero sus le ya o "
        "este sí porque esta entre cuando muy sin sobre ser está yo hay fue",
        "it": "il la le di e che è un una in per non con sono del della si da al dei come anche più ma lo "
        "gli nel alla i ha questo questa delle ci era essere perché molto io",
        "pt": "o a os as de e que em um uma é por com não para seu se do da no na dos das como mais mas ao "
        "ele ela isso foi são está muito também pelo pela eu nós nos ter",
        "nl": "de het een en van is dat in op te zijn met voor niet die er aan ook als bij om maar dan naar "
        "wordt uit nog wel deze heeft hij zij ik wij je was door over worden",
    }.items()
}
LANGUAGES = ("ar", "el", "he", "hi", "ja", "ko", "ru", "th", "uk", "zh", *sorted(_STOP_WORDS))
"""The languages that ``language`` can recognise."""
_SAMPLE = 20_000


def language(text: str) -> str | None:
    """The language of most of ``text`` (its first 20,000 characters), of ``LANGUAGES``; ``None`` if unsure.

    A script that only one language of the set uses decides alone, so Marathi is taken for Hindi and Bulgarian
    for Russian: only the languages of the set are distinguished. Persian and Urdu are not taken for Arabic.
    Latin script is decided by stop words: at least three, a tenth of all words, and one and a half times as
    many as for any other language, so short texts and languages outside the set mostly give ``None``.
    """
    text = text[:_SAMPLE]
    letters = {name: len(pattern.findall(text)) for name, pattern in _SCRIPT.items()}
    total = sum(letters.values())
    letters["han"] += (kana := letters.pop("kana"))
    script = max(letters, key=lambda name: letters[name])
    if total == 0 or letters[script] < 0.5 * total:
        return None
    if script == "latin":
        return _by_stop_words(text)
    if script == "han":
        return "ja" if kana > 0.1 * letters["han"] else "zh"
    if script == "cyrillic":
        return "uk" if len(re.findall("[іїєґІЇЄҐ]", text)) > len(re.findall("[ыэъёЫЭЪЁ]", text)) else "ru"
    if script == "arabic":
        return None if re.search("[پچژگکیٹڈے]", text) else "ar"
    return script


def _by_stop_words(text: str) -> str | None:
    counts = Counter(w.lower() for w in words(text))
    hits = {code: sum(counts[w] for w in listed) for code, listed in _STOP_WORDS.items()}
    best, second = sorted(hits, key=lambda code: -hits[code])[:2]
    sure = hits[best] >= max(3, 0.1 * counts.total()) and hits[best] >= 1.5 * hits[second]
    return best if sure else None
