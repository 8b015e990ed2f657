"""OmegaPRM's parts without an engine: selection, division of a rollout, and the growing search state.

Source: "Improve Mathematical Reasoning in Language Models by Automated Process Supervision",
arXiv 2406.06592, section 3.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from msgspec import Struct

from gristmill.core.engine import Completion
from gristmill.core.records import Judged
from gristmill.core.steps import ROOT
from gristmill.core.verdicts import Outcome
from gristmill.synth.tree_search.grow import Growing, Live

ALGORITHM = "omega-prm"
FIRST_ERROR = "first error"
"""The note of a prefix that ends with the first error found: no rollout from it is right."""
AFTER_ERROR = "after the error"
"""The note of a longer prefix, tried on the way: an error is somewhere in it."""
UNSETTLED = "unsettled"
"""The note of a prefix without a right rollout in a search that ended before its first error was found."""
UNDECIDED = "undecided"
"""The note of a prefix in a search that met one whose rollouts the verifier could not judge."""
_CHARS_PER_TOKEN = 4
# A unit is a word with the space before it: most tokenizers put the space there too, and a prefix that
# ends with a space continues badly. Text without spaces can be cut every 24 characters.
_UNIT = re.compile(r"\s*\S{1,24}")


class Selection(Struct, frozen=True, kw_only=True):
    """The constants of Q and U (section 3.3)."""

    alpha: float = 0.5
    beta: float = 0.9
    length: float = 500.0
    c_puct: float = 0.125

    def quality(self, value: float, tokens: float) -> float:
        """Q(s, r) = alpha^(1 - MC(s)) * beta^(len(r) / L): near misses first, and the shorter ones."""
        return float(self.alpha ** (1.0 - value) * self.beta ** (tokens / self.length))

    def exploration(self, visits: int, total: int) -> float:
        """U(s) = c_puct * sqrt(sum of all N) / (1 + N(s))."""
        return self.c_puct * math.sqrt(total) / (1 + visits)


def token_count(completion: Completion) -> int:
    """The completion's tokens; where the server gave no count, four characters are taken for one."""
    return completion.completion_tokens or -(-len(completion.text) // _CHARS_PER_TOKEN)


def cut(text: str, pieces: int) -> tuple[int, ...]:
    """The ends of at most ``pieces`` nearly equal pieces of ``text``, none of them empty; the last is its
    length. Cuts are before white space wherever there is enough of it. No end for an empty text."""
    if not text:
        return ()
    ends: list[int] = []
    due = len(text)  # times 1 / pieces: the first place at or behind which to cut
    for unit in _UNIT.finditer(text):
        end = unit.end()
        if end * pieces >= due and text[end:].strip():
            ends.append(end)
            due = (end * pieces // len(text) + 1) * len(text)
    return (*ends, len(text))


def piece_count(tokens: float, mean: float, pieces: int) -> int:
    """Into how many pieces to cut: ``pieces``, but none shorter than ``mean`` / ``pieces`` tokens."""
    return max(1, min(pieces, int(pieces * tokens / mean))) if mean > 0 else 1


class RolloutPool:
    """The wrong rollouts of all states of a tree, and which to search next.

    It holds no state of its own that the tree does not: a state's rollouts are taken by descending Q,
    ties by index, so the first N(s) of them are those already taken, which never come back. That order must
    not change, so of a state below the root its ``first`` rollouts alone are in the pool (``None``: all):
    those of its first draw, not what later checks add.
    """

    def __init__(self, tree: Growing, selection: Selection, first: int | None = None) -> None:
        self.tree = tree
        self.selection = selection
        self.first = first
        self._queues: dict[int, list[tuple[float, int]]] = {}
        for node in tree.nodes:
            self.admit(node)

    def admit(self, node: Live) -> None:
        """Put the rollouts of ``node`` in the pool if it is a state with 0 < MC < 1."""
        value = node.value
        if node.note or value is None or not 0.0 < value < 1.0:
            return
        seen: set[str] = set()
        queue: list[tuple[float, int]] = []
        drawn = node.rollouts if node.parent == ROOT else node.rollouts[: self.first]
        for index, rollout in enumerate(drawn):
            text = rollout.completion.text
            if wrong(rollout) and text not in seen:  # the same text again would be the same search
                seen.add(text)
                quality = self.selection.quality(value, token_count(rollout.completion))
                queue.append((-quality, index))
        self._queues[node.index] = sorted(queue)

    def best(self) -> tuple[Live, Judged] | None:
        """The state and rollout with the largest Q + U, both computed from the statistics as they are now;
        ties: the first state, then the first rollout. ``None`` when no rollout is left."""
        nodes = self.tree.nodes
        total = sum(node.visits for node in nodes)
        best: tuple[float, Live, int] | None = None
        for index, queue in self._queues.items():
            node = nodes[index]
            if node.visits >= len(queue):
                continue
            quality, rollout = queue[node.visits]
            score = self.selection.exploration(node.visits, total) - quality
            if best is None or score > best[0]:
                best = (score, node, rollout)
        return None if best is None else (best[1], best[1].rollouts[best[2]])


def wrong(rollout: Judged) -> bool:
    """Whether a rollout ends with a wrong answer. One that was cut off, or without a readable answer,
    counts against its state but holds no first error to search for."""
    return rollout.verdict.outcome is Outcome.INCORRECT and bool(rollout.completion.text)


def mean_tokens(rollouts: Sequence[Judged]) -> float:
    """The mean length of rollouts in tokens; 0 for none."""
    return sum(token_count(r.completion) for r in rollouts) / len(rollouts) if rollouts else 0.0
