"""Mathematical equality of final answers: exact where it can be, sampled where it must be, never guessed.

Call it through ``gristmill.verifiers.pool.pool.Pool``: what no layer here decides is put to math-verify and
sympy, which a hostile answer may keep busy for ever.
"""

from gristmill.verifiers.math.extract import Extracted, extract, last_box
from gristmill.verifiers.math.tree import Limits
from gristmill.verifiers.math.verifier import Math, forget, group, prepare_worker, verify

__all__ = [
    "Extracted",
    "Limits",
    "Math",
    "extract",
    "forget",
    "group",
    "last_box",
    "prepare_worker",
    "verify",
]
