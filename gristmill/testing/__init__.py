"""For the tests of plug-ins and our own: conformance checks of the kinds of part, the scripted engine,
and builders of records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.engines.scripted import Reply, Scripted, ScriptedEngine
    from gristmill.testing.conformance import (
        HOSTILE,
        check_engine,
        check_export,
        check_filter,
        check_row_stage,
        check_scorer,
        check_verifier,
        context,
    )
    from gristmill.testing.records import (
        CORRECT,
        INCORRECT,
        conversation,
        demonstration,
        pair,
        passage,
        problem,
        sampled,
        trajectory,
        turns,
    )

__all__ = [
    "CORRECT",
    "HOSTILE",
    "INCORRECT",
    "Reply",
    "Scripted",
    "ScriptedEngine",
    "check_engine",
    "check_export",
    "check_filter",
    "check_row_stage",
    "check_scorer",
    "check_verifier",
    "context",
    "conversation",
    "demonstration",
    "pair",
    "passage",
    "problem",
    "sampled",
    "trajectory",
    "turns",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "CORRECT": ".records",
        "HOSTILE": ".conformance",
        "INCORRECT": ".records",
        "Reply": "gristmill.engines.scripted",
        "Scripted": "gristmill.engines.scripted",
        "ScriptedEngine": "gristmill.engines.scripted",
        "check_engine": ".conformance",
        "check_export": ".conformance",
        "check_filter": ".conformance",
        "check_row_stage": ".conformance",
        "check_scorer": ".conformance",
        "check_verifier": ".conformance",
        "context": ".conformance",
        "conversation": ".records",
        "demonstration": ".records",
        "pair": ".records",
        "passage": ".records",
        "problem": ".records",
        "sampled": ".records",
        "trajectory": ".records",
        "turns": ".records",
    },
)
