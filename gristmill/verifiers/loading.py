"""From a verifier's place and options to the callable that judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from operator import attrgetter
from typing import Any, cast

import msgspec
from msgspec import Struct

from gristmill.core.errors import RecipeError
from gristmill.core.registry import locate, suggest
from gristmill.core.rules import told
from gristmill.core.stages import Refer
from gristmill.core.verdicts import Verifier


def at(target: str) -> Any:
    """The object at ``MODULE:OBJECT``, or of a registered verifier's name."""
    module, _, name = (target if ":" in target else locate("verifiers", target)).partition(":")
    return attrgetter(name)(import_module(module))


def refer_of(verifier: Any) -> Refer | None:
    """How a verifier (an object, ``MODULE:OBJECT`` or a registered name) wants a row's problem and columns
    with its answer: its ``for_problem``. ``None`` if it wants the answer alone."""
    found: Refer | None = getattr(
        at(verifier) if isinstance(verifier, str) else verifier, "for_problem", None
    )
    return found


def refuses_of(verifier: Any) -> Callable[[str], str] | None:
    """What says why a verifier (an object) can judge nothing by a reference, or "": its ``refuses``."""
    found: Callable[[str], str] | None = getattr(verifier, "refuses", None)
    return found


def load(target: str, options: Mapping[str, Any], *, noun: str = "verifier") -> Verifier:
    """The verifier at ``MODULE:OBJECT``: a plain function, or a ``Struct`` class made with ``options``.

    ``noun`` is what an error calls it, for other parts that are loaded so. Raises ``RecipeError`` for an
    option that there is not, or that has no such value.
    """
    found = at(target)
    name = target.rpartition(":")[2]
    if not (isinstance(found, type) and issubclass(found, Struct)):
        if options:
            raise RecipeError(
                f"the {noun} {name} has no options ({', '.join(options)}).", remedy="Leave them out."
            )
        verifier: Verifier = found
        return verifier
    known = found.__struct_encode_fields__
    for key in options:
        if key not in known:
            raise RecipeError(f"the {noun} {name} has no option {key!r}.", remedy=suggest(key, known))
    try:
        made: Any = msgspec.convert(options, found)
    except msgspec.ValidationError as error:
        raise RecipeError(
            f"the {noun} {name}: {told(error, found)}.", remedy="Change that option."
        ) from error
    return cast(Verifier, made)
