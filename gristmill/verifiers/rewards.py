"""Verifiers as the reward functions of RL trainers: TRL's GRPO and RLOO, and verl's custom reward."""

from __future__ import annotations

import atexit
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from msgspec import Struct
from msgspec.structs import replace

from gristmill.core.errors import RecipeError
from gristmill.core.shaping import Shape
from gristmill.core.verdicts import Outcome, Verdict, Verifier
from gristmill.verifiers.judges.base import ModelVerifier
from gristmill.verifiers.judges.host import Host, asks_a_model
from gristmill.verifiers.judges.loading import load_model_verifier
from gristmill.verifiers.loading import at, refer_of
from gristmill.verifiers.pool.in_process import pool_maker
from gristmill.verifiers.shaped import Shaped, pricing
from gristmill.verifiers.worth import RewardScale, Undecided, strict

if TYPE_CHECKING:
    from gristmill.engines.options import EngineOptions

Reward = Callable[..., list[float | None]]
AnyVerifier = str | Verifier | ModelVerifier


class _Source(Protocol):
    """Where verdicts come from: a pool, or a host with its engine."""

    def verdicts(self, calls: Sequence[tuple[str, ...]]) -> list[Verdict]: ...

    def close(self) -> None: ...


class _Lazy:
    """A source that starts with its first verdict, once in each process (a fork cannot share it)."""

    def __init__(self, make: Callable[[], _Source]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._source: tuple[int, _Source] | None = None

    def verdicts(self, rows: Sequence[tuple[str, ...]]) -> list[Verdict]:
        """The verdicts on rows of texts, in order, as many at once as the source can."""
        return self._open().verdicts(rows)

    def _open(self) -> _Source:
        with self._lock:
            if self._source is None or self._source[0] != os.getpid():
                source = self._make()
                atexit.register(source.close)
                self._source = os.getpid(), source
            return self._source[1]


def _lazy(verifier: AnyVerifier, engine: EngineOptions | None, settings: dict[str, Any]) -> _Lazy:
    """Where the verdicts of a verifier come from, given by name, place or as an object."""
    if engine is not None:
        judge: Any = verifier
        if isinstance(verifier, str):
            judge = load_model_verifier(verifier, settings.pop("options", {}))
        if not asks_a_model(judge):
            raise RecipeError(f"{_name(verifier)} does not ask a model.", remedy="Leave out its engine.")
        return _Lazy(lambda: Host(judge, engine, **settings))
    if not isinstance(verifier, str) and asks_a_model(verifier):
        raise RecipeError(
            f"{_name(verifier)} asks a model, and there is none.",
            remedy="Give one: engine=OpenAI(...), or another engine's options.",
        )
    if isinstance(verifier, str):
        settings["options"] = strict(settings.get("options", {}), _fields(verifier))
    elif isinstance(verifier, Struct):
        fields = verifier.__struct_fields__
        kept = {name: getattr(verifier, name) for name in fields}
        changed = {name: value for name, value in strict(kept, fields).items() if value != kept[name]}
        verifier = cast(Verifier, replace(verifier, **changed) if changed else verifier)
    return _Lazy(pool_maker(cast(str | Verifier, verifier), **settings))


def _fields(target: str) -> tuple[str, ...]:
    """The options that a verifier has, given by name or as ``MODULE:OBJECT``."""
    found: tuple[str, ...] = getattr(at(target), "__struct_fields__", ())
    return found


def _name(verifier: AnyVerifier) -> str:
    if isinstance(verifier, str):
        return verifier.rpartition(":")[2]
    return getattr(verifier, "__name__", type(verifier).__name__).lower()


def as_trl_reward(
    verifier: AnyVerifier = "math",
    *,
    reference: str = "answer",
    right: float = 1.0,
    wrong: float = 0.0,
    undecided: Undecided = None,
    graded: bool = True,
    engine: EngineOptions | None = None,
    problem: str = "prompts",
    shape: Shape | Shaped | None = None,
    **settings: Any,
) -> Reward:
    """A reward function for TRL's ``GRPOTrainer`` and ``RLOOTrainer``.

    ``verifier`` is a registered name, ``MODULE:OBJECT``, a function, or a verifier with its options, such as
    ``Math(tolerance_relative=0.1)``. One of a notebook or script runs in this process, without a deadline,
    which a warning says. ``reference`` is the data set's column with the reference answers, or "" for a
    verifier that needs none; a list of several is handed over as a JSON list, and a row without one gets
    ``None``. ``right``,
    ``wrong``, ``undecided`` and ``graded`` say what verdicts are worth (see ``RewardScale``); TRL leaves a
    completion with ``None`` out of this reward. ``settings`` are passed to ``Pool``: workers, deadline,
    memory_mb, options. A verifier that can be ``strict`` is, unless its options say otherwise.

    A verifier that asks a model takes an ``engine`` (its options, such as ``OpenAI(...)``) and the column
    with the ``problem``, of whose conversation the last message counts.
    ``settings`` are then those of ``Host``: log, seed; and ``options`` for a verifier given by name.

    A ``shape`` (``gristmill.filters.rewards``) makes the rewards of the verdicts, group by group, in place of
    ``right``, ``wrong`` and ``graded``; see ``Shaped``.
    """
    price = pricing(shape, RewardScale(right, wrong, undecided, graded))
    refer = None if engine is not None else refer_of(verifier)
    lazy = _lazy(verifier, engine, settings)

    def reward(completions: Sequence[Any], **columns: Any) -> list[float | None]:
        said = [_text(c) for c in completions]
        golds: list[str | None] = [""] * len(said)
        if reference:
            golds = [_gold(r) for r in _column(columns, reference, "reference")]
            if refer is not None:
                golds = [
                    None if gold is None else refer(_text(row.get(problem, "")), gold, row)
                    for gold, row in zip(golds, _rows(columns, len(golds)), strict=True)
                ]
        texts: list[Sequence[str | None]] = [said, golds]
        if engine is not None:
            texts.append([_text(p) for p in _column(columns, problem, "problem")])
        verdicts = _verdicts(lazy, list(zip(*texts, strict=True)))
        rewards = price(verdicts, said, columns)
        return [None if gold is None else made for gold, made in zip(golds, rewards, strict=True)]

    # TRL names its metrics after the function.
    reward.__name__ = f"gristmill_{_name(verifier)}"
    return reward


def as_verl_reward(
    verifier: AnyVerifier = "math",
    *,
    right: float = 1.0,
    wrong: float = 0.0,
    undecided: float | Mapping[str, float] = 0.0,
    graded: bool = True,
    engine: EngineOptions | None = None,
    problem: str = "problem",
    shape: Shape | Shaped | None = None,
    **settings: Any,
) -> Callable[..., float]:
    """A ``compute_score(data_source, solution_str, ground_truth, extra_info=None)`` for verl.

    Assign it in a file of your own and name that file in ``custom_reward_function.path``. The verifier and
    all settings are as for ``as_trl_reward``, but verl takes no ``None``; with an ``engine``, ``problem`` is
    the key of ``extra_info`` that holds the problem's text. A ``shape`` must not be ``grouped``: those go
    with ``as_verl_batch_reward``.
    """
    if shape is not None and (shape.shape if isinstance(shape, Shaped) else shape).grouped:
        raise RecipeError(
            "this shape compares the answers to a problem, and verl's reward sees one at a time.",
            remedy="Use as_verl_batch_reward, with verl's reward manager 'batch'.",
        )
    batch = as_verl_batch_reward(
        verifier,
        right=right,
        wrong=wrong,
        undecided=undecided,
        graded=graded,
        engine=engine,
        problem=problem,
        shape=shape,
        **settings,
    )

    def compute_score(
        data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None, **_: Any
    ) -> float:
        [reward] = batch([data_source], [solution_str], [ground_truth], [extra_info])
        return reward

    return compute_score


def as_verl_batch_reward(
    verifier: AnyVerifier = "math",
    *,
    right: float = 1.0,
    wrong: float = 0.0,
    undecided: float | Mapping[str, float] = 0.0,
    graded: bool = True,
    engine: EngineOptions | None = None,
    problem: str = "problem",
    shape: Shape | Shaped | None = None,
    **settings: Any,
) -> Callable[..., list[float]]:
    """A ``compute_score(data_sources, solution_strs, ground_truths, extra_infos)`` for verl's reward manager
    ``batch``, which hands over all answers at once.

    As ``as_verl_reward``, with any ``shape``. Keys of ``extra_infos`` are its columns; answers with the same
    value of the shape's ``group`` are to the same problem. A decided answer to which the shape gives nothing
    is worth 0, and one to a problem without a reference (``None``; "" for
    a verifier that needs none) what an error is.
    """
    price = pricing(shape, RewardScale(right, wrong, undecided, graded))
    refer = None if engine is not None else refer_of(verifier)
    lazy = _lazy(verifier, engine, settings)

    def compute_score(
        data_sources: Sequence[str],
        solution_strs: Sequence[str],
        ground_truths: Sequence[Any],
        extra_infos: Sequence[Any] | None = None,
        **_: Any,
    ) -> list[float]:
        given = [None] * len(solution_strs) if extra_infos is None else extra_infos
        infos = [info or {} for info in given]
        rows: list[tuple[str | None, ...]] = []
        for text, truth, info in zip(solution_strs, ground_truths, infos, strict=True):
            gold = _gold(truth)
            if refer is not None and gold is not None:
                gold = refer(_text(info.get(problem, "")), gold, info)
            row: tuple[str | None, ...] = text, gold
            if engine is not None:
                if problem not in info:
                    has = ", ".join(sorted(info)) or "nothing"
                    raise RecipeError(
                        f"extra_info has no {problem!r} for the reward (it has: {has}).",
                        remedy="Name the key with the problem's text: as_verl_reward(problem=...).",
                    )
                row = (*row, _text(info[problem]))
            rows.append(row)
        keys = sorted({key for info in infos for key in info})
        columns = {key: [info.get(key) for info in infos] for key in keys}
        priced = price(_verdicts(lazy, rows), list(solution_strs), columns)
        nothing = wrong if shape is None else 0.0
        return [nothing if reward is None else reward for reward in priced]

    return compute_score


def _verdicts(source: _Source | _Lazy, rows: Sequence[tuple[str | None, ...]]) -> list[Verdict]:
    """The verdicts on rows, of which one without a reference is not judged."""
    judged = iter(source.verdicts([cast(tuple[str, ...], row) for row in rows if None not in row]))
    missing = Verdict(Outcome.ERROR, detail="there is no reference")
    return [missing if None in row else next(judged) for row in rows]


def _gold(value: Any) -> str | None:
    """A reference as text; of a list or an array the only item, or all as a JSON list, as sources read it."""
    if hasattr(value, "tolist"):  # numpy's, as verl reads Parquet
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        items = list(dict.fromkeys(str(item) for item in value if item is not None))
        return json.dumps(items, ensure_ascii=False) if len(items) > 1 else next(iter(items), None)
    return None if value is None else str(value)


def _column(columns: Mapping[str, Any], name: str, what: str) -> Any:
    if name not in columns:
        raise RecipeError(
            f"the data set has no column {name!r} for the reward.",
            remedy=f"Name the one with the {what}s: as_trl_reward({what}=...). "
            f"It has: {', '.join(sorted(columns))}.",
        )
    return columns[name]


def _rows(columns: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """The rows of a batch: of what TRL hands over, the lists with a value for each."""
    lists = {name: v for name, v in columns.items() if isinstance(v, list) and len(v) == count}
    return [{name: values[i] for name, values in lists.items()} for i in range(count)]


def _text(completion: Any) -> str:
    """The text of a completion: a string, or a conversation of which the last message counts."""
    if isinstance(completion, str):
        return completion
    return str(completion[-1]["content"]) if completion else ""
