"""Every error a user can meet: what happened, the rule it broke, and the next thing to try."""

from __future__ import annotations

from typing import Literal


class GristmillError(Exception):
    """Base of all errors that are shown to a user without a traceback.

    ``message`` gives the value and the rule it broke; ``remedy`` the next thing to try.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".rstrip()

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows in place of the traceback: IPython asks errors for this method."""
        return [f"{type(self).__name__}: {self}"]


class RecipeError(GristmillError):
    """A recipe (or the options of a stage, engine or export) that cannot be run."""


class InputError(GristmillError):
    """Input that cannot be read. ``path`` is the file or data set, ``row`` the 1-based row or line."""

    def __init__(self, message: str, *, path: str, row: int | None = None, remedy: str = "") -> None:
        where = path if row is None else f"{path}, row {row}"
        super().__init__(f"{where}: {message}", remedy=remedy)
        self.path = path
        self.row = row


class MissingExtraError(GristmillError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, *, install: str) -> None:
        super().__init__(f"{what} is not installed.", remedy=f"Install it with: {install}")


class LogError(GristmillError):
    """The completion log cannot be opened, read or written."""


class RunError(GristmillError):
    """The run directory cannot be used: locked, read-only, disk full, or of another recipe."""


class RunStopped(GristmillError):
    """The run stopped itself (or was asked to stop) before the end. It can be resumed."""


class EngineError(GristmillError):
    """An engine could not answer one request."""


class TransientError(EngineError):
    """A failure that a later try may not meet: 429, 5xx, a time-out, a broken connection or body.

    ``retry_after`` is the wait in seconds that the server asked for. ``congested`` says that the server is
    overloaded, so that fewer requests should be in flight. ``cause`` is ``limited`` where the server
    refused for a limit on its pace, ``silent`` where it did not answer in time, ``unreachable`` where there
    was no connection to it."""

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        congested: bool = False,
        cause: Literal["", "limited", "silent", "unreachable"] = "",
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.congested = congested
        self.cause = cause


class RequestRefusedError(EngineError):
    """A failure that trying again does not help: the request itself is refused (400, 413, 422 ...).

    ``own`` says that the server named this one prompt as the cause (its length, its content), so that the
    refusal says nothing about other requests.
    """

    def __init__(self, message: str, *, remedy: str = "", own: bool = False) -> None:
        super().__init__(message, remedy=remedy)
        self.own = own


class ServerRefusedError(RequestRefusedError):
    """The server refuses whatever it is asked: a wrong key, model or address, or no money left."""


class ContractError(GristmillError):
    """A stage broke its contract at one record: it returned what it may not. That record is rejected."""


class RowRejected(GristmillError):
    """Raised by a row stage: this record is kept in ``rejected`` under ``reason``; the run goes on.

    ``reason`` is a short fixed phrase (it is counted); the details of this one row go in ``message``.
    """

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(message or reason)
        self.reason = reason
