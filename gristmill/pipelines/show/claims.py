"""The parts of a shown answer that its passages do not support."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from gristmill.core.verdicts import Outcome, Verdict

if TYPE_CHECKING:
    from gristmill.verifiers.grounding import UnsupportedSpan


def unsupported_in(content: str, verdicts: Iterable[Mapping[str, Any] | None]) -> tuple[UnsupportedSpan, ...]:
    """The parts of an answer that no passage supports, by the first of its verdicts that says so."""
    from gristmill.verifiers.grounding import unsupported_spans

    for held in verdicts:
        verdict = None if held is None else Verdict(Outcome(held["outcome"]), detail=held["detail"] or "")
        try:
            if verdict is not None and (found := unsupported_spans(content, verdict)):
                return found
        except ValueError:  # it is on another text: on several turns together
            continue
    return ()
