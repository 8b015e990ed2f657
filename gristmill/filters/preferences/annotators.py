"""``annotators``: pairs that say whose preference they are, with groups of annotators of one taste.

After PAL (arXiv 2406.08469), of which the abstract was read: annotators are not one voice with noise. A pair
is given once for each annotator who voted, the minority's too, with a column that names the annotator, and
one for the group. In the paper a person is a mixture of learned prototypes; here each belongs to one of
``groups`` prototypes, which are votes themselves: those of the group's majority.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from gristmill.core.errors import GristmillError
from gristmill.core.records import Pair
from gristmill.core.stages import REJECTED_REASON, Relation
from gristmill.filters.preferences.scores import curated, read_scores
from gristmill.filters.tables import with_rejected

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from gristmill.filters.preferences.scores import Numbers

    Groups = NDArray[np.int64]

_ROUNDS = 50


class Annotators(Relation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Make of each pair one for each annotator, or each group of them, with the side that they prefer as
    chosen.

    A vote is a score of the pair: above 0.5 for the chosen side, below for the rejected one, 0.5 for neither.
    Rows get the columns ``annotator`` (null with ``label: group``) and ``group`` (from 0), and ids with the
    name of the annotator or the number of the group behind ``/``. A pair without a vote is rejected, as is
    one for which no group has a majority.
    """

    reads: ClassVar[type[Struct]] = Pair

    prefix: Annotated[str, Meta(min_length=1)] = "annotator_"
    """With what the names of the scores begin that are votes; the rest of the name is the annotator's."""
    groups: Annotated[int, Meta(ge=1, le=100)] = 1
    """The number of groups of annotators, by the likeness of their votes."""
    label: Literal["own", "group"] = "own"
    """``own``: a row for each vote. ``group``: a row for each group, with what most of its votes say."""

    def __call__(self, frames: Sequence[pl.LazyFrame], seed: int) -> pl.LazyFrame:
        """The rows, then the pairs that are rejected."""
        import numpy as np
        import polars as pl

        votes, names = self._votes(frames[0])
        groups = prototypes(votes, self.groups)
        if self.label == "group":
            votes = np.stack([np.sign(_sums(votes, groups == g)) for g in range(self.groups)], axis=1)
            who, of_group = [f"group {g}" for g in range(self.groups)], np.arange(self.groups)
        else:
            who, of_group = names, groups
        rows, columns = np.nonzero(votes)
        table = frames[0].collect()
        made = table[rows].lazy()
        named = pl.Series(who, dtype=pl.String).gather(columns)
        made = curated(
            made,
            turned=votes[rows, columns] < 0,
            columns={
                "id": table["id"].gather(rows) + "/" + named,
                "annotator": named
                if self.label == "own"
                else pl.Series([None] * len(named), dtype=pl.String),
                "group": pl.Series(of_group[columns], dtype=pl.Int64),
            },
        ).drop(REJECTED_REASON)
        lost = table.lazy().filter(pl.Series(~(votes != 0).any(axis=1), dtype=pl.Boolean))
        reason = pl.lit(f"annotators: no {'vote' if self.label == 'own' else 'majority'}").alias(
            REJECTED_REASON
        )
        return with_rejected(made, lost.with_columns(reason))

    def _votes(self, frame: pl.LazyFrame) -> tuple[Numbers, list[str]]:
        """Votes as 1, -1 or 0 for none (pairs by annotators), and the annotators' names."""
        import numpy as np

        found = read_scores(frame, [], "annotators")
        scores = sorted(name for name in found.seen if name.startswith(self.prefix))
        if not scores:
            if found.height:
                raise GristmillError(
                    f"annotators: no score has a name that begins with {self.prefix!r} (there are: "
                    f"{', '.join(sorted(found.seen)) or 'none'}).",
                    remedy="Set 'prefix' to that of the votes.",
                )
            return np.zeros((0, 0)), []
        found = read_scores(frame, scores, "annotators")
        votes = np.sign(np.stack([found.values[name] for name in scores], axis=1) - 0.5)
        return np.nan_to_num(votes), [name.removeprefix(self.prefix) for name in scores]

    def rows_max(self, rows: Sequence[int]) -> int | None:
        """As many as there are groups; of annotators, nobody knows before."""
        return rows[0] * self.groups if self.label == "group" else None


def prototypes(votes: Numbers, groups: int) -> Groups:
    """The group of each annotator, of ``votes`` (pairs by annotators) that are 1, -1, or 0 for none.

    The first prototype is the annotator of most votes, each further one that who agrees least with those
    before. Then, in turn, annotators join the prototype that they agree with most and prototypes become their
    group's majority, until nothing moves. Always the first of equals, so that the same votes make the same
    groups. Agreement is the mean product of votes on pairs that both have.
    """
    import numpy as np

    if not votes.size:
        return np.zeros(votes.shape[1], np.int64)
    given = np.abs(votes)
    first = int(given.sum(axis=0).argmax())
    centres = votes[:, [first]]
    while centres.shape[1] < min(groups, votes.shape[1]):
        alike = _agreement(votes, given, centres).max(axis=1)
        centres = np.concatenate([centres, votes[:, [int(alike.argmin())]]], axis=1)
    own = np.zeros(votes.shape[1], np.int64)
    for _ in range(_ROUNDS):
        joined = _agreement(votes, given, centres).argmax(axis=1)
        centres = np.stack([np.sign(_sums(votes, joined == g)) for g in range(centres.shape[1])], axis=1)
        if (joined == own).all():
            break
        own = joined
    return own


def _agreement(votes: Numbers, given: Numbers, centres: Numbers) -> Numbers:
    """Annotators by prototypes, in [-1, 1]; 0 for those that have no pair in common."""
    import numpy as np

    return (votes.T @ centres) / np.maximum(given.T @ np.abs(centres), 1)


def _sums(votes: Numbers, members: NDArray[np.bool_]) -> Numbers:
    total: Numbers = votes[:, members].sum(axis=1)
    return total
