"""Mathematical equality of final answers: exact where it can be, sampled where it must be, never guessed.

Nothing here evaluates anybody's text, and what would take long is refused before it is computed. Answers that
nobody has seen still belong into a ``gristmill.verifiers.pool.pool.Pool``, which has the deadline.

It has more modules than other folders: each is one step from a text to a verdict (``extract``, ``prose``,
``tokens``, ``parser``, ``forms``, ``compare``, ``sampling``, ``decide``), or what one kind of value means.
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
