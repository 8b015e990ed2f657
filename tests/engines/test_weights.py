from __future__ import annotations

import os
from pathlib import Path

import pytest

from gristmill.engines import weights
from gristmill.engines.weights import file_identity, folder_identity


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory of its own, in which the digest of any file is kept at once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "_REMEMBERED", 1)
    monkeypatch.setattr(weights, "_SETTLED_NS", -1)
    return tmp_path / "cache" / "gristmill" / "weights"


def test_any_byte_of_a_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_BLOCK", 1000)
    monkeypatch.setattr(weights, "_CHUNK", 300)
    path, data = tmp_path / "m.gguf", bytearray(os.urandom(5555))
    path.write_bytes(data)
    name = file_identity(path)
    for at in (0, 299, 300, 999, 1000, 2777, 5554):
        data[at] ^= 1
        path.write_bytes(data)
        assert file_identity(path) != name, at
        data[at] ^= 1
    path.write_bytes(data)
    assert file_identity(path) == name
    path.write_bytes(data + b"\0")
    assert file_identity(path) != name


def test_a_layer_in_the_middle_of_a_large_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(20 << 20))
    name = file_identity(path)
    with path.open("r+b") as file:  # as training of the upper layers does
        file.seek(10 << 20)
        file.write(b"\1")
    assert file_identity(path) != name


def test_a_file_that_has_not_changed_is_not_read_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF1")
    name = file_identity(path)
    monkeypatch.setattr(weights, "_block", lambda *_: pytest.fail("the file was read again"))
    assert file_identity(path) == name
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "_REMEMBERED", 1)
    times = path.stat()
    path.write_bytes(b"GGUF2")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # of the same size and time
    assert file_identity(path) != name


def test_a_damaged_cache_or_none_costs_only_time(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF1")
    name = file_identity(path)
    (kept,) = cache.iterdir()
    kept.write_bytes(b"\xff[1")
    assert file_identity(path) == name
    kept.unlink()
    cache.rmdir()
    cache.touch()  # where the directory should be
    assert file_identity(path) == name


def test_a_directory_is_known_by_the_names_and_contents_of_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model-00001.safetensors").write_bytes(b"one")
    (folder / "config.json").write_text("{}")
    (folder / "notes.md").write_text("1")
    patterns = ("*.safetensors", "*.json", "config.*")
    names = [folder_identity(folder, patterns)]
    (folder / "notes.md").write_text("2")
    assert folder_identity(folder, patterns) == names[0]
    (folder / "config.json").write_text('{"rope_theta": 10}')
    names.append(folder_identity(folder, patterns))
    (folder / "model-00001.safetensors").rename(folder / "model-00002.safetensors")
    names.append(folder_identity(folder, patterns))
    assert len(set(names)) == 3
