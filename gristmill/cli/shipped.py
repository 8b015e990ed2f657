"""The recipes and loops that come with Gristmill: found by name, listed, and copied to be edited."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from gristmill.core.errors import RecipeError
from gristmill.core.registry import suggest

DATA = Path(__file__).parents[1] / "data"
RECIPES = DATA / "recipes"
LOOPS = DATA / "loops"
METHODS = DATA / "methods"
_SUFFIXES = (".yaml", ".yml", ".json")


class ShippedRecipe(Struct, frozen=True):
    """A recipe (or loop) of the package: its name for ``gristmill run`` (or ``loop``), its first
    comment line, and its file."""

    name: str
    summary: str
    path: Path


def shipped(folder: Path = RECIPES) -> list[ShippedRecipe]:
    """All recipes (or the loops) of the package, by name."""
    found = []
    for path in sorted(folder.glob("*.yaml")):
        with path.open(encoding="utf-8") as file:
            found.append(ShippedRecipe(path.stem, file.readline().lstrip("# ").rstrip(), path))
    return found


def find(recipe: str, folder: Path = RECIPES) -> Path:
    """The file of a recipe that is given as a path or as the name of a shipped one; a file comes first.

    Raises ``RecipeError`` for a word that is neither. A path that leads nowhere is returned as it is:
    who reads it says so.
    """
    path = Path(recipe)
    if path.is_file() or path.suffix in _SUFFIXES or path.name != recipe:
        return path
    return _named(recipe, folder).path


def shown(path: Path) -> str:
    """The shortest text from which ``find`` gives ``path``: the name of a shipped recipe, else the path."""
    return path.stem if path.parent in (RECIPES, METHODS) and not Path(path.stem).is_file() else str(path)


def copy(name: str, folder: Path, shipped_in: Path = RECIPES) -> list[Path]:
    """Copy a shipped recipe or loop into ``folder``, with the data that it reads; gives the files written.

    In the copy the data stand beside the recipe. Raises ``RecipeError`` for an unknown name, and for a file
    that is there already with other content.
    """
    recipe = _named(name, shipped_in)
    text = recipe.path.read_text(encoding="utf-8")
    copies = {}
    for data in sorted(DATA.glob("*.jsonl")):
        if f"../{data.name}" in text:
            text = text.replace(f"../{data.name}", data.name)
            copies[folder / data.name] = data.read_bytes()
    copies = {folder / recipe.path.name: text.encode(), **copies}
    for path, content in copies.items():
        if path.exists() and path.read_bytes() != content:
            raise RecipeError(
                f"{path} is there already, and differs from the one to write.",
                remedy="Rename or remove it, or choose another directory with --out.",
            )
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in copies.items():
        path.write_bytes(content)
    return list(copies)


def _named(name: str, folder: Path) -> ShippedRecipe:
    folders = (METHODS, RECIPES) if folder == RECIPES else (folder,)
    known = {recipe.name: recipe for place in folders for recipe in shipped(place)}
    if name not in known:
        raise RecipeError(
            f"{name!r} is neither a file nor a {folder.name.removesuffix('s')} that comes with Gristmill.",
            remedy=f"{suggest(name, known)} A file of your own is named with its ending: {name}.yaml.",
        )
    return known[name]
