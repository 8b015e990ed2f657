"""The report on pairs as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gristmill.pipelines.report.pairs import PairsReport
from gristmill.pipelines.rundir.summary import align, printable

_MOST = 12
"""Names that are listed of a kind; the others are counted together."""


def table(found: PairsReport) -> str:
    """The report, a block for each part that there is something to say of."""
    lines = [f"{found.name}: {found.pairs:,} pairs of {found.prompts:,} prompts"]
    for why, n in found.rejected.items():
        lines.append(f"{n:>9,}  rejected: {printable(why)}")
        if told := found.rejected_examples.get(why):
            lines.append(f"{'':>11}such as {printable(told)}")
    for title, counts in (
        ("kind", found.kinds),
        ("source", found.sources if list(found.sources) != ["not said"] else {}),
        ("chosen is of", found.chosen_models),
        ("rejected is of", found.rejected_models),
    ):
        lines += _counted(title, counts)
    if found.lengths is not None:
        lines += _lengths(found)
    if found.margins:
        lines += ["", *align(list(_margins(found)))]
    if found.without_value:
        lines += [
            "",
            *(
                f"{n:>9,}  pairs without a value of {printable(name)}"
                for name, n in found.without_value.items()
            ),
        ]
    if found.scorers:
        lines += ["", *align(list(_scorers(found)))]
    if found.agreement:
        lines += ["", *align(list(_agreement(found)))]
        alphas = ", ".join(f"{level} {_number(a)}" for level, a in found.alpha.items())
        lines.append(f"Krippendorff's alpha of all: {alphas}")
    if found.first_shown_preferred is not None:
        lines += ["", f"The response shown first was preferred in {found.first_shown_preferred:.1%}."]
    return "\n".join([*lines, "", *_faults(found)])


def _counted(title: str, counts: Mapping[str, int]) -> list[str]:
    named = [f"{printable(name)} {n:,}" for name, n in list(counts.items())[:_MOST]]
    rest = sum(list(counts.values())[_MOST:])
    return [f"{title}: {', '.join(named)}" + (f", others {rest:,}" if rest else "")] if counts else []


def _lengths(found: PairsReport) -> Iterator[str]:
    lengths = found.lengths
    assert lengths is not None
    yield ""
    yield (
        f"characters: chosen {lengths.chosen:,.0f}, rejected {lengths.rejected:,.0f}; difference mean "
        f"{lengths.difference:+,.1f}, median {lengths.difference_median:+,.1f}"
    )
    yield f"the chosen side is longer in {lengths.longer:.1%}, equally long in {lengths.equal:.1%}"
    if lengths.difference_before is not None:
        yield f"before pairs were matched by length the mean difference was {lengths.difference_before:+,.1f}"


def _margins(found: PairsReport) -> Iterator[tuple[str, ...]]:
    yield "margin of", "pairs", "mean", "median", "least", "greatest", "ties", "backward"
    for name, m in found.margins.items():
        numbers = (m.mean, m.median, m.least, m.greatest)
        yield printable(name), f"{m.pairs:,}", *map(_number, numbers), f"{m.ties:,}", f"{m.backward:,}"


def _scorers(found: PairsReport) -> Iterator[tuple[str, ...]]:
    yield "scorer", "decided", "prefers chosen", "prefers longer", "95 % interval", "shown first", "swayed"
    for name, s in found.scorers.items():
        low_high = "-" if s.longer_interval is None else "{:.3f}-{:.3f}".format(*s.longer_interval)
        shares = _number(s.chosen), _number(s.longer), low_high, _number(s.shown_first), _number(s.swayed)
        yield printable(name), f"{s.decided:,}", *shares


def _agreement(found: PairsReport) -> Iterator[tuple[str, ...]]:
    yield "scorers", "pairs", "same", "kappa"
    for one in found.agreement:
        yield printable(" and ".join(one.scorers)), f"{one.pairs:,}", f"{one.same:.3f}", _number(one.kappa)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _faults(found: PairsReport) -> Iterator[str]:
    yield f"{found.repeated_prompts:>9,}  pairs have a prompt that another pair has"
    yield f"{found.repeated_pairs:>9,}  pairs are there already"
    yield f"{found.equal_sides:>9,}  pairs have equal sides"
    said = found.contradictions
    yield f"{said.reversed:>9,}  pairs of texts are preferred both ways round"
    yield f"{said.circles:>9,}  prompts have preferences in a circle"
    if said.problems:
        yield f"contradictions are in: {', '.join(map(printable, said.problems))}"
