"""What each published search does, as the defaults of one set of options."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from gristmill.synth.tree_search.backup import Backup
from gristmill.synth.tree_search.select import Unvisited

Algorithm = Literal["uct", "puct", "rest-mcts*", "mcts-dpo", "rstar"]
ValueBy = Literal["rollout", "verifier", "self", "judge", "prm"]


class SearchPlan(Struct, frozen=True, kw_only=True):
    """A search's settings; see ``TreeSearch`` for each. ``worst`` is the value of a wrong end (-1 or 0),
    ``inner`` the factor under UCT's root, ``descend`` whether an iteration goes on to an end."""

    score: Literal["uct", "puct"] = "uct"
    inner: float = 2.0
    c: float = 1.0
    unvisited: Unvisited = "infinity"
    backup: Backup = "mean"
    value: ValueBy = "rollout"
    worst: float = 0.0
    gamma: float = 1.0
    descend: bool = False
    branch: int = 3
    depth: int = 16
    iterations: int = 32
    stop_at: float | None = None
    roll_depth: int = 0
    roll_branch: int = 1
    alpha: float = 0.5


PRESETS: dict[Algorithm, SearchPlan] = {
    "uct": SearchPlan(c=1.0),
    "puct": SearchPlan(score="puct", c=1.0),
    "rest-mcts*": SearchPlan(
        c=0.7, unvisited="one", backup="visits", value="prm", branch=3, stop_at=0.9, roll_depth=3, alpha=0.5
    ),
    "mcts-dpo": SearchPlan(
        score="puct", c=1.0, backup="q", value="self", worst=-1.0, branch=2, depth=3, iterations=64
    ),
    "rstar": SearchPlan(
        inner=1.0,
        c=2.0,
        unvisited="zero",
        value="verifier",
        worst=-1.0,
        descend=True,
        branch=12,
        depth=16,
        iterations=48,
    ),
}
"""From section C of the reference (papers 2406.03816, 2405.00451, 2501.04519); depth and iterations of
``rest-mcts*``, ``uct`` and ``puct`` are ours. MCTS-DPO gives its root four times the iterations of later
steps; here a tree is grown from the root alone, so its 64 iterations are all there are."""
