"""datatrove's filters and deduplication as a stage, and a filter of ours as a block of its pipelines."""

from __future__ import annotations

import inspect
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from msgspec import field

from gristmill.core.errors import MissingExtraError, RecipeError
from gristmill.core.records import Passage
from gristmill.core.registry import suggest
from gristmill.core.schema import to_frame
from gristmill.core.stages import REJECTED_DETAIL, REJECTED_REASON, Filter
from gristmill.filters.tables import CONVERSATION, compared

if TYPE_CHECKING:
    import polars as pl

DedupName = Literal["exact", "minhash", "sentence", "bloom"]


class Datatrove(Filter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Reject what a filter of datatrove drops, or one of its ways to find duplicates.

    Rows stay as they are: a filter that also changes texts, as C4's does, only decides here. It sees the
    row's ``meta`` as the document's metadata. Needs
    ``pip install datatrove``, and for filters that count words what datatrove asks for besides (spacy).
    """

    marks_only: ClassVar[bool] = True

    filter: str | None = None
    """The name of a class in ``datatrove.pipeline.filters``, such as ``GopherRepetitionFilter``."""
    dedup: DedupName | None = None
    """In place of a filter: ``exact``, ``minhash``, ``sentence`` (which rejects what is too short without the
    sentences that other rows have) or ``bloom``. Its signatures are in a temporary folder."""
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of the filter's class; with ``dedup`` those of its ``...Config``, and ``language``."""
    text: str = CONVERSATION
    """What is looked at: ``problem``, ``completion``, ``conversation`` or any column of text. Rows where it
    is null are kept."""

    def __post_init__(self) -> None:
        if (self.filter is None) == (self.dedup is None):
            raise RecipeError(
                "datatrove: give either 'filter' or 'dedup'.",
                remedy="For example filter: GopherRepetitionFilter, or dedup: minhash.",
            )

    def __call__(self, frame: pl.LazyFrame, seed: int) -> pl.LazyFrame:
        """All rows, with the filter as the reason and what it says as the detail for each that it drops."""
        import polars as pl

        text = compared(frame.collect_schema(), self.text, "datatrove")
        meta = pl.col("meta") if frame.collect_schema().get("meta") == pl.String else pl.lit("{}")
        rows = frame.select(text=text, meta=meta).collect().with_row_index("at").drop_nulls("text")
        with _quiet():
            from datatrove.data import Document

            documents = [
                Document(text=said, id=str(at), metadata=json.loads(meta or "{}"))
                for at, said, meta in rows.iter_rows()
            ]
            dropped = self._dropped(documents, seed)
        name = self.filter or f"{self.dedup} duplicate"
        height = frame.select(pl.len()).collect().item()
        reasons = [f"datatrove: {name}" if at in dropped else None for at in range(height)]
        details = [dropped.get(at) for at in range(height)]
        columns = {REJECTED_REASON: reasons, REJECTED_DETAIL: details}
        said = pl.LazyFrame({key: pl.Series(v, dtype=pl.String) for key, v in columns.items()})
        return pl.concat([frame, said], how="horizontal")

    def _dropped(self, documents: list[Any], seed: int) -> dict[int, str]:
        """The places of the rows to reject, with what datatrove says of each."""
        if self.filter is not None:
            block = self._built(_filter_class(self.filter), self.options, seed)
            said = self._run(lambda: block.filter_batch(documents))
            dropped = {}
            for document, answer in zip(documents, said, strict=True):
                keeps, why = answer if isinstance(answer, tuple) else (answer, "")
                if not keeps:
                    dropped[int(document.id)] = str(why or "")
            return dropped
        assert self.dedup is not None
        way = self.dedup
        with tempfile.TemporaryDirectory(prefix="gristmill-") as folder:
            *first, last = self._run(lambda: _DEDUPS[way](self, folder, seed))
            if not documents:
                return {}
            for block, given, ranks in first:
                for rank in range(ranks):
                    data = iter(documents) if given else None
                    self._run(partial(_through, block, data, rank, ranks))
            kept = {document.id for document in self._run(partial(_through, last[0], iter(documents), 0, 1))}
        return {int(document.id): "" for document in documents if document.id not in kept}

    def _built(self, block: Callable[..., Any], options: dict[str, Any], seed: int) -> Any:
        """A block with these options; its ``seed`` is the run's where it takes one and none is given."""
        takes = inspect.signature(block).parameters
        if "seed" in takes and "seed" not in options:
            options = {**options, "seed": seed}
        try:
            return block(**options)
        except ImportError as error:
            raise self._missing(error) from error
        except OSError as error:
            raise self._not_reached(error) from error
        except (TypeError, ValueError, AssertionError) as error:
            raise RecipeError(
                f"datatrove: {getattr(block, '__name__', block)} refuses its options: {error}.",
                remedy=f"Its options are: {', '.join(takes)}.",
            ) from error

    def _run(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except ImportError as error:
            raise self._missing(error) from error
        except OSError as error:
            raise self._not_reached(error) from error
        except (ValueError, AssertionError) as error:
            said = " ".join(str(error).split()) or type(error).__name__
            raise RecipeError(
                f"datatrove: {self.filter or self.dedup} cannot work with these rows and options: {said}.",
                remedy="A language has three letters, such as eng; URLFilter reads 'url' in a row's meta.",
            ) from error

    def _not_reached(self, error: OSError) -> RecipeError:
        return RecipeError(
            f"datatrove: {self.filter or self.dedup} cannot read or fetch a file that it needs: {error}.",
            remedy="Word lists and models are fetched once and kept in the cache of huggingface_hub: run it "
            "where there is a network, or give the path of a file where an address is asked for.",
        )

    def _missing(self, error: ImportError) -> RecipeError:
        said = " ".join(str(error).split())
        return RecipeError(
            f"datatrove: {self.filter or self.dedup} needs a package that is not installed: {said}",
            remedy="Install what it names, or use another filter.",
        )

    def config(self, name: str, kind: Callable[..., Any], seed: int, **given: Any) -> Any:
        """The ``...Config`` of a way to find duplicates."""
        options = {key: value for key, value in self.options.items() if key != "language"}
        return self._built(kind, {**given, **options}, seed)

    @property
    def language(self) -> dict[str, Any]:
        """The language, where one is given."""
        return {key: value for key, value in self.options.items() if key == "language"}


def _through(block: Any, documents: Iterator[Any] | None, rank: int, ranks: int) -> list[Any]:
    """What a block puts out."""
    return list(block.run(documents, rank, ranks) or ())


def _hashes(precision: int) -> Any:
    """SHA-1: datatrove's own choice, xxhash, is given texts, which xxhash 4 refuses."""
    from datatrove.utils.hashing import HashConfig

    return HashConfig(precision=precision, hash_fc="sha1")


Block = tuple[Any, bool, int]
"""A block, whether it is given the documents, and in how many ranks it runs."""


def _exact(stage: Datatrove, folder: str, seed: int) -> list[Block]:
    from datatrove.pipeline.dedup import (
        ExactDedupConfig,
        ExactDedupFilter,
        ExactDedupSignature,
        ExactFindDedups,
    )

    config = stage.config(
        "exact", ExactDedupConfig, seed, content_getter=lambda document: document.text.encode()
    )
    signatures, found = f"{folder}/signatures", f"{folder}/found"
    return [
        (ExactDedupSignature(signatures, config), True, 1),
        (ExactFindDedups(signatures, found, config), False, 1),
        (ExactDedupFilter(found, config), True, 1),
    ]


def _minhash(stage: Datatrove, folder: str, seed: int) -> list[Block]:
    from datatrove.pipeline.dedup import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )

    config = stage.config("minhash", MinhashConfig, seed, hash_config=_hashes(64))
    signatures, buckets, removed = (f"{folder}/{name}" for name in ("signatures", "buckets", "removed"))
    return [
        (MinhashDedupSignature(signatures, config, **stage.language), True, 1),
        (MinhashDedupBuckets(signatures, buckets, config=config), False, config.num_buckets),
        (MinhashDedupCluster(buckets, removed, config), False, 1),
        (MinhashDedupFilter(removed), True, 1),
    ]


def _sentence(stage: Datatrove, folder: str, seed: int) -> list[Block]:
    from datatrove.pipeline.dedup import (
        SentDedupConfig,
        SentenceDedupFilter,
        SentenceDedupSignature,
        SentenceFindDedups,
    )

    config = stage.config("sentence", SentDedupConfig, seed, hash_config=_hashes(64))
    signatures, found = f"{folder}/signatures", f"{folder}/found"
    return [
        (SentenceDedupSignature(signatures, config=config, **stage.language), True, 1),
        (SentenceFindDedups(signatures, found, config=config), False, 1),
        (SentenceDedupFilter(found, config, **stage.language), True, 1),
    ]


def _bloom(stage: Datatrove, folder: str, seed: int) -> list[Block]:
    from datatrove.pipeline.dedup import SingleBloomFilter
    from datatrove.pipeline.dedup.bloom_filter import BloomFilterConfig

    # It takes places by "hash & m_bytes": of a power of two only two places would ever be used, and all texts
    # be duplicates. Its own choice of k is eight times too large, since it multiplies by 8 twice.
    size = (1 << 24) - 1
    config = stage.config("bloom", BloomFilterConfig, seed, m_bytes=size, k=7, hash_config=_hashes(32))
    if config.m_bytes & (config.m_bytes + 1):
        raise RecipeError(
            f"datatrove: m_bytes is {config.m_bytes}, of which its Bloom filter would use a few places only.",
            remedy="Give a power of two less one, such as 16777215 or 134217727.",
        )
    return [(SingleBloomFilter(folder, config, **stage.language), True, 1)]


_DEDUPS: dict[DedupName, Callable[[Datatrove, str, int], list[Block]]] = {
    "exact": _exact,
    "minhash": _minhash,
    "sentence": _sentence,
    "bloom": _bloom,
}


def _filter_class(name: str) -> Callable[..., Any]:
    from datatrove.pipeline import filters

    known = {key: found for key in dir(filters) if isinstance(found := getattr(filters, key), type)}
    if name not in known:
        raise RecipeError(
            f"datatrove: {name!r} is not a filter of datatrove.",
            remedy=suggest(name, known),
        )
    chosen: Callable[..., Any] = known[name]
    return chosen


@contextmanager
def _quiet() -> Iterator[None]:
    """datatrove without its messages. ``MissingExtraError`` where it is not installed."""
    try:
        import datatrove.data  # noqa: F401 - whether it is there
        from loguru import logger
    except ImportError:
        raise MissingExtraError("datatrove", install="pip install 'gristmill[distributed]'") from None
    logger.disable("datatrove")
    try:
        yield
    finally:
        logger.enable("datatrove")


def datatrove_filter(stage: Filter, *, seed: int = 0, batch_size: int | None = None) -> Any:
    """A filter of ours as a block (a ``BaseFilter``) of a datatrove pipeline.

    Documents are rows with ``id``, ``text`` and ``meta`` (their metadata, as in ``meta.source``); dropped
    ones have the reason in ``filter_reason``. The stage is given all documents of a rank at once, since what
    it does with one may depend on the others; ``batch_size`` documents at a time do for stages that judge
    each row by itself, such as ``quality``. ``MissingExtraError`` without datatrove.
    """
    with _quiet():
        from datatrove.pipeline.filters.base_filter import BaseFilter

    class GristmillFilter(BaseFilter):  # type: ignore[misc]
        """A Gristmill filter."""

        name = f"Gristmill {type(stage).__name__}"

        def filter(self, doc: Any) -> Any:
            return self.filter_batch([doc])[0]

        def filter_batch(self, batch: list[Any]) -> list[Any]:
            return _judged(stage, batch, seed)

        def run(self, data: Iterable[Any], rank: int = 0, world_size: int = 1) -> Any:
            if batch_size is None:
                data = list(data)
                self.batch_size = max(len(data), 1)
            return super().run(data, rank, world_size)

    return GristmillFilter(batch_size=batch_size or 1)


def _judged(stage: Filter, documents: Sequence[Any], seed: int) -> list[Any]:
    """Of each document ``True``, or ``False`` with the reason."""
    rows = [
        Passage(str(at), document.text, meta=json.dumps(document.metadata, default=str))
        for at, document in enumerate(documents)
    ]
    made = stage(to_frame(rows, Passage).lazy(), seed).collect()
    return [True if reason is None else (False, reason) for reason in made[REJECTED_REASON].to_list()]
