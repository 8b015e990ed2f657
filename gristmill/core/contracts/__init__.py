"""What a part must be: one clear error for each thing that can be wrong with it.

``check_part`` looks at a class (or function) before it is made with options, ``check_made`` at what was made,
``check_opened`` at an opened engine; ``dry_run`` and ``check_filter`` run a filter or relation on empty
tables: all before the first request.
``checked`` and ``check_table`` stand at the record boundary, ``Ids`` finds ids that a stage gives twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gristmill.core.lazy import lazily

if TYPE_CHECKING:
    from gristmill.core.contracts.naming import place_of
    from gristmill.core.contracts.parts import check_made, check_opened, check_part
    from gristmill.core.contracts.rows import Ids, checked
    from gristmill.core.contracts.tables import check_filter, check_table, dry_run

__all__ = [
    "Ids",
    "check_filter",
    "check_made",
    "check_opened",
    "check_part",
    "check_table",
    "checked",
    "dry_run",
    "place_of",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "Ids": ".rows",
        "check_filter": ".tables",
        "check_made": ".parts",
        "check_opened": ".parts",
        "check_part": ".parts",
        "check_table": ".tables",
        "checked": ".rows",
        "dry_run": ".tables",
        "place_of": ".naming",
    },
)
