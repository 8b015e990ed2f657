"""Tensors of safetensors files, read and written in pieces as 32-bit numbers.

Not by the library ``safetensors``: it writes a file from a whole shard in memory and gives NumPy no bfloat16.
The format is a length, a JSON header and the numbers one after another (safetensors 0.x), so that a merged
file can have the header of the file that it takes the place of, byte for byte.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from gristmill.core.errors import InputError

PIECE = 1 << 18
"""Numbers that are in memory at a time: few enough to stay in a processor's cache."""
SIZES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
"""Bytes of a number of each type that is read."""
FLOATING = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""Types that can be averaged, as NumPy reads them; bfloat16 is the upper half of a 32-bit number."""
_LENGTH = 8
_LONGEST = 100_000_000
_REMEDY = "Save the model again with save_pretrained, unquantised."


class Stored(NamedTuple):
    """Where a tensor is: its file, type, shape, first byte in the file, and number of bytes."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    size: int

    @property
    def length(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


class _Entry(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def header(file: Path) -> tuple[bytes, dict[str, Stored]]:
    """The first bytes of a file, up to its numbers, and its tensors in the order of the numbers.

    Raises ``InputError`` for a file that cannot be read, or whose header promises what it does not hold.
    """
    try:
        whole = file.stat().st_size
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(_LENGTH), "little")
            if not 0 < length <= min(_LONGEST, whole - _LENGTH):
                raise InputError("it is not a safetensors file.", path=str(file), remedy=_REMEDY)
            text = opened.read(length)
        raw = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        raw.pop("__metadata__", None)
        entries = {name: msgspec.json.decode(entry, type=_Entry) for name, entry in raw.items()}
    except OSError as error:
        raise InputError(f"it cannot be read ({error.strerror}).", path=str(file), remedy=_REMEDY) from error
    except msgspec.DecodeError as error:
        raise InputError(f"its header cannot be read: {error}.", path=str(file), remedy=_REMEDY) from error
    found = {}
    end = start = _LENGTH + length
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        begin, size = start + entry.data_offsets[0], entry.data_offsets[1] - entry.data_offsets[0]
        if entry.dtype not in SIZES:
            raise InputError(
                f"{name} is stored as {entry.dtype}, which cannot be averaged.",
                path=str(file),
                remedy=_REMEDY,
            )
        if min(entry.shape, default=0) < 0 or size != math.prod(entry.shape) * SIZES[entry.dtype]:
            raise InputError(
                f"{name} has {size:,} bytes, which is not {entry.dtype} of the shape {entry.shape}.",
                path=str(file),
                remedy=_REMEDY,
            )
        if begin != end:
            raise InputError(f"{name} does not begin where the tensor before it ends.", path=str(file))
        end = begin + size
        found[name] = Stored(file, entry.dtype, tuple(entry.shape), begin, size)
    if end != whole:
        raise InputError(
            f"it has {whole:,} bytes and its header promises {end:,}.",
            path=str(file),
            remedy="Copy it again: it seems to be cut off.",
        )
    return length.to_bytes(_LENGTH, "little") + text, found


def numbers(stored: Stored, begin: int = 0, count: int | None = None) -> Any:
    """``count`` numbers of a tensor from ``begin`` on (by default all), as a flat array.

    16-bit types are widened to 32 bits, exactly; 64-bit numbers stay as they are.
    """
    import numpy as np

    count = stored.length - begin if count is None else count
    at = stored.begin + begin * SIZES[stored.dtype]
    read = np.fromfile(stored.file, dtype=FLOATING[stored.dtype], count=count, offset=at)
    if stored.dtype == "BF16":
        widened = read.astype(np.uint32)
        widened <<= 16
        return widened.view(np.float32)
    return read.astype(np.float32) if stored.dtype == "F16" else read


def stored_as(values: Any, dtype: str) -> Any:
    """An array in the type that a file stores, rounded to the nearest number, halves to the even."""
    import numpy as np

    if dtype != "BF16":
        return values.astype(FLOATING[dtype], copy=False)
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)
    # Rounding up the bits of "not a number" could make a number of it.
    return np.where(np.isnan(values), ((bits >> 16) | 0x40).astype(np.uint16), rounded)


def averaged(tensors: list[Stored], shares: list[float]) -> Iterator[Any]:
    """The weighted sum of tensors of one shape, in pieces, in the type of the first.

    Summed as 32-bit numbers (64-bit ones where the first is stored so), in the order of the tensors. A share
    of 0 takes nothing from its tensor, not even a "not a number".
    """
    import numpy as np

    like = tensors[0]
    kind = np.float64 if like.dtype == "F64" else np.float32
    taken = [(tensor, kind(share)) for tensor, share in zip(tensors, shares, strict=True) if share]
    for begin in range(0, like.length, PIECE):
        count = min(PIECE, like.length - begin)
        total: Any = None
        for tensor, share in taken:
            values = numbers(tensor, begin, count).astype(kind, copy=False)
            if share != 1:
                values *= share
            if total is None:
                total = values
            else:
                total += values
        yield stored_as(np.zeros(count, dtype=kind) if total is None else total, like.dtype)


def same(first: Stored, second: Stored) -> bool:
    """Whether two tensors have the same type, shape and bytes."""
    import numpy as np

    if (first.dtype, first.shape) != (second.dtype, second.shape):
        return False
    step = PIECE
    return all(
        np.array_equal(
            np.fromfile(first.file, np.uint8, min(step, first.size - at), offset=first.begin + at),
            np.fromfile(second.file, np.uint8, min(step, first.size - at), offset=second.begin + at),
        )
        for at in range(0, first.size, step)
    )
