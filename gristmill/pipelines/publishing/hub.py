"""A set of files into a data set repository of the Hub, in one commit that readers see whole or not at all.

The files go to a branch first, where their list and hashes are compared with ours. What was found right there
is then put on ``main`` by one commit that copies it from the branch, so that nothing is uploaded twice and
nothing is published that was not compared. The commit names its parent: if somebody else has committed
meanwhile, the Hub refuses it. Then comes the tag, and the branch goes.

A push that was killed is given again. The name of its branch is made of the files and of the commit of
``main`` that they are for, so that it finds what it had uploaded.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from msgspec import Struct

from gristmill.core.errors import GristmillError
from gristmill.core.secrets import Secrets, without_controls

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")

MAIN = "main"
_BRANCH = "gristmill-push-"
_OWN = ".gitattributes"
"""What the Hub puts into a new repository of itself."""
_TRIES = 5
_LONGEST_WAIT = 300.0
"""Seconds; a server that asks for a longer wait ends the push, which can be given again."""
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_BLOCK = 1 << 20


class PushError(GristmillError):
    """A push that could not be finished, or would replace what it may not."""


class PushedFile(Struct, frozen=True):
    """A file of a push: its path in the repository, its bytes (in a file or here), and the two hashes by
    which the Hub knows files: SHA-256 for large ones, git's SHA-1 for others."""

    path: str
    held: Path | bytes
    size: int
    sha256: str
    blob: str

    @classmethod
    def of(cls, path: str, held: Path | bytes) -> PushedFile:
        """The file with its hashes; reads it once."""
        size = len(held) if isinstance(held, bytes) else held.stat().st_size
        sha256, blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        if isinstance(held, bytes):
            sha256.update(held)
            blob.update(held)
        else:
            with held.open("rb") as file:
                while data := file.read(_BLOCK):
                    sha256.update(data)
                    blob.update(data)
        return cls(path, held, size, sha256.hexdigest(), blob.hexdigest())


class Remote(NamedTuple):
    """A file as the Hub lists it. ``sha256`` is of a large one's content, ``blob`` of what git holds."""

    size: int
    blob: str
    sha256: str | None

    def same_as(self, file: PushedFile) -> bool:
        """Whether it has the bytes of ``file``."""
        hashed = self.sha256 == file.sha256 if self.sha256 is not None else self.blob == file.blob
        return hashed and self.size == file.size


class Landed(NamedTuple):
    """The commit on ``main`` and its tag; ``present``: it was there before, and nothing was committed."""

    commit: str
    tag: str
    present: bool


class Hub:
    """A data set repository, through ``huggingface_hub`` as it is.

    ``repo`` is NAME or OWNER/NAME. The token is that of the environment or of the client's own store, never
    an argument. ``pause`` waits between tries.
    """

    def __init__(self, repo: str, *, pause: Callable[[float], None] = time.sleep) -> None:
        from huggingface_hub import HfApi, get_token
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils._validators import validate_repo_id

        self.repo = repo
        self._pause = pause
        try:
            validate_repo_id(repo)
        except HFValidationError as error:
            raise PushError(
                f"{repo!r} is not the name of a repository.", remedy="Write it as OWNER/NAME."
            ) from error
        token = get_token()
        if not token:
            raise PushError(
                "there is no token for the Hub.",
                remedy="Log in with 'hf auth login', or set the environment variable HF_TOKEN.",
            )
        self._secrets = Secrets([token])
        self.api: HfApi = HfApi()

    def create(self, *, private: bool) -> None:
        """Make the repository if there is none; one that is there stays as visible as it is."""
        made = self._ask(
            "create the repository",
            lambda: self.api.create_repo(self.repo, repo_type="dataset", private=private, exist_ok=True),
        )
        self.repo = made.repo_id  # with the owner

    def refs(self) -> tuple[dict[str, str], dict[str, str]]:
        """The branches and the tags, each with its commit."""
        found = self._ask(
            "list the branches", lambda: self.api.list_repo_refs(self.repo, repo_type="dataset")
        )
        return (
            {ref.name: ref.target_commit for ref in found.branches},
            {ref.name: ref.target_commit for ref in found.tags},
        )

    def files(self, revision: str) -> dict[str, Remote]:
        """The files of a revision, without the Hub's own ``.gitattributes``."""

        def listed() -> dict[str, Remote]:
            from huggingface_hub.hf_api import RepoFile

            tree = self.api.list_repo_tree(self.repo, repo_type="dataset", revision=revision, recursive=True)
            return {
                entry.path: Remote(entry.size, entry.blob_id, entry.lfs.sha256 if entry.lfs else None)
                for entry in tree
                if isinstance(entry, RepoFile) and entry.path != _OWN
            }

        return self._ask("list the files", listed)

    def content(self, path: str, revision: str) -> bytes:
        """The bytes of a small file."""

        def fetched() -> bytes:
            import tempfile

            with tempfile.TemporaryDirectory() as folder:
                place = self.api.hf_hub_download(
                    self.repo, path, repo_type="dataset", revision=revision, local_dir=folder
                )
                return Path(place).read_bytes()

        return self._ask(f"read {path}", fetched)

    def land(
        self,
        files: Sequence[PushedFile],
        *,
        head: str,
        before: Mapping[str, Remote],
        removed: Sequence[str] = (),
        message: str,
        tag: str | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> Landed:
        """Make ``main``, which is at ``head`` with the files ``before``, hold ``files``, without ``removed``.

        Raises ``PushError`` where the Hub refuses, where a file that arrived differs from ours, and where
        ``main`` has moved on.
        """
        gone = set(removed) - {f.path for f in files}
        kept = {path: file for path, file in before.items() if path not in gone}
        wanted = _Wanted(files, kept)
        mark = f"{_BRANCH}{wanted.digest}-"
        tag = tag or f"set-{wanted.digest}"
        self._check_tag(tag, head if wanted.is_in(before) else None)
        present = wanted.is_in(before)
        commit = head
        if not present:
            branch = f"{mark}{head[:12]}"
            say(f"uploading {sum(f.size for f in files) / 1e6:,.1f} MB to the branch {branch}")
            self._ask(
                "make a branch",
                lambda: self.api.create_branch(
                    self.repo, repo_type="dataset", branch=branch, revision=head, exist_ok=True
                ),
            )
            self._upload(branch, wanted, message)
            self._verify(branch, wanted)
            say(f"{len(files):,} files arrived whole; committing them to {MAIN}")
            commit = self._commit(branch, head, before, wanted, message)
            self._verify(commit, wanted)
        self._tag(tag, commit, message)
        self._tidy(mark)
        return Landed(commit, tag, present)

    def _upload(self, branch: str, wanted: _Wanted, message: str) -> None:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        def uploaded() -> None:
            there = self.files(branch)
            operations: list[Any] = [
                CommitOperationAdd(file.path, file.held if isinstance(file.held, bytes) else str(file.held))
                for file in wanted.missing(there)
            ]
            operations += [CommitOperationDelete(path, is_folder=False) for path in wanted.surplus(there)]
            if operations:
                self.api.create_commit(
                    self.repo, operations, repo_type="dataset", revision=branch, commit_message=message
                )

        self._ask("upload the files", uploaded)

    def _verify(self, revision: str, wanted: _Wanted) -> None:
        there = self.files(revision)
        wrong = [f.path for f in wanted.missing(there)] + wanted.surplus(there)
        if wrong:
            raise PushError(
                f"{self.repo} at {revision}: {wrong[0]} is not the file that was uploaded "
                f"({len(wrong):,} of {len(wanted.files) + len(wanted.kept):,} files differ).",
                remedy=f"{MAIN} is as it was, unless it says otherwise here. Give the command again.",
            )

    def _commit(
        self, branch: str, head: str, before: Mapping[str, Remote], wanted: _Wanted, message: str
    ) -> str:
        """The one commit that readers see. What was answered to it may be lost: then ``main`` tells."""
        from huggingface_hub import CommitOperationCopy, CommitOperationDelete

        def committed() -> str:
            now = self.refs()[0].get(MAIN, head)
            if now != head:
                if wanted.is_in(self.files(now)):
                    return now  # an earlier try of ours, whose answer was lost
                raise PushError(
                    f"{self.repo}: {MAIN} has moved from {head[:12]} to {now[:12]} during the push.",
                    remedy="Nothing was committed. Look at what came in, then give the command again.",
                )
            operations: list[Any] = [
                CommitOperationCopy(f.path, f.path, src_revision=branch) for f in wanted.missing(before)
            ]
            operations += [CommitOperationDelete(path, is_folder=False) for path in wanted.surplus(before)]
            try:
                made = self.api.create_commit(
                    self.repo,
                    operations,
                    repo_type="dataset",
                    revision=MAIN,
                    parent_commit=head,
                    commit_message=message,
                )
            except OSError as error:
                if _status(error) == 412:  # its parent is no longer the last: say by whom
                    raise _Moved from error
                raise
            return str(made.oid)

        return self._ask(f"commit to {MAIN}", committed)

    def _check_tag(self, tag: str, commit: str | None) -> None:
        at = self.refs()[1].get(tag)
        if at is not None and at != commit:
            raise PushError(
                f"{self.repo}: the tag {tag!r} is at {at[:12]} already.",
                remedy="A tag is never moved. Choose another with --tag.",
            )

    def _tag(self, tag: str, commit: str, message: str) -> None:
        self._ask(
            "set the tag",
            lambda: self.api.create_tag(
                self.repo, repo_type="dataset", tag=tag, tag_message=message, revision=commit, exist_ok=True
            ),
        )

    def _tidy(self, mark: str) -> None:
        """Remove the branches of this push, those of earlier tries for another head included."""

        def removed() -> None:
            for name in self.refs()[0]:
                if name.startswith(mark):
                    self.api.delete_branch(self.repo, repo_type="dataset", branch=name)

        self._ask("remove the branch", removed)

    def _ask(self, what: str, call: Callable[[], T]) -> T:
        """What ``call`` returns, tried again where that can help. Raises ``PushError``."""
        from huggingface_hub.errors import HfHubHTTPError

        # The base of the client's own error is that of its HTTP library, broken connections included.
        failures: tuple[type[Exception], ...] = (OSError, RuntimeError, ValueError, _Moved)
        failures += tuple(kind for kind in HfHubHTTPError.__bases__ if issubclass(kind, Exception))
        for tries in range(1, _TRIES + 1):
            try:
                return call()
            except failures as error:
                wait = _wait(error, tries)
                if wait is None or tries == _TRIES or wait > _LONGEST_WAIT:
                    raise self._refused(what, error) from error
                self._pause(wait)
        raise AssertionError("not reached")

    def _refused(self, what: str, error: BaseException) -> PushError:
        status = _status(error)
        said = without_controls(self._secrets.out_of(str(error))).strip()
        remedy = {
            401: "The token is not valid here: log in with 'hf auth login', or correct HF_TOKEN.",
            403: "The token may not write there: make one that may, or choose another repository.",
            404: "Check the name of the repository, and that the token may see it.",
            429: "The Hub asks to wait. Give the command again later: it continues where it stopped.",
        }.get(status or 0, "Give the command again: it continues where it stopped; main is whole.")
        told = f"it answered {status}" if status else type(error).__name__
        said = said if said.endswith((".", "!", "?")) else f"{said}."
        return PushError(f"{self.repo}: the Hub did not {what} ({told}): {said}", remedy=remedy)


class _Moved(Exception):
    """The Hub says that the parent of a commit is not the last commit."""


class _Wanted:
    """What ``main`` is to hold: our files, and those of before that stay."""

    def __init__(self, files: Sequence[PushedFile], kept: Mapping[str, Remote]) -> None:
        self.files = {file.path: file for file in files}
        self.kept = {path: file for path, file in kept.items() if path not in self.files}
        named = sorted((file.path, file.sha256) for file in files)
        self.digest = hashlib.sha256(repr(named).encode()).hexdigest()[:12]

    def missing(self, there: Mapping[str, Remote]) -> list[PushedFile]:
        """Ours that are not there, or are other bytes."""
        return [f for path, f in self.files.items() if path not in there or not there[path].same_as(f)]

    def surplus(self, there: Mapping[str, Remote]) -> list[str]:
        """What is there and must not be, or differs from what was there before."""
        return [p for p, f in there.items() if p not in self.files and self.kept.get(p) != f]

    def is_in(self, there: Mapping[str, Remote]) -> bool:
        """Whether ``there`` is all of it and nothing else."""
        return not self.missing(there) and not self.surplus(there) and self.kept.keys() <= there.keys()


def _status(error: BaseException) -> int | None:
    """The status of the answer behind an error; a failed upload is wrapped by the client."""
    for one in (error, error.__cause__):
        status = getattr(getattr(one, "response", None), "status_code", None)
        if status is not None:
            return int(status)
    return None


def _wait(error: BaseException, tries: int) -> float | None:
    """Seconds until it is worth trying again; ``None`` if it is not."""
    if isinstance(error, _Moved):
        return 0.0
    status = _status(error)
    if status is None:
        return None if isinstance(error, ValueError | FileNotFoundError) else 2.0 ** (tries - 1)
    if status not in _AGAIN:
        return None
    headers = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    asked = str(getattr(headers, "headers", {}).get("Retry-After", ""))
    return float(asked) if asked.isdigit() else 2.0 ** (tries - 1)
