"""One HTML file out of a template, styles, scripts and data: it asks nobody for anything.

The policy in its head lets exactly these styles and scripts run, by their hashes. So nothing that a model or
data set wrote can run even if it became markup, and it cannot: it is in the data, and is set as text.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

import msgspec

_FOLDER = "gristmill.pipelines.show"
_LIVE = "connect-src 'self'; img-src 'self'; "
"""What a page may also ask for that a server keeps up to date: its own data, and its icon."""


def document(
    template: str,
    data: Any,
    *,
    styles: Sequence[str] = (),
    scripts: Sequence[str] = (),
    title: str = "",
    mark: str = "",
    style: str = "",
    live: bool = False,
) -> str:
    """The page. ``template``, ``styles`` and ``scripts`` are names of files beside this module, ``style`` is
    more CSS, ``mark`` stands where the template has its place for it. ``live``: the page may ask its server.
    """
    css = style + "".join(map(_file, styles))
    script = '"use strict";\n' + "".join(map(_file, scripts))
    policy = (
        f"default-src 'none'; {_LIVE if live else ''}base-uri 'none'; form-action 'none'; "
        f"style-src {_hashed(css)}; script-src {_hashed(script)}"
    )
    parts = {
        "POLICY": policy,
        "TITLE": escape(title),
        "MARK": escape(mark),
        "STYLE": css,
        "DATA": inside(data),
        "SCRIPT": script,
    }
    # In one pass: a text that holds the name of a place must not be taken for it.
    return re.sub(r"__([A-Z]+)__", lambda place: parts[place[1]], _file(template))


def inside(data: Any) -> str:
    """Data as JSON that can end no element and begin no comment."""
    text = msgspec.json.encode(data).decode()
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _file(name: str) -> str:
    return files(_FOLDER).joinpath("files", name).read_text(encoding="utf-8")
