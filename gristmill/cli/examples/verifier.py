"""A verifier that compares the last number of an answer with the reference."""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta, Struct

from gristmill.core import Outcome, Verdict

_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")


class Near(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last number of the answer is within ``tolerance`` of the reference."""

    tolerance: Annotated[float, Meta(ge=0)] = 0.5
    """The greatest difference that still counts as right."""

    def __call__(self, completion: str, reference: str) -> Verdict:
        """Judge ``completion`` against the number in ``reference``; whatever the texts, it never raises."""
        found, wanted = _NUMBER.findall(completion), _NUMBER.findall(reference)
        if not found or not wanted:
            return Verdict(Outcome.UNPARSEABLE, rule="no number")
        right = abs(float(found[-1]) - float(wanted[-1])) <= self.tolerance
        outcome = Outcome.CORRECT if right else Outcome.INCORRECT
        return Verdict(outcome, float(right), extracted=found[-1], rule="near")
