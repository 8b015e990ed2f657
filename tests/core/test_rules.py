from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta, Struct

from gristmill.core.rules import told


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Inner(Struct):
    kind: Literal["a", "b"] = "a"
    name: Annotated[str, Meta(pattern="^x", description="a text that begins with x")] = "x"
    bare: Annotated[str, Meta(pattern="^x")] = "x"


class Outer(Struct):
    one: Inner
    many: tuple[Inner, ...] = ()
    by_name: dict[str, Inner | None] = {}
    colour: Colour = Colour.RED


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        ({"one": {"kind": "c"}}, "one.kind: it must be one of 'a', 'b'"),
        ({"one": {}, "many": [{}, {"kind": "c"}]}, "many[1].kind: it must be one of 'a', 'b'"),
        ({"one": {}, "by_name": {"x": {"kind": "c"}}}, "by_name[...].kind: it must be one of 'a', 'b'"),
        ({"one": {}, "colour": "green"}, "colour: it must be one of 'red', 'blue'"),
        ({"one": {"name": "y"}}, "one.name: it must be a text that begins with x"),
        ({"one": {"bare": "y"}}, "one.bare: it does not have the form that it must have"),
        ({"one": {"kind": 1}}, "one.kind: expected `str`, got `int`"),
        ({}, "the key 'one' is missing"),
    ],
)
def test_rules_are_told_in_words(data: Any, rule: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(data, Outer)
    assert told(caught.value, Outer) == rule
