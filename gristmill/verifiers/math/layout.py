"""Layout and spelling taken out of an answer: delimiters, fonts, spaces, the many ways to write one thing."""

from __future__ import annotations

import re
import unicodedata

from gristmill.verifiers.text import numerals

# Wrapped text stands between these two, so that "5 m" in variables and "5 \text{ m}" in metres differ.
OPEN, CLOSE = "\x01", "\x02"

_LAYOUT = re.compile(
    r"\\(?:left|right|displaystyle|textstyle|scriptstyle|big[lrm]?|Big[lrm]?|bigg[lrm]?|Bigg[lrm]?|limits|rm|bf|it"
    r"|quad|qquad|middle|hfill|nonumber|notag)(?![A-Za-z])\.?|\\[,;:! ()\[\]]|[$~€£¥₹]"
    r"|\\\$|\\(?:euro|pounds)(?![A-Za-z])"
)
# What only dresses its argument, and what colours it.
_DRESSED = re.compile(
    r"\\(?:underline|uline|num|mathnormal|ensuremath|boldsymbol|bm|pmb|mathstrut|bold|mathop|mathord|cancelto"
    r"|(?:text)?color\s*\{[^{}]*\}|color\s*\[[^\]]*\]\s*\{[^{}]*\}|colorbox\s*\{[^{}]*\}"
    r"|[hv]space\*?\s*\{[^{}]*\}|phantom\s*\{[^{}]*\}|large|Large|small|strut|cancel|bcancel|xcancel)(?![A-Za-z])"
)
_WRAPPED = re.compile(
    r"\\(?:text|mbox|textbf|textit|textrm|textnormal|mathrm|mathbf|mathit|mathsf|mathtt|texttt|operatorname|hbox"
    r"|emph|textsf|textsc|unit|si)\*?\s*\{((?:[^{}]|\{[^{}]*\})*)\}"
)
_SPELLED = re.compile(
    r"\\(dfrac|tfrac|cfrac|sfrac|nicefrac|xfrac|flatfrac|dbinom|tbinom|%|degrees?|lbrace|rbrace|lbrack|rbrack|colon"
    r"|dots|cdots|dotsc|dotsb|backslash|smallsetminus|implies|Longrightarrow|simeq|thickapprox|approxeq|doteq"
    r"|land|wedge|lor|vee|bigcup|bigcap|lvert|rvert|lVert|rVert|medspace|thinspace|enspace)(?![A-Za-z])|\\%"
)
_SPELLINGS = {
    **dict.fromkeys(("dfrac", "tfrac", "cfrac", "sfrac", "nicefrac", "xfrac", "flatfrac"), r"\frac "),
    **dict.fromkeys(("dbinom", "tbinom"), r"\binom "),
    **dict.fromkeys(("dots", "cdots", "dotsc", "dotsb"), r"\ldots "),
    **dict.fromkeys(("backslash", "smallsetminus"), r"\setminus "),
    **dict.fromkeys(("implies", "Longrightarrow"), r"\Rightarrow "),
    **dict.fromkeys(("simeq", "thickapprox", "approxeq", "doteq"), r"\approx "),
    **dict.fromkeys(("land", "wedge"), " and "),
    **dict.fromkeys(("lor", "vee"), " or "),
    **dict.fromkeys(("lvert", "rvert"), "|"),
    **dict.fromkeys(("medspace", "thinspace", "enspace"), " "),
    "bigcup": r"\cup ",
    "bigcap": r"\cap ",
    "degree": "°",
    "degrees": "°",
    "lbrace": r"\{",
    "rbrace": r"\}",
    "lbrack": "[",
    "rbrack": "]",
    "colon": ":",
}
_DEGREES = re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))")
_PRIMES = re.compile(r"\^\s*(?:\{\s*((?:\\prime\s*)+)\}|(\\prime)(?![A-Za-z]))")
_SPLIT_NUMBER = re.compile(
    r"(?<=\d)(?:,\s*\\!\s*|\{,\}\s*|\\[,!;:]\s*|\\thinspace\s*|[\u00a0\u2009\u202f])(?=\d{3}(?!\d))"
)
_OVER = re.compile(r"\{([^{}]*)\\over(?![a-z])([^{}]*)\}|\A([^{}]*)\\over(?![a-z])(.*)\Z", re.DOTALL)
_FIELD = re.compile(
    r"\\(?:mathbb|mathbf|Bbb|mathds)\s*\{?\s*([RZNQC])\s*\}?(?![A-Za-z])|\\([RZNQ])(?![A-Za-z])|([ℝℤℕℚℂ])"
)
_FIELDS = dict(zip("ℝℤℕℚℂ", "RZNQC", strict=True))
_ALL_INTEGERS = re.compile(
    rf"[\s{OPEN}]*(?:the\s+)?(?:set of\s+)?(?:all|any|every)\s+(?:the\s+)?integers?[\s{CLOSE}.]*",
    re.IGNORECASE,
)
_UNION = re.compile(r"(?<=[\])])\s*U\s*(?=[\[(])")
_ANGLED = re.compile(r"<([^<>=]*,[^<>=]*)>")
_VECTOR = re.compile(r"\\langle(?![A-Za-z])((?:(?!\\[lr]angle).)*)\\rangle(?![A-Za-z])", re.DOTALL)
"""Angle brackets around a vector."""
_ENDED = re.compile(r"(?:\s|\\q?quad|\\(?:blacksquare|square|qed|Box|checkmark)(?![A-Za-z])|\\\\)+\Z")
"""What ends a proof or a line."""
_ALL_REALS = re.compile(
    rf"[\s{OPEN}]*(?:(?:x|y|n)\s*(?:is|can be)\s*)?(?:the\s+)?(?:set of\s+)?(?:all|any|every)\s+(?:the\s+)?"
    rf"reals?(?:\s+numbers?)?(?:\s+(?:x|y|n))?[\s{CLOSE}.]*",
    re.IGNORECASE,
)
_REPEATING = re.compile(
    r"(?<![\d.])(\d*)\.(\d*)(?:\\(?:overline|bar|dot)\s*(?:\{\s*(\d+)\s*\}|(\d))|\((\d+)\)(?=\s*(?:\Z|[,;)=}])))"
)
_REPLACED: dict[str, str] = (
    {
        "−": "-",
        "–": "-",
        "—": "-",
        "‐": "-",
        "‑": "-",
        "×": "*",
        "·": "*",
        "⋅": "*",
        "∙": "*",
        "÷": "/",
        "⁄": "/",
    }
    | {
        "∕": "/",
        "，": ",",
        "（": "(",
        "）": ")",
        "\u00a0": " ",
        "\u2009": " ",
        "\u202f": " ",
        "٬": ",",
        "…": r"\ldots ",
    }
    | {"≈": r"\approx ", "⩽": "≤", "⩾": "≥", "∖": r"\setminus ", "∨": " or ", "∧": " and ", "∩": r"\cap "}
    | {"∣": "|", "⇒": r"\Rightarrow ", "∴": r"\therefore ", "″": "''", "：": ":", "°": "° "}
)
_CIRCLED: dict[int, str | None] = {ord(c): new for c, new in _REPLACED.items()}
_CIRCLED |= {ord(c): None for c in "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad\u2061\u2062\u2063\u2064"}
_CIRCLED |= {
    ord(c): " " + unicodedata.normalize("NFKC", c).replace("\u2044", "/") for c in "½¼¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
}
_CIRCLED |= {c: chr(c - 0xFEE0) for c in range(0xFF01, 0xFF5F)}
_RAISED, _LOWERED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "₀₁₂₃₄₅₆₇₈₉₊₋"
_SCRIPTS = str.maketrans(_RAISED + _LOWERED, "0123456789+-" * 2)
_SCRIPT = re.compile(rf"([{_RAISED}]+)|[{_LOWERED}]+")
# t(0,4]: no function has an argument that opens one way and closes the other.
_NAMED_INTERVAL = re.compile(r"([A-Za-z])\s*:?\s*(\([^()\[\],]+,[^()\[\],]+\]|\[[^()\[\],]+,[^()\[\],]+\))")
_MODULE = re.compile(r"\b(?:np|math|sympy)\.(?=[a-z])")
_WHERE = re.compile(r",?\s+where\s.*", re.DOTALL)
_CONCLUDED = re.compile(r"\A[\s{]*(?:\\(?:therefore|Rightarrow|because|to)(?![A-Za-z])|=>|=(?!=))\s*")
_MODULO = re.compile(
    rf"\(?\s*(?:\\pmod|\\mod|\(\s*\\bmod|\(\s*[{OPEN}\s]*mod(?:ulo)?[\s{CLOSE}]*|{OPEN}\s*mod(?:ulo)?\s*{CLOSE})"
    rf"\s*\{{?\s*(\d+|[A-Za-z])\s*\}}?\s*\)?\)?\s*"
)
_CASES = re.compile(
    r"\\begin\s*\{(cases|aligned|align\*?|gathered|array)\}(?:\s*\{[lcr|]*\})?([^&]*)\\end\s*\{\1\}",
    re.DOTALL,
)
_SPACED_DIGITS = re.compile(rf"{OPEN}\s*\d(?: [\d,.])+\s*{CLOSE}")
_NUMERAL = re.compile(rf"{OPEN}\s*((?:and|or)\s+)?([A-Za-z]+(?:[ -][A-Za-z]+)*)\s*{CLOSE}")
_ANSWER = re.compile(rf"[{OPEN}\s]*(?:final\s+)?answer\s*(?::|is)\s*", re.IGNORECASE)
_ESCAPED = re.compile(
    r"\\\\(?=(?:d?frac|sqrt|text|pi|cdot|times|left|right|boxed|infty|pm|in|le|ge)(?![A-Za-z]))"
)
"""A model that escapes its own backslashes."""
_GROUPS = 50
"""Pairs of braces around all of an answer that are taken off. With more it is nested too deeply to read."""
_ROWS = re.compile(r"\\begin\s*\{")


def plain_digits(text: str) -> str:
    """``text`` with the decimal digits of all scripts in ASCII."""
    if text.isascii():
        return text
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)


def tidy(raw: str) -> str:
    """``raw`` without layout, delimiters and spelling variants of LaTeX and Unicode."""
    text = raw
    for _ in range(_GROUPS):
        text = _tidy(text)
        if text.startswith("{" * _GROUPS) or not (
            text.startswith("{") and text.endswith("}") and _one_group(text)
        ):
            break
        text = text[1:-1]
    return text


def _tidy(raw: str) -> str:
    text = raw.strip()
    if not text.isascii():
        text = _FIELD.sub(lambda m: rf"\set{_FIELDS.get(m[3]) or m[1] or m[2]} ", text)
        text = _SCRIPT.sub(_script, plain_digits(text).translate(_CIRCLED))
    if "\\" in text or "$" in text or "~" in text or "{,}" in text or not text.isascii():
        text = _latex(text)
    if ("{" in text or "(" in text) and "." in text:
        text = _REPEATING.sub(_repeating, text)
    if "mod" in text:
        text = _MODULO.sub(r" \\pmod{\1} ", text)
    if "." in text:
        text = _MODULE.sub("", text)
    if " where " in text:
        text = _WHERE.sub("", text)
    if (prefix := _CONCLUDED.match(text)) and len(text) > prefix.end():
        text = text[prefix.end() :]
    if r"\Rightarrow" in text:
        text = text.rpartition(r"\Rightarrow")[2] or text
    if "nswer" in text and (prefix := _ANSWER.match(text)):
        text = text[prefix.end() :].rstrip(CLOSE)
    text = text.strip(" \t\n")
    while text.endswith((".", ",", ";", ":")) and not text.endswith(("\\;", "...")):
        text = text[:-1].rstrip()
    if "..." in text:
        text = text.replace("...", r"\ldots ")
    if "real" in text and _ALL_REALS.fullmatch(text):
        return r"\setR"
    if "integer" in text and _ALL_INTEGERS.fullmatch(text):
        return r"\setZ"
    if "U" in text:
        text = _UNION.sub(r"\\cup ", text)
    if text[:1] == "<" and (vector := _ANGLED.fullmatch(text)):
        return f"({vector[1]})"
    if text.endswith(("]", ")")) and (found := _NAMED_INTERVAL.fullmatch(text)):
        return rf"{found[1]}\in {found[2]}"
    return text


def _latex(text: str) -> str:
    text = _ESCAPED.sub(r"\\", text)
    text = _SPLIT_NUMBER.sub("", text.replace(r"\\!", r"\!"))
    text = _FIELD.sub(lambda m: rf"\set{m[1] or m[2]} ", text)
    text = _DRESSED.sub(" ", text)
    for _ in range(3):  # a font in a font
        wrapped = _WRAPPED.sub(rf" {OPEN}\1{CLOSE} ", text)
        if wrapped == text:
            break
        text = wrapped
    if OPEN in text:
        text = _SPACED_DIGITS.sub(lambda m: m[0].replace(" ", ""), text)
        text = _NUMERAL.sub(_numeral, re.sub(rf"{OPEN}\s*{OPEN}|{CLOSE}\s*{CLOSE}", lambda m: m[0][0], text))
    text = _DEGREES.sub("° ", text)
    text = _PRIMES.sub(lambda m: "'" * (m[1] or m[2]).count("prime"), text)
    text = _SPELLED.sub(lambda m: _SPELLINGS.get(m[1], "%"), text)
    if r"\over" in text:
        for _ in range(10):
            inner = _OVER.sub(
                lambda m: (
                    rf"\frac{{{m[1] if m[1] is not None else m[3]}}}{{{m[2] if m[1] is not None else m[4]}}}"
                ),
                text,
            )
            if inner == text:
                break
            text = inner
    if _ROWS.search(text):
        text = _CASES.sub(lambda m: m[2].replace(r"\\", ", "), text)
    text = _VECTOR.sub(r"(\1)", _ENDED.sub("", text) or text)
    rows = text.split(r"\\")  # a line break ends here: "\\ [" is no bracket
    rows = [_LAYOUT.sub(" ", row) for row in rows]
    if len(rows) > 1 and r"\begin" not in text and all(r.strip() for r in rows):
        return ", ".join(r.strip(" ,") for r in rows)
    return r"\\".join(rows)


def _script(run: re.Match[str]) -> str:
    return ("^{" if run[1] else "_{") + run[0].translate(_SCRIPTS) + "}"


def _repeating(found: re.Match[str]) -> str:
    """A repeating decimal as an exact sum of fractions, in brackets."""
    whole, before, again = found[1] or "0", found[2], found[3] or found[4] or found[5]
    below = 10 ** len(before) * (10 ** len(again) - 1)
    above = int(whole + before + again) - int(whole + before)
    return rf"\frac{{{above}}}{{{below}}}"


def _numeral(found: re.Match[str]) -> str:
    """A number word in text as digits, with the "or" before it."""
    words = found[2].lower().replace("-", " ").split()
    joiner = ""
    if words[0] in ("and", "or") and len(words) > 1:
        joiner, words = words[0], words[1:]
    value = numerals.numeral(words, 0) if words[0] not in ("a", "an") else None
    if value is None or value[1] != len(words) or value[0].endswith("th"):
        return found[0]
    return f" {joiner or found[1] or ''} {value[0]} "


def _one_group(text: str) -> bool:
    depth = 0
    for at, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return at == len(text) - 1
    return False
