"""``neutral_ties``: two answers under a prompt that neither of them answers, which are equally good there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta, Struct

from gristmill.core.engine import Message
from gristmill.core.records import Pair
from gristmill.core.schema import schema
from gristmill.core.stages import REJECTED_REASON, Relation
from gristmill.filters.order import seeded_order
from gristmill.filters.tables import with_rejected
from gristmill.synth.preferences.better import likeness
from gristmill.synth.preferences.sides import with_keys

if TYPE_CHECKING:
    import polars as pl

_TRIES = 8
"""Prompts that are looked at for one that is unlike enough."""


class Tie(Struct, frozen=True):
    """Two answers of which neither is better. It has no chosen side, so that nothing that reads pairs takes
    it for one. ``meta`` is the pair's, with the id of the pair and of the problem whose prompt it is."""

    id: str
    problem_id: str
    kind: str
    prompt: tuple[Message, ...]
    first: tuple[Message, ...]
    second: tuple[Message, ...]
    weight: float = 1.0
    meta: str = "{}"


class NeutralTies(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Crome's neutral augmentations (arXiv 2506.16507): both sides of each pair against the prompt of another
    problem, where a reward model should have no preference.

    The loss of a tie with the difference D of the rewards is the mean of -log sigmoid(D) and
    -log sigmoid(-D), least at D = 0, where it is log 2. A tie is a record of its own and
    never a pair: the export ``ties`` writes them to a file apart.

    The other problem is the next one in a seeded order whose prompt is less alike than ``most``; a pair is
    rejected where the next eight are all too much alike, or its table has no other problem.
    """

    reads: ClassVar[type[Struct]] = Pair
    writes: ClassVar[type[Struct]] = Tie

    most: Annotated[float, Meta(ge=0, le=1)] = 0.6
    """The greatest likeness of the two prompts, 0 to 1 (rapidfuzz's ratio)."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The ties in the pairs' order, then what gives none."""
        import polars as pl

        pairs = frames[0].collect()
        firsts = pairs.unique("problem_id", keep="first", maintain_order=True)
        order = seeded_order(seed, firsts["problem_id"].to_list())
        ids = [firsts["problem_id"][i] for i in order]
        prompts = [firsts["prompt"][i].to_list() for i in order]
        asked = [_asked(prompt) for prompt in prompts]
        place = {id: at for at, id in enumerate(ids)}
        own_text = [_asked(prompt) for prompt in pairs["prompt"].to_list()]
        others = [
            self._other(place[id], text, asked)
            for id, text in zip(pairs["problem_id"].to_list(), own_text, strict=True)
        ]
        made = pairs.with_columns(pl.Series("other", others, pl.Int64))
        kept = made.filter(pl.col("other").is_not_null())
        rows = kept["other"].to_list()
        at = pl.Series("neutral_problem_id", [ids[i] for i in rows], pl.String)
        keys = pl.struct(pl.col("id").alias("pair_id"), at)
        ties = kept.with_columns(
            pl.Series("prompt", [prompts[i] for i in rows], schema(Tie)["prompt"]),
            meta=with_keys(pl.col("meta"), keys),
        ).select(
            pl.format("{}/neutral", "id").alias("id"),
            "problem_id",
            pl.lit("neutral").alias("kind"),
            "prompt",
            pl.col("chosen").alias("first"),
            pl.col("rejected").alias("second"),
            "weight",
            "meta",
        )
        reason = pl.lit("neutral: no prompt that is unlike enough").alias(REJECTED_REASON)
        lost = made.filter(pl.col("other").is_null()).select("id", reason)
        return with_rejected(ties.lazy(), lost.lazy())

    def _other(self, place: int, own: str, asked: Sequence[str]) -> int | None:
        """The place of a prompt that is unlike enough, looked for from the one behind ``place`` on."""
        for step in range(1, min(len(asked), _TRIES + 1)):
            at = (place + step) % len(asked)
            if likeness(own, asked[at]) < self.most:
                return at
        return None

    def rows_max(self, rows: Sequence[int]) -> int:
        """One of every pair."""
        return rows[0]


def _asked(prompt: Sequence[dict[str, str]]) -> str:
    """The last user turn of a prompt."""
    return next((turn["content"] for turn in reversed(prompt) if turn["role"] == "user"), "")
