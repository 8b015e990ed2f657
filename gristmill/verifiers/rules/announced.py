"""The words and signs by which a completion announces which option it chooses; see ``choice``."""

from __future__ import annotations

import re

BOX = re.compile(r"\\(?:boxed|fbox)\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\}){0,300})\}")
_ALONE = r"(?![A-Za-z0-9_'’])"
"""Behind a letter that is not part of a word; characters of scripts without spaces may follow it."""
_LETTER = r"[\s*:\"'`$<]*\(?\[?(?:\\text(?:bf)?\{\s*\(?)?([A-Z])" + _ALONE
_FOREIGN = (
    r"(?i:antwort|l[oö]sung|respuesta|resposta|r[ée]ponse|risposta|jawaban|svar|antwoord|odpowied[zź]|cevap"
    r"|ответ|відповідь)(?:\s+(?i:korrekte|correcta|correta|correcte|corretta|верный|правильный)s?)?"
    r"(?:\s+(?i:ist|lautet|es|é|est|è|adalah|är|er|is|to)\b|\s*\*{0,2}\s*[:=–—-])"
    r"|(?:答案选项|答案|答え|回答|正解|정답|답|उत्तर|الإجابة)(?:应该|应)?(?:是|为|は|은|는|है)?\s*\*{0,2}\s*[::]?"
    r"|(?:故|应|應|只能|所以|因此)?(?:选择|選擇|选|選)(?:项|項)?\s*[::]?(?=\s*[(\[]?[A-Z](?![A-Za-z]))"
)
"""How an answer is announced in other languages than English."""
CLAIM = re.compile(
    r"\b(?i:answer|choice|option|letter|conclusion|elimination|verdict|selection|decision)(?:[\"']?\s*+\*{0,2}+\s*+[:=]|\s+[-–—](?=\s)"
    r"|\s++(?i:is|was|would be|must be|should be|seems to be|appears to be|has to be)\b)(?:\*\*)?+[\s:]*+"
    r"(?i:probably |most likely |likely |definitely |clearly |certainly |indeed |actually )?+"
    rf"|(?:{_FOREIGN})[\s:]*+"
    r"|\b(?i:so|thus|hence|therefore|leaves|leaves only|leaves us with|left with|leaving|choose|chose|pick"
    r"|select|think|believe|say|go with|going with)[,:]?[ ]"
    r"(?i:it is |it's |it must be |the |option |choice |answer |is ){0,4}"
    # A capital that begins a word or a sentence about it is not an option's letter, unless it is called one.
    r"(?=\([A-Z]\)|[A-Z]\b(?!['’]|\s+(?!(?:is|because|since|and|or)\b)[a-z])"
    r"|(?<=(?i:option )|(?i:choice ))[A-Z]\b)"
    r"|\b(?i:it|that|this|one)(?i: is|['’]s| must be| has to be)(?i: definitely| clearly)?[ ]"
    r"(?=\(?[A-Z]\)?\s*(?:[.,;!]|$))"
    r"|\b(?i:ans)\.?\s*[:=]?\s*(?=\(?[A-Z]\)?\s*(?:[.,;!]|$))|^\s*A\s*:\s*(?=\(?[A-Z]\)?[.!]?\s*$)"
    r"|\b(?i:only)\s+(?i:option )?\(?([A-Z])\)?\s+(?:fits|works|remains|matches|holds|satisfies|is left)\b"
    r"|\b(?i:all|every|none|any|each|nothing)\b[^.\n]{0,30}\b(?i:except|but|other than)(?i: for)?[ ]"
    r"(?i:option )?\(?([A-Z])\b"
    r"|(?<![A-Za-z])([A-Z])\)?(?:\s+is\s+(?:the\s+)?(?:only\s+)?(?:correct|right|best|true|answer)\b"
    r"|\s*是(?:正确|对|對))",
    re.MULTILINE,
)
NUMBERED = re.compile(r"(?i:statements?|claims?|conditions?|parts?|cases?|figures?|types?|and|or)\s+\Z")
"""Words before a letter that is a numeral or a name: "statement I is true"."""
CONTENT = re.compile(
    r"\b(?i:so|thus|hence|therefore)?,? ?(?i:it|this|that|which|the answer)"
    r"(?i: is| must be| has to be| should be|['’]s)[ ]"
)
"""What may announce an option by its content, if one follows at once."""
REASON = re.compile(r"[,;]?\s+\b(?:since|because|as|for|whereas|while|unlike|rather than|and not|not)\b")
"""What parts an answer from its reasons."""
DENIED = re.compile(
    r"[\s,]*(?:is|are|was|can|could|does|do|must|isn['’]t|can['’]t|cannot|seems)\s*"
    r"(?:be\s|the\s|all\s)*(?:not|n['’]t|never|wrong|incorrect|false|out|ruled|eliminated|impossible|be|fit|match)\b"
    r"|\s*\?|\s*(?:均|都|也)?(?:不正确|不正確|不对|错误|錯誤|不是)"
)
HEAD = re.compile(r"(?:(?i:option|choice|answer)\b)?" + _LETTER + r"\}?[\])}*\"'`$>]*")
MORE = re.compile(
    r"\s*(?:,|/|&|、|\band\b|\bor\b|和|或)+\s*(?:(?i:or|and|option|choice)\s+)*\(?([A-Z])\)?" + _ALONE
)
WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: " "}
"""Full-width letters and marks, by which Chinese and Japanese texts write the same."""
SIGNED = re.compile(r"\A[^\w(\[\"'`$\\<*]+")
"""Ticks, arrows and the like before an answer."""
JOINING = frozenset(("or", "and", "either", "both", "maybe", "perhaps", "possibly", "also", "option"))
CORRECTED = re.compile(
    r"\b(?i:wait|actually|correction|sorry|rather|instead|scratch that|on second thought|hmm|no,)(?!\w)"
)
"""What stands between an answer and the one that takes its place."""
