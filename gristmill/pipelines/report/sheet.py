"""The frame of a page: one file that asks no network for anything, light or dark as its reader likes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from gristmill.pipelines.rundir.summary import printable

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>Gristmill: {name}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1c2024; --dim: #646b73; --back: #ffffff; --line: #c9ced4; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e8eaed; --dim: #9aa1a9; --back: #15181b; --line: #444b52; }} }}
body {{ margin: 2rem auto; max-width: 76rem; padding: 0 1rem; font: 15px/1.5 system-ui, sans-serif;
  color: var(--ink); background: var(--back); overflow-wrap: anywhere; }}
h1 {{ font-size: 1.4rem; }} h2 {{ font-size: 1.1rem; margin-top: 2rem; }}
p.dim {{ color: var(--dim); }}
.wide {{ overflow-x: auto; overflow-wrap: normal; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; white-space: normal; min-width: {first}; }}
{style}</style></head><body>
<h1>{title}</h1>
<p class="dim">{note}</p>
{body}
</body></html>
"""


def sheet(name: str, title: str, note: str, body: str, *, style: str = "", first: str = "9rem") -> bytes:
    """A page as UTF-8; ``name`` is what the browser's tab says.

    ``name``, ``title`` and ``note`` are escaped here, ``body`` (markup) and ``style`` (CSS) are taken as they
    are. ``first`` is how wide a table's first column is at least.
    """
    said = {"name": name, "title": title, "note": note}
    escaped = {key: escape(printable(text)) for key, text in said.items()}
    return _PAGE.format(**escaped, body=body, style=style, first=first).encode("utf-8", "backslashreplace")


def grid(rows: Sequence[Sequence[str]]) -> str:
    """Rows of texts as a table that can be scrolled sideways, the first as its head; all are escaped."""
    head, *body = ([escape(printable(cell)) for cell in row] for row in rows)
    lines = ["<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body]
    return '<div class="wide"><table>' + "\n".join(lines) + "</table></div>"
