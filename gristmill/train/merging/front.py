"""The front of reward against the alignment tax: what each merged model gives, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from gristmill.core.errors import InputError, MissingExtraError
from gristmill.core.files import write_whole
from gristmill.filters.rewards import hypervolume, pareto_front


class Measured(Struct, frozen=True, forbid_unknown_fields=True):
    """A model with its two measures; more is better in both."""

    name: str
    reward: float
    """What alignment is for: a mean reward, a win rate, minus a loss on rewarded answers."""
    ability: float
    """What alignment may cost: accuracy on held-out questions, minus a loss on other texts."""


class FrontPoint(Struct, frozen=True):
    """A model on the front or behind it."""

    name: str
    reward: float
    ability: float
    tax: float
    """The ability of the model with the most, less this model's."""
    on_front: bool
    """Whether no model is at least as good in both measures and better in one."""


class RewardTaxFront(Struct, frozen=True):
    """The reward-tax front (arXiv 2309.06256): points by reward, the highest first."""

    points: list[FrontPoint]
    volume: float
    """The area between the front and the worst value of either measure."""

    def table(self) -> str:
        """The points as text, a line each; ``*`` marks the front."""
        width = max(len("model"), *(len(p.name) for p in self.points))
        lines = [f"  {'model':<{width}}  {'reward':>10}  {'ability':>10}  {'tax':>10}"]
        for p in self.points:
            numbers = "  ".join(f"{value:>10.4f}" for value in (p.reward, p.ability, p.tax))
            lines.append(f"{'*' if p.on_front else ' '} {p.name:<{width}}  {numbers}")
        return "\n".join(lines)


def reward_tax_front(measured: Sequence[Measured]) -> RewardTaxFront:
    """Which of the models are on the front. Equal points are on it together. Needs one model at least."""
    pairs = [(m.reward, m.ability) for m in measured]
    front = set(pareto_front(pairs))
    most = max(m.ability for m in measured)
    points = [
        FrontPoint(m.name, m.reward, m.ability, most - m.ability, (m.reward, m.ability) in front)
        for m in sorted(measured, key=lambda m: (-m.reward, -m.ability, m.name))
    ]
    worst = (min(m.reward for m in measured), min(m.ability for m in measured))
    return RewardTaxFront(points, hypervolume(pairs, worst))


def read_measured(file: Path) -> list[Measured]:
    """Measures from JSON lines of name, reward and ability. Raises ``InputError``."""
    remedy = 'Write a line {"name": ..., "reward": ..., "ability": ...} for each model.'
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"it cannot be read ({error.strerror}).", path=str(file), remedy=remedy) from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(msgspec.json.decode(line, type=Measured))
        except msgspec.DecodeError as error:
            raise InputError(f"{error}.", path=str(file), row=number, remedy=remedy) from error
    if not found:
        raise InputError("it has no rows.", path=str(file), remedy=remedy)
    return found


def plot_front(front: RewardTaxFront, file: Path) -> None:
    """Draw the points and the front, as PNG, SVG or PDF by the file's suffix.

    ``MissingExtraError`` without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError(
            "matplotlib, which draws the diagram,", install="pip install 'gristmill[report]'"
        ) from None
    from io import BytesIO

    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    chosen = [p for p in front.points if p.on_front]
    axes.plot([p.ability for p in chosen], [p.reward for p in chosen], color="#2a6f97", label="front")
    axes.scatter([p.ability for p in front.points], [p.reward for p in front.points], color="#2a6f97", s=18)
    for p in front.points:
        axes.annotate(
            p.name.replace("$", r"\$"),
            (p.ability, p.reward),
            textcoords="offset points",
            xytext=(4, 4),
            fontsize=8,
        )
    axes.set_xlabel("ability")
    axes.set_ylabel("reward")
    axes.legend()
    data = BytesIO()
    figure.savefig(data, format=file.suffix.removeprefix("."))
    write_whole(file, data.getvalue())
