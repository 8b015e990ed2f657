"""A server on this machine that speaks as much of the Hub's protocol as a push and a download ask for.

Through it goes the client as it is, with ``HF_ENDPOINT``: create, refs, tree, paths-info, branches, tags,
preupload, the LFS batch with uploads, commits, and the files themselves. ``fault`` has it answer wrongly.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_" + "a1B2c3D4e5" * 3
OWNER = "miller"
ATTRIBUTES = b"*.parquet filter=lfs diff=lfs merge=lfs -text\n"


@dataclass(frozen=True)
class Blob:
    data: bytes
    lfs: bool = False

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def pointer(self) -> bytes:
        return (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}\n"
        ).encode()

    @property
    def oid(self) -> str:
        held = self.pointer if self.lfs else self.data
        return hashlib.sha1(b"blob %d\0" % len(held) + held).hexdigest()


@dataclass
class Commit:
    files: dict[str, Blob]
    parent: str | None
    title: str


@dataclass
class Repo:
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def add(self, branch: str, files: dict[str, Blob], title: str) -> str:
        parent = self.branches.get(branch)
        told = json.dumps([parent, title, len(self.commits), sorted((p, b.oid) for p, b in files.items())])
        oid = hashlib.sha1(told.encode()).hexdigest()
        self.commits[oid] = Commit(files, parent, title)
        self.branches[branch] = oid
        return oid

    def at(self, revision: str) -> str | None:
        found = self.branches.get(revision) or self.tags.get(revision)
        return found or next((oid for oid in self.commits if oid.startswith(revision)), None)

    def history(self, branch: str = "main") -> list[str]:
        """Commits of a branch, the last first."""
        oids, at = [], self.branches.get(branch)
        while at is not None:
            oids.append(at)
            at = self.commits[at].parent
        return oids


Fault = Callable[[int, str, str], "int | str | None"]
"""Of a request's number (from 1), method and path: a status to answer, ``cut`` to hang up before anything is
done, ``late`` to do it and hang up without an answer, ``None`` to do what is asked."""


class HubServer:
    """Use as a context manager; ``url`` is its address, ``asked`` has every request."""

    def __init__(self, fault: Fault = lambda number, method, path: None) -> None:
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.fault = fault
        self.lock = threading.RLock()
        self.retry_after = ""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def main(self, repo: str) -> dict[str, bytes]:
        """What readers see, without the attributes."""
        found = self.repos[repo]
        files = found.commits[found.branches["main"]].files
        return {path: blob.data for path, blob in files.items() if path != ".gitattributes"}

    def write(self, repo: str, files: dict[str, bytes], title: str = "by hand") -> str:
        """A commit on main by somebody else."""
        found = self.repos.setdefault(repo, Repo(private=True))
        now = found.commits[found.branches["main"]].files if found.branches else {}
        blobs = {path: Blob(data, path.endswith(".parquet")) for path, data in files.items()}
        return found.add("main", {**now, **blobs}, title)


class _Answer(Exception):
    def __init__(self, status: int, body: Any, code: str = "") -> None:
        super().__init__(status)
        self.status, self.body, self.code = status, body, code


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave together

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def handle(self) -> None:
        with suppress(ConnectionError):  # the one that asked was killed
            super().handle()

    def _serve(self) -> None:
        place = urlsplit(self.path)
        path, self.query = place.path, parse_qs(place.query)
        self.body = self._read()
        with self.hub.lock:
            self.hub.asked.append((self.command, path))
            fault = self.hub.fault(len(self.hub.asked), self.command, path)
            if fault == "cut":
                return self._hang_up()
            try:
                if isinstance(fault, int):
                    raise _Answer(fault, {"error": f"made to answer {fault}"})
                status, body, headers = self._answer(path)
            except _Answer as answer:
                status, body = answer.status, json.dumps(answer.body).encode()
                headers = {"Content-Type": "application/json", "X-Error-Message": "as asked for"}
                if answer.code:
                    headers["X-Error-Code"] = answer.code
                if self.hub.retry_after:
                    headers["Retry-After"] = self.hub.retry_after
        if fault == "late":
            return self._hang_up()
        with suppress(OSError):
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
        return None

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _serve  # noqa: N815

    def _read(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            data = b""
            while size := int(self.rfile.readline().strip() or b"0", 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(2)

    def _answer(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if parts[0] != "objects" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise _Answer(401, {"error": "Invalid username or password."})
        if parts[0] == "objects":
            if hashlib.sha256(self.body).hexdigest() != parts[1]:
                raise _Answer(400, {"error": "other content"})
            self.hub.objects[parts[1]] = self.body
            return 200, b"", {}
        if parts[:1] == ["datasets"] and parts[3:6] == ["info", "lfs", "objects"]:
            return self._json(self._batch())
        if parts[:1] == ["datasets"] and parts[3:4] == ["resolve"]:
            return self._resolve(self._repo(parts[1:3]), parts[4], "/".join(parts[5:]))
        if parts == ["api", "repos", "create"]:
            return self._create()
        if parts[:2] == ["api", "validate-yaml"]:
            return self._json({"errors": [], "warnings": []})
        if parts[:2] != ["api", "datasets"]:
            raise _Answer(404, {"error": f"not served: {path}"})
        repo, what = self._repo(parts[2:4]), parts[4] if len(parts) > 4 else "info"
        return self._json(getattr(self, f"_{what.replace('-', '_')}")(repo, *parts[5:]))

    @staticmethod
    def _json(body: Any) -> tuple[int, bytes, dict[str, str]]:
        return 200, json.dumps(body).encode(), {"Content-Type": "application/json"}

    def _repo(self, name: list[str]) -> Repo:
        found = self.hub.repos.get("/".join(name))
        if found is None:
            raise _Answer(404, {"error": "Repository not found"}, "RepoNotFound")
        return found

    def _oid(self, repo: Repo, revision: str) -> str:
        found = repo.at(revision)
        if found is None:
            raise _Answer(404, {"error": "Invalid rev id"}, "RevisionNotFound")
        return found

    def _create(self) -> tuple[int, bytes, dict[str, str]]:
        asked = json.loads(self.body)
        name = f"{asked.get('organization') or OWNER}/{asked['name']}"
        told = {"url": f"{self.hub.url}/datasets/{name}", "name": name}
        if name in self.hub.repos:
            raise _Answer(409, told | {"error": "You already created this dataset repo"})
        repo = self.hub.repos[name] = Repo(asked.get("visibility") == "private" or bool(asked.get("private")))
        repo.add("main", {".gitattributes": Blob(ATTRIBUTES)}, "initial commit")
        return self._json(told)

    def _info(self, repo: Repo, *rest: str) -> Any:
        return self._revision(repo, "main")

    def _revision(self, repo: Repo, revision: str) -> Any:
        oid = self._oid(repo, revision)
        name = next(n for n, r in self.hub.repos.items() if r is repo)
        siblings = [{"rfilename": path} for path in repo.commits[oid].files]
        return {"id": name, "sha": oid, "private": repo.private, "siblings": siblings, "tags": []}

    def _refs(self, repo: Repo) -> Any:
        def told(refs: dict[str, str], kind: str) -> list[dict[str, str]]:
            return [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": c} for n, c in refs.items()]

        return {
            "branches": told(repo.branches, "heads"),
            "tags": told(repo.tags, "tags"),
            "converts": [],
        }

    @staticmethod
    def _entry(path: str, blob: Blob) -> dict[str, Any]:
        entry = {"type": "file", "path": path, "size": len(blob.data), "oid": blob.oid}
        if blob.lfs:
            lfs = {"oid": blob.sha256, "size": len(blob.data), "pointerSize": len(blob.pointer)}
            entry["lfs"] = lfs  # type: ignore[assignment]
        return entry

    def _tree(self, repo: Repo, revision: str, *rest: str) -> Any:
        files = repo.commits[self._oid(repo, revision)].files
        folders = {path.rpartition("/")[0] for path in files} - {""}
        listed: list[Any] = [{"type": "directory", "path": f, "oid": "0" * 40} for f in sorted(folders)]
        return listed + [self._entry(path, blob) for path, blob in sorted(files.items())]

    def _paths_info(self, repo: Repo, revision: str) -> Any:
        files = repo.commits[self._oid(repo, revision)].files
        given = parse_qs(self.body.decode())
        return [self._entry(p, files[p]) for p in given.get("paths", []) if p in files]

    def _branch(self, repo: Repo, name: str) -> Any:
        if self.command == "DELETE":
            if repo.branches.pop(name, None) is None:
                raise _Answer(404, {"error": "Invalid rev id"}, "RevisionNotFound")
            return {}
        if name in repo.branches:
            raise _Answer(409, {"error": "Reference already exists"})
        start = json.loads(self.body or b"{}").get("startingPoint") or "main"
        repo.branches[name] = self._oid(repo, start)
        return {}

    def _tag(self, repo: Repo, revision: str) -> Any:
        tag = json.loads(self.body)["tag"]
        if tag in repo.tags:
            raise _Answer(409, {"error": "Tag reference exists already"})
        repo.tags[tag] = self._oid(repo, revision)
        return {}

    def _preupload(self, repo: Repo, revision: str) -> Any:
        now = repo.commits[self._oid(repo, revision)].files
        files = []
        for file in json.loads(self.body)["files"]:
            large = file["path"].endswith(".parquet")
            held = now.get(file["path"])
            told = {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            if held is not None:
                told["oid"] = held.sha256 if held.lfs else held.oid
            files.append(told)
        return {"files": files}

    def _batch(self) -> Any:
        objects = []
        for one in json.loads(self.body)["objects"]:
            told: dict[str, Any] = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.hub.objects:
                told["actions"] = {"upload": {"href": f"{self.hub.url}/objects/{one['oid']}"}}
            objects.append(told)
        return {"transfer": "basic", "objects": objects}

    def _commit(self, repo: Repo, branch: str) -> Any:
        lines = [json.loads(line) for line in self.body.splitlines()]
        header = lines[0]["value"]
        parent = repo.branches.get(branch)
        if parent is None:
            raise _Answer(404, {"error": "Invalid rev id"}, "RevisionNotFound")
        if header.get("parentCommit") not in (None, parent):
            raise _Answer(412, {"error": "A commit has happened since. Please refresh and try again."})
        files = dict(repo.commits[parent].files)
        for line in lines[1:]:
            kind, value = line["key"], line["value"]
            if kind == "deletedFile":
                if files.pop(value["path"], None) is None:
                    raise _Answer(400, {"error": f"no such file: {value['path']}"})
            elif kind == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]))
            elif value["oid"] not in self.hub.objects:
                raise _Answer(400, {"error": f"no such object: {value['oid']}"})
            else:
                files[value["path"]] = Blob(self.hub.objects[value["oid"]], lfs=True)
        oid = repo.add(branch, files, header["summary"])
        return {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/datasets/x/y/commit/{oid}"}

    def _resolve(self, repo: Repo, revision: str, path: str) -> tuple[int, bytes, dict[str, str]]:
        oid = self._oid(repo, revision)
        blob = repo.commits[oid].files.get(path)
        if blob is None:
            raise _Answer(404, {"error": "Entry not found"}, "EntryNotFound")
        headers = {"X-Repo-Commit": oid, "ETag": f'"{blob.sha256 if blob.lfs else blob.oid}"'}
        return 200, blob.data, headers
