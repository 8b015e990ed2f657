"""The words that say what a number is in a sentence, in lower case, and which texts have none."""

from __future__ import annotations

import re

from gristmill.verifiers.math.tokens import FUNCTIONS, is_word
from gristmill.verifiers.math.units import known


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TURN = _words("""
    leaving is are was were equals equal makes make gives give leaves becomes so thus hence therefore then
    yields get gets means namely has have had  obtain implies follows meaning
    giving yielding
""")
"""What follows these is the result, and what stood before was on the way to it."""
CONCLUDING = _words("so thus hence therefore then means meaning implies follows namely which")
"""Of these, the ones that a comma does not part from their result."""
REASON = _words("""
    because since where after when if while obtained given using assuming whenever although though
    considering based provided unless including compared instead as
""")
"""Behind a result, these begin a remark on it."""
LEADING = _words("""
    since because if when with after given as for although while using out from before having
    whenever
""")
"""A clause that begins with one of these says under what circumstances, up to its comma."""
SELECTING = _words("""
    of from among between
""")
"""Prepositions before a group: "of the integers 1, 2, 3"."""
CIRCUMSTANCE = _words("""
    in of per for from by with within before over under every each at than out into on during among
    until without through across to step case problem part question option
""")
"""A number behind one of these is a circumstance: "in 3 bags"."""
BETWEEN = _words("""
    the a an his her its their all these those only just exactly about approximately roughly nearly
    my our that this first last next
""")
"""Words that may stand between a preposition and its number."""
WHOLES = _words("""
    total sum amount value number cost price average mean maximum minimum product
""")
""""A total of 5" is a result, and no circumstance."""
NEGATION = _words("""
    not never isn't aren't wasn't cannot no neither nor
""")
"""What follows these is not the answer."""
HEDGED = _words("""
    or and either maybe perhaps possibly alternatively also
""")
"""Words that join several answers."""
SHORT_WORDS = _words("""
    is in he we it so to of at by if as no my up us me do go am an be on
""")
"""Words of two letters that are not a product of symbols."""
MINUS = _words("""
    minus negative
""")
"""Words for the minus sign."""
NO_UNITS = _words("""
    in a at as an is
""")
"""Words that are not a unit where they follow a number in a sentence."""
_WORDS_IN_COMMAND = re.compile(
    r"\\(?:text|mbox|textbf|mathrm|textit|textrm|begin|end|operatorname|mathbf|mathit|mathsf)\*?\s*\{([^{}]*)\}"
)
_AT_END = re.compile(r"[\sA-Za-z/^23.{}°%$]*\Z")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]+")
_OTHER_SCRIPT = (
    r"(?:(?=[\u0400-\u052f\u0590-\u06ff\u0900-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])[^\W\d_])"
)
"""A letter of Cyrillic, Hebrew, Arabic, an Indian script or Thai, of Kana, Han or Hangul."""
_OTHER_WORD = re.compile(_OTHER_SCRIPT + "{2}")
_OTHER_EDGE = re.compile(rf"(?<={_OTHER_SCRIPT})(?=[-−+\d$\\(])|(?<=[\d$)}}])(?={_OTHER_SCRIPT})")
OTHER_NEGATION = re.compile(r"不是|不等于|不等於|ではな|じゃな|아니|아닙|\bне\b|\bلیس\b|\bليس\b|नहीं|\bלא\b")
"""Words that deny, in the scripts above: what stands beside them is not the answer."""


def is_mathematics(text: str) -> bool:
    """Whether a text holds no words beside mathematics: letters of it are symbols, functions or units."""
    bare = _WORDS_IN_COMMAND.sub(" ", text) if "\\" in text else text
    if not bare.isascii() and _OTHER_WORD.search(bare) is not None:
        return False
    for found in _WORD.finditer(bare):
        run = found[0]
        if len(run) == 1 or run in FUNCTIONS:
            continue
        if known(run) is not None and run != "in":
            if _AT_END.match(bare, found.end()) is None:
                return False
        elif is_word(run) or (len(run) == 2 and run.lower() in SHORT_WORDS):
            return False
    return True


def spaced(text: str) -> str:
    """``text`` with spaces between mathematics and words of scripts that are written without them."""
    return text if text.isascii() else _OTHER_EDGE.sub(" ", text)
