"""How a server is reached: its URL, the keys, headers and query, and certificates; all from the
environment."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from time import monotonic

from yarl import URL

from gristmill.core.errors import RecipeError
from gristmill.core.secrets import Secrets, why_secret
from gristmill.engines.openai.options import ModelOptions

_log = logging.getLogger(__name__)

_CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


class Access:
    """What a request to a server carries besides its body.

    Of several keys each request takes the next. One that the server refuses is ``dropped``, one that is
    over its limit ``rests``; either says whether another key can be tried at once."""

    def __init__(self, options: ModelOptions, keys: Mapping[str, str]) -> None:
        """``keys`` by the names of their variables. ``RecipeError`` for what cannot be sent."""
        self._keys = {name: key for name, key in keys.items() if key}
        self._header = options.api_key_header
        self._rests: dict[str, float] = {}
        self._turn = 0
        self._plain = _resolved("headers", options.headers)
        self.query = _resolved("query", options.query)
        given = [*options.headers.items(), *options.query.items()]
        hidden = [os.environ[value[1:]].strip() for _, value in given if value.startswith("$")]
        self.secrets = Secrets([*self._keys.values(), *hidden])

    def pick(self) -> tuple[str, dict[str, str]]:
        """The variable whose key is next, and the headers with it."""
        if len(self._keys) < 2:
            return self._only
        now = monotonic()
        awake = [name for name in self._keys if self._rests.get(name, 0.0) <= now] or list(self._keys)
        self._turn += 1
        name = awake[self._turn % len(awake)]
        return name, self._with(name)

    def _with(self, name: str) -> dict[str, str]:
        key = self._keys[name]
        value = f"Bearer {key}" if self._header.lower() == "authorization" else key
        return self._plain | {self._header: value}

    @cached_property
    def _only(self) -> tuple[str, dict[str, str]]:
        """What ``pick`` gives where there is one key or none."""
        return next(((name, self._with(name)) for name in self._keys), ("", self._plain))

    def dropped(self, name: str, why: str) -> bool:
        """Use this key no more, if there is another; whether there is."""
        if name in self._keys and len(self._keys) > 1:
            del self._keys[name]
            left = ", ".join(f"${other}" for other in self._keys)
            _log.warning("The key in $%s is not used any more: %s. Still used: %s.", name, why, left)
        return name not in self._keys and bool(self._keys)

    def rests(self, name: str, seconds: float | None) -> bool:
        """Let this key rest; whether another is awake."""
        now = monotonic()
        self._rests[name] = now + (seconds or 1.0)
        return any(self._rests.get(other, 0.0) <= now for other in self._keys)


def address(base_url: str) -> URL:
    """The base URL. ``RecipeError`` for one that cannot be used or contains a secret."""
    try:
        url = URL(base_url)
    except ValueError:
        url = URL()
    if not url.host:
        raise RecipeError(f"base_url: {base_url} has no host.", remedy="Write it as http://HOST:PORT/v1.")
    shown = url.with_user(None).with_query(None)
    if url.user or url.password:
        raise RecipeError(
            f"base_url: {shown} contains a user name or password.",
            remedy="Write it as http://HOST:PORT/v1, and put the key into the variable that api_key_env "
            "names.",
        )
    if url.query_string or url.fragment:
        raise RecipeError(
            f"base_url: {shown} has parameters behind it.",
            remedy="Give them as 'query: {NAME: VALUE}', with secrets as $VARIABLE.",
        )
    return url


def keys_of(variables: Sequence[str]) -> dict[str, str]:
    """The keys that are set in the environment, by the names of their ``variables``.

    ``RecipeError`` for a key that cannot be sent, and if several variables are named and none is set.
    """
    found = {name: os.environ.get(name, "").strip() for name in variables}
    for name, key in found.items():
        if not (key.isascii() and key.isprintable()):
            raise RecipeError(
                f"${name} contains characters that are not allowed in a key.",
                remedy="Set it again, to nothing but the key, on one line.",
            )
    if len(found) > 1 and not any(found.values()):
        raise RecipeError(
            f"api_key_env: none of {', '.join(f'${name}' for name in found)} is set.",
            remedy="Set at least one.",
        )
    return found


def _resolved(place: str, given: Mapping[str, str]) -> dict[str, str]:
    """The values, those of ``$NAME`` from the environment."""
    found = {}
    for name, value in given.items():
        if why := why_secret(name, value):
            raise RecipeError(
                f"{place}.{name}: this value {why}.", remedy="Give a variable's name, as $NAME."
            )
        if value.startswith("$"):
            if value[1:] not in os.environ:
                raise RecipeError(
                    f"{place}.{name}: the environment variable {value} is not set.",
                    remedy=f"Set it: export {value[1:]}=...",
                )
            value = os.environ[value[1:]].strip()
        if not value.isprintable():
            raise RecipeError(f"{place}.{name} contains control characters.", remedy="Give one line of text.")
        found[name] = value
    return found


def certificates() -> ssl.SSLContext:
    """TLS with the certificates of the system and those of ``$SSL_CERT_FILE`` or ``$REQUESTS_CA_BUNDLE``."""
    context = ssl.create_default_context()
    for variable in _CA_VARIABLES:
        path = os.environ.get(variable)
        if path:
            try:
                where = "capath" if Path(path).is_dir() else "cafile"
                context.load_verify_locations(**{where: path})
            except (OSError, ssl.SSLError) as error:
                raise RecipeError(
                    f"${variable}: the certificates in {path} cannot be read ({error}).",
                    remedy="Let it name a file of certificates in PEM, or unset it.",
                ) from error
    return context
