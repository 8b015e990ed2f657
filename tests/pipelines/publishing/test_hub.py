"""One commit that readers see whole or not at all, whatever the server does."""

from __future__ import annotations

import pytest
from hub_server import TOKEN, HubServer

from gristmill.pipelines.publishing.hub import Hub, Landed, PushedFile, PushError

REPO = "miller/corpus"
FILES = {
    "README.md": b"# Corpus\n",
    "pushes.json": b"{}\n",
    "data/a/train-0.parquet": b"PAR1" * 40,
    "data/a/train-1.parquet": b"PAR1" * 50,
}


def pushed(repo: str = REPO, files=FILES, pause=lambda seconds: None, **options) -> Landed:
    hub = Hub(repo, pause=pause)
    hub.create(private=True)
    head = hub.refs()[0]["main"]
    sent = [PushedFile.of(path, data) for path, data in files.items()]
    return hub.land(sent, head=head, before=hub.files(head), message="Push", **options)


def one_revision(server: HubServer, files=FILES) -> None:
    """Main has exactly the files, one commit behind the first, one tag on it, and no other branch."""
    repo = server.repos[REPO]
    assert server.main(REPO) == files
    assert len(repo.history()) == 2
    assert set(repo.branches) == {"main"}
    assert list(repo.tags.values()) == [repo.branches["main"]]


def test_push_is_one_commit_and_a_tag(server: HubServer) -> None:
    done = pushed()
    one_revision(server)
    assert done == Landed(server.repos[REPO].branches["main"], done.tag, False)
    assert server.repos[REPO].private
    again = pushed()
    assert again == Landed(done.commit, done.tag, True)
    one_revision(server)


def test_what_goes_is_removed_in_the_same_commit(server: HubServer) -> None:
    pushed()
    fewer = {path: data for path, data in FILES.items() if path != "data/a/train-1.parquet"}
    pushed(files=fewer, removed=["data/a/train-1.parquet"])
    assert server.main(REPO) == fewer
    assert len(server.repos[REPO].history()) == 3


def test_files_of_others_stay(server: HubServer) -> None:
    server.write(REPO, {"LICENSE": b"own words"})
    pushed()
    assert server.main(REPO) == {**FILES, "LICENSE": b"own words"}


def requests_of_a_push(server: HubServer) -> int:
    before = len(server.asked)
    pushed("miller/counted")
    return len(server.asked) - before


@pytest.mark.parametrize("faults", [["cut"], ["late"], [500, 503, 429]])
def test_any_request_may_fail_once(server: HubServer, faults: list, monkeypatch) -> None:
    """At each request in turn: main is whole before and after, and the push comes to its end."""
    monkeypatch.setattr("huggingface_hub.utils._http.time", _NoWaiting())
    total = requests_of_a_push(server)
    for at in range(1, total + 1):
        server.repos.clear()
        server.objects.clear()
        server.asked.clear()
        server.fault = lambda number, method, path, at=at: faults[at % len(faults)] if number == at else None
        pushed()
        one_revision(server)


def test_main_is_never_half_of_it(server: HubServer) -> None:
    """Cut off for good at each request, then pushed again."""
    total = requests_of_a_push(server)
    seen = []
    for at in range(1, total + 1):
        server.repos.clear()
        server.objects.clear()
        server.asked.clear()
        server.fault = lambda number, method, path, at=at: 403 if number >= at else None
        with pytest.raises(PushError, match=r"the Hub did not .*[.!?] [A-Z]"):
            pushed()
        seen.append(server.main(REPO) if REPO in server.repos else {})
        assert seen[-1] in ({}, FILES)
        server.fault = lambda number, method, path: None
        pushed()
        one_revision(server)
    assert {} in seen and FILES in seen


def test_a_commit_of_somebody_else_is_not_covered(server: HubServer) -> None:
    def fault(number: int, method: str, path: str) -> None:
        if path.endswith("/commit/main"):
            server.write(REPO, {"theirs.txt": b"first"})

    server.fault = fault
    with pytest.raises(PushError, match="main has moved"):
        pushed()
    assert server.main(REPO) == {"theirs.txt": b"first"}
    server.fault = lambda number, method, path: None
    pushed()
    assert server.main(REPO) == {**FILES, "theirs.txt": b"first"}
    assert set(server.repos[REPO].branches) == {"main"}


def test_a_file_that_arrives_changed_is_not_published(server: HubServer) -> None:
    def fault(number: int, method: str, path: str) -> None:
        if path.endswith("/commit/main"):
            raise AssertionError("committed")
        if "/commit/" in path:
            for oid in server.objects:
                server.objects[oid] = b"other bytes"

    server.fault = fault
    with pytest.raises(PushError, match="is not the file that was uploaded"):
        pushed()
    assert server.main(REPO) == {}


@pytest.mark.parametrize(
    ("status", "remedy"), [(401, "hf auth login"), (403, "may not write"), (404, "Check the name")]
)
def test_refusals_say_what_to_do(server: HubServer, status: int, remedy: str) -> None:
    server.fault = lambda number, method, path: status
    with pytest.raises(PushError, match=remedy) as found:
        pushed()
    assert TOKEN not in str(found.value)
    assert len(server.asked) <= 3  # no point in trying again


def test_waits_as_long_as_the_server_asks(server: HubServer) -> None:
    waits: list[float] = []
    server.retry_after = "7"
    server.fault = lambda number, method, path: 429 if number == 2 else None
    pushed(pause=waits.append)
    assert waits == [7.0]


def test_a_tag_is_never_moved(server: HubServer) -> None:
    pushed(tag="v1")
    with pytest.raises(PushError, match="the tag 'v1'"):
        pushed(files={**FILES, "README.md": b"# Other\n"}, tag="v1")
    one_revision(server)


def test_no_token_and_no_name(server: HubServer, monkeypatch) -> None:
    with pytest.raises(PushError, match="not the name of a repository"):
        Hub("a/b/c")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(PushError, match="there is no token"):
        Hub(REPO)


class _NoWaiting:
    """In place of ``time`` where the client waits between its own tries."""

    @staticmethod
    def sleep(seconds: float) -> None:
        pass

    def __getattr__(self, name: str):
        import time

        return getattr(time, name)
