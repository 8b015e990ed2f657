"""What is registered, and what is made of it, before the first request."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, get_type_hints

import msgspec
from msgspec import Struct

from gristmill.core.contracts.naming import Part, shown
from gristmill.core.engine import Ability
from gristmill.core.exports import SUFFIXES, Export
from gristmill.core.registry import Group
from gristmill.core.schema import shapes
from gristmill.core.stages import Filter, Relation, RowStage

_STAGES = (RowStage, Filter, Relation)
_ENGINE_OPTIONS = (
    "open",
    "pacing",
    "concurrency",
    "initial_concurrency",
    "tries",
    "request_timeout",
    "backoff",
    "max_backoff",
    "max_error_rate",
    "self_paced",
)
_ENGINE = ("model", "abilities", "concurrency", "generate", "__aenter__", "__aexit__")


def check_part(group: Group, name: str, thing: Any, *, reserved: Collection[str] = ()) -> None:
    """Refuse a part that breaks the contract of its group, given as it is registered: a class or function.

    ``reserved`` are keys of a recipe that stand beside a part's options and so cannot name one. Raises one
    ``RecipeError`` that names the part with its module, the member at fault and the remedy.
    """
    # A class may be asked for by every stage of every recipe; what else is registered need not have a hash.
    check = _checked_once if isinstance(thing, type) else _checked
    check(group, name, thing, frozenset(reserved))


def _checked(group: Group, name: str, thing: Any, reserved: frozenset[str]) -> None:
    part = Part(group, name, thing)
    _CHECKS[group](part)
    if isinstance(thing, type) and group != "records":
        _check_options(part, reserved)


_checked_once = functools.cache(_checked)


def _stage(part: Part) -> None:
    cls = part.thing
    if not (isinstance(cls, type) and issubclass(cls, _STAGES)):
        raise part.fault(
            "it inherits none of RowStage, Filter and Relation",
            "Write 'class NAME(RowStage):' (or Filter, Relation; from gristmill.core) and give it options as "
            "fields.",
        )
    _check_defined(part)
    call = cls.__call__
    if issubclass(cls, RowStage):
        _check_async(part, "__call__", call, "A stage that takes whole tables inherits Filter or Relation.")
        _check_takes(part, "__call__", call, "self, record, context")
        _check_plain(part, "estimate", cls.estimate)
        _check_takes(part, "estimate", cls.estimate, "self, record")
        _check_plain(part, "cautions", cls.cautions)
        _check_record(part, "reads", getattr(cls, "reads", None))
        _check_record(part, "writes", getattr(cls, "writes", None))
        return
    _check_plain(part, "__call__", call)
    table = "frame" if issubclass(cls, Filter) else "frames"
    _check_takes(part, "__call__", call, f"self, {table}, seed")
    _check_record(part, "reads", cls.reads)
    if cls.writes is not None:
        _check_record(part, "writes", cls.writes)


def _export(part: Part) -> None:
    cls = part.thing
    if not (isinstance(cls, type) and issubclass(cls, Export)):
        raise part.fault(
            "it does not inherit Export",
            "Write 'class NAME(Export):' (from gristmill.core), which also gives it 'suffix' and 'remarks'.",
        )
    _check_defined(part)
    _check_record(part, "reads", getattr(cls, "reads", None))
    _check_record(part, "writes", getattr(cls, "writes", None))
    _check_plain(part, "rows", cls.rows)
    _check_takes(part, "rows", cls.rows, "self, record")
    if cls.suffix not in SUFFIXES:
        raise part.fault(f"'suffix' is {cls.suffix!r}", f"Give one of {', '.join(SUFFIXES)}.")


def _engine(part: Part) -> None:
    cls = part.thing
    missing = [m for m in _ENGINE_OPTIONS if not hasattr(cls, m)]
    if not (isinstance(cls, type) and issubclass(cls, Struct)) or missing:
        raise part.fault(
            "it does not inherit EngineOptions",
            "Write 'class NAME(EngineOptions):' (from gristmill.engines) with a method 'open'.",
        )
    _check_defined(part)
    opens: Any = cls
    _check_plain(part, "open", opens.open)
    _check_takes(part, "open", opens.open, "self")


def _verifier(part: Part) -> None:
    call = _callable(part)
    _check_plain(part, "__call__", call)
    given = "self, completion, reference" if isinstance(part.thing, type) else "completion, reference"
    _check_takes(part, "__call__", call, given)


def _callable(part: Part) -> Callable[..., Any]:
    """What is called of a verifier: the function, or a Struct class's ``__call__``."""
    thing = part.thing
    if not isinstance(thing, type):
        if callable(thing) and hasattr(thing, "__qualname__"):
            found: Callable[..., Any] = thing
            return found
        raise part.fault(
            f"it is {shown(thing)}, neither a function nor a class",
            "Register the function, or the class with its options, not an object made of it.",
        )
    if not issubclass(thing, Struct):
        raise part.fault(
            "the class is not a msgspec.Struct, so it has no options",
            "Write 'class NAME(Struct, frozen=True):' (from msgspec) with its options as fields.",
        )
    if "__call__" not in dir(thing):
        raise part.fault(
            "it has no '__call__'",
            "Add 'def __call__(self, completion, reference)' with a Verdict.",
        )
    call: Callable[..., Any] = thing.__call__
    return call


def _model_verifier(part: Part) -> None:
    cls = part.thing
    if not (isinstance(cls, type) and issubclass(cls, Struct)):
        raise part.fault(
            "it is not a msgspec.Struct", "Write 'class NAME(Struct, frozen=True):' (from msgspec)."
        )
    ways = {
        "__call__": ("estimate", "completion, reference, *, problem, engine, seed"),
        "compare": ("estimate_pair", "first, second, *, problem, engine, seed"),
        "rate_together": ("estimate_list", "responses, *, problem, engine, seed"),
    }
    found = [way for way in ways if way in dir(cls)]
    if not found:
        raise part.fault(
            "it has none of '__call__', 'compare' and 'rate_together'",
            f"Add 'async def __call__(self, {ways['__call__'][1]})'.",
        )
    for way in found:
        bounds, given = ways[way]
        call = getattr(cls, way)
        _check_async(part, way, call, "A verifier that asks no model registers under gristmill.verifiers.")
        try:
            texts = given.partition(", *")[0].split(", ")
            inspect.signature(call).bind(None, *texts, problem="", engine=None, seed=0)
        except TypeError as error:
            raise part.fault(f"{way!r} does not take ({given}): {error}", "Change its parameters.") from error
        if not hasattr(cls, bounds):
            raise part.fault(f"it has no {bounds!r}", f"Add 'def {bounds}(...) -> Estimate:' beside {way!r}.")
    if not hasattr(cls, "needs"):
        raise part.fault("it has no 'needs'", "Add 'needs = frozenset({Ability.CHAT})' or such a property.")


def _scorer(part: Part) -> None:
    cls = part.thing
    members = ("needs", "uses", "verifiers", "names", "estimate", "cautions", "__call__")
    if not (isinstance(cls, type) and issubclass(cls, Struct)) or not all(hasattr(cls, m) for m in members):
        raise part.fault(
            "it inherits neither Scorer nor PairScorer",
            "Write 'class NAME(Scorer):' (from gristmill.synth.scorers) and give it options as fields.",
        )
    _check_defined(part)
    _check_async(part, "__call__", cls.__call__, "The stage awaits it.")
    sides = "chosen, rejected" if any(c.__name__ == "PairScorer" for c in cls.__mro__) else "answer"
    _check_takes(part, "__call__", cls.__call__, f"self, {sides}, context, score")
    for member, parameters in (
        ("names", "self, score"),
        ("estimate", f"self, {sides}"),
        ("cautions", "self"),
    ):
        _check_plain(part, member, getattr(cls, member))
        _check_takes(part, member, getattr(cls, member), parameters)


def _record(part: Part) -> None:
    _check_record(part, "the record", part.thing)


_CHECKS: dict[Group, Callable[[Part], None]] = {
    "stages": _stage,
    "exports": _export,
    "engines": _engine,
    "verifiers": _verifier,
    "model_verifiers": _model_verifier,
    "scorers": _scorer,
    "records": _record,
}


def _check_defined(part: Part) -> None:
    """Refuse a class that leaves out a method which its base declares as abstract."""
    for member in dir(part.thing):
        if getattr(inspect.getattr_static(part.thing, member), "__isabstractmethod__", False):
            raise part.fault(
                f"it does not define {member!r}",
                f"Add 'def {member}': 'gristmill new plugin NAME' writes an example.",
            )


def _check_async(part: Part, member: str, call: Any, otherwise: str) -> None:
    if inspect.isasyncgenfunction(call):
        raise part.fault(f"{member!r} yields its results", "Collect them in a list and return that.")
    if not inspect.iscoroutinefunction(call):
        raise part.fault(f"{member!r} is a plain 'def'", f"Write 'async def {member}'. {otherwise}")


def _check_plain(part: Part, member: str, call: Any) -> None:
    if inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call):
        asks = " One that asks a model is another kind: a RowStage." if part.kind == "stage" else ""
        if part.kind == "verifier":
            asks = " One that asks a model registers under gristmill.model_verifiers."
        raise part.fault(f"{member!r} is an 'async def'", f"Write it with a plain 'def'.{asks}")
    if inspect.isgeneratorfunction(call):
        raise part.fault(f"{member!r} yields its results", "Collect them and return them at once.")


def _check_takes(part: Part, member: str, call: Any, parameters: str) -> None:
    """Refuse a function that cannot be called with these positional ``parameters``."""
    try:
        signature = inspect.signature(call)
    except ValueError:  # written in C: it cannot be asked
        return
    try:
        signature.bind(*parameters.split(", "))
    except TypeError as error:
        raise part.fault(
            f"{member!r} cannot be called with ({parameters}): {error}", "Change its parameters."
        ) from error


def _check_record(part: Part, member: str, kind: Any) -> None:
    """Refuse what is not a record type: a Struct with columns whose first field is ``id: str``."""
    if kind is None:
        raise part.fault(f"it has no {member!r}", f"Add '{member}: ClassVar[type[Struct]] = RECORD'.")
    if not (isinstance(kind, type) and issubclass(kind, Struct)):
        raise part.fault(
            f"{member!r} is {shown(kind)}, which is not a record type",
            "Name a class that inherits msgspec.Struct, such as gristmill.core.Problem.",
        )
    try:
        hints = get_type_hints(kind)
        fields = kind.__struct_fields__
        if not fields or fields[0] != "id" or hints["id"] is not str:
            raise part.fault(
                f"{member!r} is {kind.__name__}, whose first field is not 'id: str'",
                "Make 'id: str' its first field: rows are told apart by it.",
            )
        shapes(kind)
    except (NameError, TypeError) as error:
        raise part.fault(
            f"{member!r} is {kind.__name__}, which has no columns: {error}",
            "Use the types that gristmill.core.records names.",
        ) from error


def _check_options(part: Part, reserved: Collection[str]) -> None:
    """Refuse options that a recipe cannot set, or that clash with its own keys."""
    cls = part.thing
    for option in cls.__struct_encode_fields__:
        if option in reserved:
            raise part.fault(
                f"its option {option!r} has the name of a key that every {part.kind} has in a recipe",
                "Rename the field.",
            )
    try:
        msgspec.json.schema(cls)
    except (TypeError, NameError) as error:
        raise part.fault(
            f"its option {_unsupported(cls)} has a type that a recipe cannot hold: {error}",
            "Use str, int, float, bool, None, Literal, an Enum, a Struct, or a list, tuple or dict of these.",
        ) from error


def _unsupported(cls: type[Struct]) -> str:
    """The first option whose type has no JSON Schema, by its name."""
    try:
        hints = get_type_hints(cls, include_extras=True)
    except NameError as error:
        return f"with {error.name!r} in its annotation"
    for option in cls.__struct_fields__:
        try:
            msgspec.json.schema(hints[option])
        except TypeError:
            return repr(option)
    return "(which one depends on the others)"


def check_made(group: Group, name: str, made: Any) -> None:
    """Refuse a part made with its options that lacks a member or gives one of a wrong type.

    Those are of stages and scorers ``needs``, ``uses``, ``verifiers`` and ``inputs``, which options may
    decide. Raises ``RecipeError`` as ``check_part`` does.
    """
    part = Part(group, name, made)
    if group == "scorers" or (group == "stages" and isinstance(made, RowStage)):
        _check_abilities(part, "needs", made.needs)
        if not isinstance(made.uses, Mapping):
            raise part.fault(f"'uses' is {shown(made.uses)}", "Give {ENGINE: frozenset({Ability.CHAT})}.")
        for engine, needs in made.uses.items():
            _check_abilities(part, f"uses[{engine!r}]", needs)
        names = made.verifiers
        if isinstance(names, str) or not isinstance(names, Collection):
            raise part.fault(f"'verifiers' is {shown(names)}", "Give a tuple of the verifiers' names.")
    elif group == "stages" and isinstance(made, Relation):
        _check_inputs(part, made.inputs)


def _check_inputs(part: Part, inputs: Any) -> None:
    """Refuse ``inputs`` of a relation that are not the fewest and the most tables."""
    match inputs:
        case (int(fewest), int() | None as most) if 1 <= fewest <= (fewest if most is None else most):
            return
    raise part.fault(
        f"'inputs' is {inputs!r}", "Give the fewest and the most tables: (1, 1), (2, 2) or (2, None)."
    )


def _check_abilities(part: Part, member: str, needs: Any) -> None:
    if not isinstance(needs, frozenset) or not all(isinstance(n, Ability) for n in needs):
        raise part.fault(
            f"{member!r} is {shown(needs)}, not a frozenset of Ability",
            "Write frozenset({Ability.CHAT}), with Ability from gristmill.core.",
        )


def check_opened(name: str, engine: Any) -> None:
    """Refuse what the ``open`` of an engine's options returned where it is not an engine (``core.Engine``).

    Raises ``RecipeError`` as ``check_part`` does.
    """
    part = Part("engines", name, engine)
    for member in _ENGINE:
        if not hasattr(engine, member):
            raise part.fault(
                f"the engine that 'open' returns has no {member!r}",
                "Add it; 'async with' needs __aenter__ and __aexit__ even where there is nothing to open.",
            )
    if not isinstance(engine.model, str) or not engine.model:
        raise part.fault(
            f"'model' is {shown(engine.model)}",
            "Give a text that names the weights: the log keeps completions by it.",
        )
    _check_abilities(part, "abilities", engine.abilities)
    if not isinstance(engine.concurrency, int) or engine.concurrency < 1:
        raise part.fault(f"'concurrency' is {shown(engine.concurrency)}", "Give a whole number from 1.")
    for member in ("generate", "__aenter__", "__aexit__"):
        call = getattr(engine, member)
        _check_async(part, member, call, "The run awaits it.")
    try:
        inspect.signature(engine.generate).bind(None, first=0, n=1)
    except TypeError as error:
        raise part.fault(
            f"'generate' cannot be called with (request, first=0, n=1): {error}", "Change its parameters."
        ) from error
