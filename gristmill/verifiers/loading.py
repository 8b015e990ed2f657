"""From a verifier's place and options to the callable that judges."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from operator import attrgetter
from typing import Any, cast

import msgspec
from msgspec import Struct

from gristmill.core.errors import RecipeError
from gristmill.core.registry import suggest
from gristmill.core.rules import told
from gristmill.core.verdicts import Verifier


def load(target: str, options: Mapping[str, Any]) -> Verifier:
    """The verifier at ``MODULE:OBJECT``: a plain function, or a ``Struct`` class made with ``options``.

    Raises ``RecipeError`` for an option that there is not, or that has no such value.
    """
    module, _, name = target.partition(":")
    found: Any = attrgetter(name)(import_module(module))
    if not (isinstance(found, type) and issubclass(found, Struct)):
        if options:
            raise RecipeError(
                f"the verifier {name} has no options ({', '.join(options)}).", remedy="Leave them out."
            )
        verifier: Verifier = found
        return verifier
    known = found.__struct_encode_fields__
    for key in options:
        if key not in known:
            raise RecipeError(f"the verifier {name} has no option {key!r}.", remedy=suggest(key, known))
    try:
        made: Any = msgspec.convert(options, found)
    except msgspec.ValidationError as error:
        raise RecipeError(
            f"the verifier {name}: {told(error, found)}.", remedy="Change that option."
        ) from error
    return cast(Verifier, made)
