"""The page of all methods, of their headers: ``python -m gristmill.pipelines.methods.page``, into docs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from gristmill.pipelines.methods.gallery import Entry, entries

_WIDTH = 120
_HEAD = """\
# Methods

Made by `python -m gristmill.pipelines.methods.page` of the headers in `gristmill/data/methods`. What the
families gain, measured: [gates.md](gates.md).

Each method of the literature that Gristmill knows is a recipe by name. It can be listed, run in seconds
without a model, with the embedded model, with your own engine, on your own rows, and copied to be changed:

```bash
gristmill methods --family rag
gristmill run raft --engine scripted
gristmill run raft --engine embedded --limit 20
gristmill run raft --engine engine.yaml --data mine.jsonl
gristmill new recipe raft --out mine
```

The scripted run ends with a check: the rows must be what the header's `expect` says of them, and rows of
plain sampling, or of the same recipe with the method turned off, must not be. `pytest -m methods` does both.
"""


def page(found: list[Entry]) -> str:
    """The page in Markdown."""
    works = sum(e.method.status == "works" for e in found)
    counted = f"{works} of {len(found)} methods work; what is missing of the others is said at each."
    families = sorted({e.method.family for e in found})
    parts = [_HEAD, counted, "", "| family | methods |", "|---|---|"]
    for family in families:
        names = ", ".join(f"[{e.name}](#{e.name})" for e in found if e.method.family == family)
        parts.append(f"| {family} | {names} |")
    for family in families:
        parts += ["", f"## {family}"]
        parts += [line for e in found if e.method.family == family for line in _section(e)]
    return "\n".join(parts) + "\n"


def _section(found: Entry) -> Iterator[str]:
    method = found.method
    papers = ", ".join(f"arXiv {paper}" for paper in method.papers) or "no arXiv id"
    state = "" if method.status == "works" else f" **{method.status.capitalize()}:** {method.why}"
    yield from ("", f"### {found.name}", "")
    yield from _lines(f"**{method.title}** ({papers}; {method.year}). {method.what}{state}")
    yield ""
    facts = [
        f"Makes {method.makes.rstrip('.')}.",
        *([f"Needs {', '.join(method.needs)}."] if method.needs else []),
    ]
    if method.train is not None:
        options = "".join(f" --set {key}={value}" for key, value in method.train.options.items())
        facts.append(f"For `gristmill train {method.train.kind}{options}`.")
    if method.loop:
        facts.append(f"Over rounds: `gristmill loop {method.loop}`.")
    yield from _item(" ".join(facts))
    if method.differs:
        yield from _item(f"Differs from the paper: {method.differs}")
    yield from _item(f"To expect: {method.expected or 'no figure is known to us.'}")


def _item(text: str) -> list[str]:
    return _lines(text, "- ", "  ")


def _lines(text: str, first: str = "", further: str = "") -> list[str]:
    plain = " ".join(text.split())
    return textwrap.wrap(
        plain,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=further,
        break_on_hyphens=False,
        break_long_words=False,
    )


if __name__ == "__main__":
    print(page(entries()), end="")
