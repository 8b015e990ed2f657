"""Passages as a prompt shows them."""

from __future__ import annotations

from typing import Any


def passages(held: Any, *, always: bool = False) -> str:
    """Passages as text: each numbered where there are several (``always``: one alone too), its title first.

    Takes one text, a list of texts, of ``{title, text}`` or ``{title, sentences}``, of ``[title,
    sentences]``, or HotpotQA's ``{title: [..], sentences: [[..], ..]}``. Empty for anything else.
    """
    if isinstance(held, str):
        return held.strip()
    if isinstance(held, dict) and isinstance(held.get("title"), list):
        bodies = held.get("sentences") or held.get("paragraphs") or held.get("text") or []
        held = list(zip(held["title"], bodies, strict=False))
    found = [text for one in held if (text := _passage(one))] if isinstance(held, list | tuple) else []
    if len(found) == 1 and not always:
        return found[0]
    return "\n".join(f"[{i}] {text}" for i, text in enumerate(found, 1))


def _passage(one: Any) -> str:
    if isinstance(one, str):
        return one.strip()
    title, body = "", None
    if isinstance(one, dict):
        title, body = str(one.get("title") or ""), one.get("text") or one.get("sentences")
    elif isinstance(one, list | tuple) and len(one) == 2:
        title, body = str(one[0]), one[1]
    if isinstance(body, list) and all(isinstance(s, str) for s in body):
        body = " ".join(s.strip() for s in body)
    if not isinstance(body, str) or not body.strip():
        return ""
    return f"{title}: {body.strip()}" if title else body.strip()
