"""Answers that rest on passages: retrieval, preference pairs by four metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.synth.rag.retrieve import Retrieve

__all__ = ["Retrieve"]

__getattr__, __dir__ = lazily(__name__, {"Retrieve": ".retrieve"})
