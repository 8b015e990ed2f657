"""``personal``: what belongs to a person or opens a door, by patterns and checksums."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, get_args

from msgspec import field

from gristmill.core.secrets import KEY_FORMS
from gristmill.filters.quality.base import RowFacts, TextCheck
from gristmill.filters.quality.presidio import Presidio

PersonalKind = Literal["email", "phone", "iban", "card", "ssn", "ip", "key"]
KINDS: tuple[PersonalKind, ...] = get_args(PersonalKind)


class PersonalFinding(NamedTuple):
    """A place ``start:end`` of a text, and what kind of thing it holds: one of ``KINDS``, or Presidio's."""

    kind: str
    start: int
    end: int


def _luhn(text: str) -> bool:
    digits = [int(c) for c in text if c.isdigit()]
    doubled = [sum(divmod(2 * d, 10)) for d in digits[-2::-2]]
    return len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _iban(text: str) -> bool:
    plain = re.sub(r"\s", "", text)
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def _address(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def _email(text: str) -> bool:
    domain = text.rpartition("@")[2].lower()
    return not re.search(r"(?:^|\.)(?:example(?:\.\w+)?|test|invalid|localhost)$", domain)


def _phone(text: str) -> bool:
    return 7 <= sum(c.isdigit() for c in text) <= 15


def _any(text: str) -> bool:
    return True


_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_FORMS: dict[PersonalKind, tuple[re.Pattern[str], Callable[[str], bool]]] = {
    "key": (
        re.compile(rf"(?<![\w-])(?:{KEY_FORMS})|-----BEGIN [A-Z ]{{0,30}}PRIVATE KEY-----"),
        _any,
    ),
    "email": (
        re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])"),
        _email,
    ),
    "iban": (re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b"), _iban),
    "card": (
        re.compile(
            r"(?<![\d.,-])(?:[3-6]\d{3}([ -])\d{4}\1\d{4}\1\d{4}|3[47]\d\d([ -])\d{6}\2\d{5}|[3-6]\d{14,15})"
            r"(?![\d.,-]?\d)"
        ),
        _luhn,
    ),
    "ssn": (re.compile(r"(?<![\d-])(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])"), _any),
    "phone": (
        re.compile(
            r"(?<![^\s(:,;\"'])\+[1-9]\d{0,2}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}"
            r"(?:[ .-]\d{2,8}){1,4}(?!\.?\d)"
            r"|(?<![\w.-])(?:1[-. ])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[-.])[2-9]\d\d[-.]\d{4}(?![\w-]|\.\d)"
            r"|(?i:\b(?:phone|tel|telephone|mobile|cell|fax|whatsapp)\b[^\d\n+(]{0,15})"
            r"(\+?\(?\d[\d ().-]{5,17}\d)(?!\d)"
        ),
        _phone,
    ),
    "ip": (
        re.compile(
            rf"(?<![\w.])(?<![=~><!]=)(?:{_OCTET}\.){{3}}{_OCTET}(?![\w]|\.\d)|(?<![\w:])(?:[0-9a-fA-F]{{1,4}}:{{1,2}}){{3,7}}[0-9a-fA-F]{{1,4}}(?![\w:])"
        ),
        _address,
    ),
}


def personal_data(
    text: str, kinds: tuple[PersonalKind, ...] = KINDS, presidio: Presidio | None = None
) -> Iterator[PersonalFinding]:
    """What of these kinds, and of Presidio's, is in the text, in the order of the text; nothing twice."""
    found = [] if presidio is None else [PersonalFinding(*one) for one in presidio(text)]
    for kind, (form, holds) in _FORMS.items():
        if kind not in kinds:
            continue
        for match in form.finditer(text):
            group = match.lastindex if kind == "phone" and match.lastindex else 0
            if holds(match[group]):
                found.append(PersonalFinding(kind, *match.span(group)))
    until = 0
    for one in sorted(found, key=lambda f: (f.start, -f.end, f.kind not in KINDS, f.kind)):
        if one.start >= until:
            yield one
            until = one.end


_SUSPECT = (
    r"\w@\w|\d[ ().-]?\d{2,}[ ().-]?\d{2,}|\d\.\d{1,3}\.\d|[A-Z]{2}\d\d|[0-9a-fA-F]:[0-9a-fA-F:]"
    r"|PRIVATE KEY|sk[-_]|gsk_|hf_|gh[opsu]_|github_pat_|AIza|xai-|pplx-|nvapi-|r8_|glpat-|AKIA|xox|eyJ"
)


def suspects(presidio: Presidio | None) -> str | None:
    """A regular expression that every text with personal data matches; ``None`` where Presidio looks too."""
    return _SUSPECT if presidio is None else None


class PersonalData(TextCheck, frozen=True, kw_only=True):
    """E-mail addresses, phone numbers, IBANs and cards whose checksums hold, US social security numbers,
    public IP addresses, and keys. Addresses that are set aside for examples do not count.

    What is found is never shown, only its kind and how it begins. To take it out instead of rejecting the row
    use the stage ``redact``.
    """

    kinds: list[PersonalKind] = field(default_factory=lambda: list(KINDS))
    """What is looked for."""
    presidio: Presidio | None = None
    """Further kinds, by the recognisers of ``presidio-analyzer``; ``{}`` for those without a model."""

    @property
    def suspect(self) -> str | None:
        """What every text with personal data has."""
        return suspects(self.presidio)

    def find(self, text: str, told: RowFacts) -> str | None:
        """The kinds, each with the first two characters of the first one."""
        first: dict[str, str] = {}
        for kind, start, _ in personal_data(text, tuple(self.kinds), self.presidio):
            first.setdefault(kind, f"{kind} ({text[start : start + 2]!r}...)")
        return ", ".join(first.values()) or None
