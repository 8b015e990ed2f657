"""Texts that mean the same, by embeddings: the work of ``semhash``, which is optional."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gristmill.core.errors import RecipeError

if TYPE_CHECKING:
    import polars as pl


def same_meaning(rows: pl.DataFrame, threshold: float, model: str) -> dict[int, tuple[int, float]]:
    """The positions of ``rows`` whose ``text`` means what one before with the same ``key`` says, with that
    one and the cosine similarity, at least ``threshold``.

    ``model`` is the folder or Hub name of a model2vec model. ``RecipeError`` where semhash is not installed
    or there is no such model.
    """
    embed = encoder(model, "dedupe")
    from semhash import SemHash

    gone: dict[int, tuple[int, float]] = {}
    for part in rows.with_row_index("at").partition_by("key", maintain_order=True):
        records = [{"text": text, "at": str(at)} for at, text in part.select("at", "text").rows()]
        if len(records) < 2:
            continue
        result = SemHash.from_records(records, columns=["text"], model=embed).self_deduplicate(threshold)
        for found in result.filtered:
            gone[int(found.record["at"])] = (int(found.duplicate_of["at"]), float(found.score))
    return gone


def encoder(model: str, where: str) -> Any:
    """The embedding model of that folder or Hub name; raises as ``same_meaning`` does."""
    try:
        from model2vec import StaticModel
    except ModuleNotFoundError as error:
        raise RecipeError(
            f"{where}: 'semantic' needs the package semhash, which is not installed.",
            remedy="Install it: pip install 'gristmill[semantic]'.",
        ) from error
    try:
        return StaticModel.from_pretrained(model)
    except (OSError, ValueError) as error:  # not found, or not such a model
        raise RecipeError(
            f"{where}: model: {model!r} is not an embedding model that model2vec can load: {error}",
            remedy="Give the folder of one, or the name of one on the Hub, such as minishlab/potion-base-8M.",
        ) from error
