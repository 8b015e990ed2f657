"""A run that was complete and finds nothing of it in the completion log: it would pay for everything anew."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress

import msgspec

from gristmill.core.errors import RunError
from gristmill.engines.log.store import CompletionLog
from gristmill.pipelines.rundir.directory import SUMMARY, RunDir
from gristmill.pipelines.rundir.summary import decode


def check_log(
    rundir: RunDir,
    log: CompletionLog,
    models: Callable[[], Collection[str]],
    confirm: Callable[[str], bool] | None,
) -> None:
    """Ask (with ``confirm``) whether a complete run may be paid for anew, if the log has no completion of
    any of ``models``, which are called for only where there is a complete run.

    ``RunError`` if the answer is no, or if nobody can be asked.
    """
    used = 0
    with suppress(OSError, msgspec.DecodeError):  # never complete, or of a version that wrote other summaries
        summary = decode((rundir.path / SUMMARY).read_bytes())
        used = sum(stage.completions for stage in summary.stages)
    if not used or log.holds(wanted := models()):
        return
    message = (
        f"{rundir.path} is complete, but the completion log {log.path} has none of the {used:,} completions "
        f"that it used of {', '.join(sorted(wanted))}: running it again pays for them anew."
    )
    if confirm is None or not confirm(f"{message} Do so?"):
        raise RunError(
            message, remedy="Name the log that it was made with (--log PATH), or add --pay-again to pay."
        )
