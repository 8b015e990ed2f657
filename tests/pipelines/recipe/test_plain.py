"""YAML as plain data: what is refused, and by which loader it is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from paths import ROOT

from gristmill.core.errors import RecipeError
from gristmill.pipelines.recipe import plain
from gristmill.pipelines.recipe.recipe import load

SHIPPED = ROOT / "gristmill" / "data"
BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{c}: &{c} [{','.join([f'*{chr(ord(c) - 1)}'] * 9)}]\n" for c in "bcdefgh"
)
FILES = [
    (b"", "is empty"),
    (b"- 1\n", "holds no mapping"),
    (b"name: a\nname: b\n", "line 2: the key 'name' occurs twice"),
    (b"stages:\n- {stage: a, as: b, stage: c}\n", "line 2: the key 'stage' occurs twice"),
    (b"name: [1\nsource: x\n", "line 2: "),
    (b"name: caf\xe9\n", "byte 10 is not UTF-8"),
    (b"name: a\x00b\n", "unacceptable character|special characters"),
    (b"name: 2024-13-45\n", "month must be in 1..12"),
    (b"name: !!python/object/apply:os.getcwd []\n", "line 1: could not determine a constructor"),
    (b"a: &a [*a]\n", "line 1: a value holds itself"),
    (BOMB.encode(), "aliases stand for more than 100,000 values"),
    (b"[" * 100_000, "nested too deeply"),
    (b"#" * (1 << 20) + b"#", "more than 1,048,576 bytes"),
]


@pytest.mark.parametrize(("content", "message"), FILES)
def test_files_that_are_no_recipe_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(content)
    with pytest.raises(RecipeError, match=message) as caught:
        load(tmp_path / "r.yaml")
    assert str(tmp_path / "r.yaml") in caught.value.message and caught.value.remedy


def test_the_loader_in_c_reads_the_same() -> None:
    if not yaml.__with_libyaml__:
        pytest.skip("this PyYAML has no loader in C")
    for path in sorted([*SHIPPED.glob("recipes/*.yaml"), *SHIPPED.glob("loops/*.yaml")]):
        text = path.read_text(encoding="utf-8")
        assert plain._deepest(text) <= plain._DEEP, path
        both = [plain._read(kind, text, str(path)) for kind in (yaml.CSafeLoader, yaml.SafeLoader)]
        assert both[0] == both[1], path


@pytest.mark.parametrize("line_break", ["\n", "\r", "\r\n", "\x85", "\u2028"])
@pytest.mark.parametrize("level", ["a:", "-", "?"])
def test_the_loader_in_c_sees_no_deep_text(
    level: str, line_break: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has overrun the stack on such."""

    def refused(text: str) -> None:
        raise AssertionError("a deep text came to the loader in C")

    monkeypatch.setattr(yaml, "CSafeLoader", refused, raising=False)
    text = line_break.join(" " * depth + level for depth in range(600))
    with pytest.raises(RecipeError, match="nested too deeply"):
        plain._yaml(text, "r.yaml")
