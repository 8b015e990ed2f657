"""Samples in which a model calls tools, and values of its turns (docs/tools.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.synth.tool_use.stage import UseTools
    from gristmill.synth.tool_use.values import ActionValues

__all__ = ["ActionValues", "UseTools"]

__getattr__, __dir__ = lazily(__name__, {"ActionValues": ".values", "UseTools": ".stage"})
