"""Keys and passwords: not in recipes, and not in what is shown or written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from gristmill.core.errors import RecipeError

SHOWN = "***"
"""What is shown in place of a secret."""
_LEAST = 6
"""Shorter texts are not looked for: they would be found in ordinary words."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#]*:?[^\s/?#]*@\S*")
_URL_KEY = re.compile(
    r"(?i)[a-z][a-z0-9+.-]*://[^\s#]*[?&](?:api[-_]?key|key|token|access_token|sig|signature)="
)
KEY_FORMS = (
    r"sk-[\w.-]{12,}|sk_(?:live|test)_\w{12,}|gsk_\w{16,}|hf_[A-Za-z0-9]{20,}|gh[opsu]_\w{20,}|github_pat_\w{20,}"
    r"|AIza[\w-]{30,}|xai-\w{20,}|pplx-\w{20,}|nvapi-[\w-]{20,}|r8_\w{20,}|glpat-[\w-]{16,}|AKIA[A-Z0-9]{16}"
    r"|xox[abprs]-[\w-]{10,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*"
)
"""How keys of well-known services are written: a regular expression."""
_KEY = re.compile(rf"(?:Bearer\s+)?(?:{KEY_FORMS})")
_NAME = re.compile(
    r"(?i)(?:.*[-_])?(?:api[-_]?key|apikey|key|token|secret|password|passwd|authorization|auth|credentials?|cookie"
    r"|signature)"
)
_RANDOM = re.compile(r"(?:Bearer\s+)?(?=\S*\d)(?=\S*[A-Za-z])[\w.+/=~-]{16,}")
_CONTROL = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?)"  # sequences that a terminal obeys
    r"|[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def why_secret(name: str, value: str) -> str:
    """Why ``value``, given under ``name``, is taken for a secret; empty if it is not."""
    if _URL.fullmatch(value):
        return "contains a user name or password"
    if _URL_KEY.match(value):
        return "contains a key"
    if _KEY.fullmatch(value) or (_NAME.fullmatch(name) and _RANDOM.fullmatch(value)):
        return "looks like a key"
    return ""


def refuse_secrets(data: Any, place: str = "") -> None:
    """Raise ``RecipeError`` if plain data holds a key, a password or a URL with one; the text never shows
    it."""
    if isinstance(data, Mapping):
        items: Iterable[tuple[Any, Any]] = data.items()
    elif isinstance(data, (list, tuple)):
        items = ((place.rpartition(".")[2], value) for value in data)
    else:
        return
    for name, value in items:
        at = f"{place}.{name}".lstrip(".") if isinstance(data, Mapping) else place
        if isinstance(value, str) and (why := why_secret(str(name), value)):
            raise RecipeError(
                f"{at}: this value {why}, and a recipe is copied into the run directory and the log.",
                remedy="Put the secret into an environment variable, and give that variable's name: "
                "api_key_env: NAME for an API key, $NAME as a value of headers or query.",
            )
        refuse_secrets(value, at)


class Secrets:
    """The secrets that a part knows, to be taken out of what comes from elsewhere."""

    def __init__(self, values: Iterable[str]) -> None:
        forms = {form for value in values if len(value) >= _LEAST for form in (value, quote(value, safe=""))}
        self._forms = sorted(forms, key=len, reverse=True)
        self._bytes = [form.encode() for form in self._forms]

    def out_of(self, text: str) -> str:
        """The text without the secrets."""
        for form in self._forms:
            text = text.replace(form, SHOWN)
        return text

    def out_of_bytes(self, data: bytes) -> bytes:
        """Bytes without the secrets; the same object if there are none in them."""
        for form in self._bytes:
            if form in data:
                data = data.replace(form, SHOWN.encode())
        return data


def without_controls(text: str) -> str:
    """The text without terminal sequences, control characters and marks of direction; white space is a
    space."""
    return _CONTROL.sub(lambda found: " " if found[0] in "\t\n\v\f\r\x85" else "", text)
