"""The record boundary: what a row stage returned for one record, and ids that it gives twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import msgspec
from msgspec import Struct

from gristmill.core.contracts.naming import place_of, shown
from gristmill.core.errors import ContractError
from gristmill.core.seen import Seen
from gristmill.core.stages import Rejection, RowStage


def checked(
    name: str, stage: RowStage, record: Any, results: Any, expected: type[Struct] | tuple[type[Struct], ...]
) -> tuple[Sequence[Any], Sequence[Rejection]]:
    """What a row stage made of ``record``: the records to keep, and the rejections.

    ``expected`` is the type (or the types) that it may return. Raises ``ContractError``, which names the
    stage, the member and the remedy, for results that are not a list of such records and ``Rejection``.
    """
    if not isinstance(results, (list, tuple)):
        raise _broken(
            name,
            stage,
            f"returned {shown(results)} for the record {record.id!r}",
            "Return a list of records; [] where it makes none.",
        )
    kinds = expected if isinstance(expected, tuple) else (expected,)
    rejected: list[Rejection] = []
    for result in results:
        kind = type(result)
        if kind in kinds:
            fault = _fault(result)
            if fault:
                raise _broken(
                    name,
                    stage,
                    f"returned a {kind.__name__} for the record {record.id!r} that {fault}",
                    f"Give every field of {kind.__name__} its type; make 'id' from the record's id.",
                )
        elif kind is Rejection:
            if not isinstance(result.reason, str) or not result.reason:
                raise _broken(
                    name,
                    stage,
                    f"returned a Rejection with the reason {result.reason!r}",
                    "Give a short fixed phrase: rejections are counted by it.",
                )
            rejected.append(result)
        else:
            wanted = " or ".join(k.__name__ for k in kinds)
            raise _broken(
                name,
                stage,
                f"returned {shown(result)} for the record {record.id!r}, where 'writes' says {wanted}",
                f"Return {wanted} records, or change 'writes'.",
            )
    if not rejected:
        return results, ()
    return [r for r in results if type(r) is not Rejection], rejected


_encode = msgspec.msgpack.Encoder().encode


@cache
def _decode(kind: Any) -> Callable[[bytes], Any]:
    return msgspec.msgpack.Decoder(kind).decode


def _fault(result: Any) -> str:
    """What is wrong with a record's fields; empty where nothing is.

    A Struct takes any values when it is made. Only decoding checks them, which costs 2 microseconds for a
    sample of some 1,000 characters.
    """
    if not result.id:
        return f"has the id {result.id!r}"
    kind: Any = type(result)
    try:
        _decode(kind)(_encode(result))
    except (msgspec.ValidationError, TypeError, OverflowError, UnicodeEncodeError) as error:
        return f"cannot be written: {error}"
    return ""


def _broken(name: str, stage: Any, what: str, remedy: str) -> ContractError:
    return ContractError(f"stage {name!r} ({place_of(stage)}): '__call__' {what}.", remedy=remedy)


_BITS = (1 << 64) - 1


class Ids:
    """The ids that a stage has put out, to find those that it gives twice.

    Each is held as a 64-bit hash in at most 22 bytes. Two ids of a million share one by chance with
    probability 3e-8 (n^2 / 2^65, the birthday bound).
    """

    REPEATED = "repeated id"
    """The reason under which a second record of the same id is rejected."""

    def __init__(self) -> None:
        self._seen = Seen()

    def fresh(self, kept: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Rejection]]:
        """The records of ``kept`` whose id is new, and a ``Rejection`` for each of the others."""
        repeated = [i for i, record in enumerate(kept) if not self._seen.add(_hash(record.id))]
        if not repeated:
            return kept, ()
        detail = "Another record of this stage has this id. Make ids from the input's id and an index."
        gone = set(repeated)
        fresh = [record for i, record in enumerate(kept) if i not in gone]
        return fresh, [Rejection(kept[i].id, self.REPEATED, detail) for i in repeated]


def _hash(text: str) -> int:
    """Python's own hash of text (SipHash, 64 bits), faster by far than a cryptographic one. It differs from
    process to process, and stays in this one."""
    return hash(text) & _BITS
