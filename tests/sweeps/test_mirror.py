"""A storage holds whole moments of a folder, whoever writes and whoever is killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from impasto import files
from impasto.errors import ConfigError, DiskError
from impasto.sweeps.mirror import Mirror, Superseded

RUN = ["run"]


@pytest.fixture(params=["folder", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A folder, and a store of objects as S3 is one: no folders, no rename."""
    yield str(tmp_path / "storage") if request.param == "folder" else "memory://bucket/sweeps"
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def filled(root: Path, step: int) -> Path:
    """A run after a step: what it told, and one checkpoint."""
    folder = root / "run" / "checkpoints" / f"{step:08d}"
    folder.mkdir(parents=True)
    (folder / "state.safetensors").write_bytes(b"state" * step)
    (folder / "done").write_bytes(b"")
    with (root / "run" / "events.jsonl").open("a") as events:
        events.write(f"{step}\n")
    (root / "run" / "lock").write_text("mine")
    files.temporary(root / "run" / "half").write_bytes(b"half")
    return folder


def held(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_what_is_kept_comes_back_as_it_was_and_what_is_gone_goes(storage: str, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    mine, theirs = Mirror(storage, "sweep/0", attempt=1), Mirror(storage, "sweep/0")
    assert theirs.pull(there, RUN) is False
    first = filled(here, 1)
    mine.push(here, RUN)
    assert theirs.pull(there, RUN) is True
    assert theirs.pull(there, RUN) is False
    assert held(there) == {
        "run/checkpoints/00000001/done": b"",
        "run/checkpoints/00000001/state.safetensors": b"state",
        "run/events.jsonl": b"1\n",
    }
    filled(here, 2)
    files.remove(first)
    mine.push(here, RUN)
    (there / "run" / "lock").write_text("theirs")
    assert theirs.pull(there, RUN) is True
    assert held(there) == {
        "run/checkpoints/00000002/done": b"",
        "run/checkpoints/00000002/state.safetensors": b"statestate",
        "run/events.jsonl": b"1\n2\n",
        "run/lock": b"theirs",
    }
    assert not (there / "run" / "checkpoints" / "00000001").exists()


def test_what_no_index_names_any_more_is_dropped(storage: str, tmp_path: Path) -> None:
    mirror = Mirror(storage, "sweep/0", attempt=1)
    before = None
    for step in range(1, 8):
        after = filled(tmp_path, step)
        if before:
            files.remove(before)
        before = after
        mirror.push(tmp_path, RUN)
        mirror.push(tmp_path, RUN)  # nothing has changed
    names = {name.rpartition("/")[2] for name in mirror._fs.find(mirror._root)}
    assert sorted(name for name in names if name.startswith("index")) == [
        "index-0001-000005.json", "index-0001-000006.json",
    ]  # fmt: skip
    assert len(names) == 2 + 2 * 2 + 1  # of two moments: what was told, the state; and one empty file


def test_a_machine_that_was_thought_lost_cannot_undo_what_was_done_in_its_place(storage: str, tmp_path: Path) -> None:
    lost, other = Mirror(storage, "sweep/0", attempt=1), Mirror(storage, "sweep/0", attempt=2)
    filled(tmp_path / "lost", 1)
    lost.push(tmp_path / "lost", RUN)
    other.pull(tmp_path / "other", RUN)
    other.push(tmp_path / "other", RUN)
    filled(tmp_path / "lost", 2)
    with pytest.raises(Superseded):
        lost.push(tmp_path / "lost", RUN)
    newest = Mirror(storage, "sweep/0").newest()
    assert newest is not None
    assert (newest.attempt, newest.files) == (2, newest.files)
    assert "run/checkpoints/00000002/done" not in newest.files


def test_an_index_that_is_half_written_is_none(storage: str, tmp_path: Path) -> None:
    mirror = Mirror(storage, "sweep/0", attempt=1)
    filled(tmp_path / "here", 1)
    mirror.push(tmp_path / "here", RUN)
    mirror._fs.pipe_file(f"{mirror._root}/index-0001-000001.json", b'{"attempt": 1, "num')
    reader = Mirror(storage, "sweep/0")
    assert reader.pull(tmp_path / "there", RUN)
    assert (tmp_path / "there" / "run" / "events.jsonl").read_text() == "1\n"


def test_a_file_that_is_damaged_on_the_storage_is_not_taken_for_good(storage: str, tmp_path: Path) -> None:
    mirror = Mirror(storage, "sweep/0", attempt=1)
    filled(tmp_path / "here", 1)
    mirror.push(tmp_path / "here", RUN)
    newest = mirror.newest()
    assert newest is not None
    mirror._fs.pipe_file(f"{mirror._root}/blobs/{newest.files['run/events.jsonl']}", b"0\n")
    with pytest.raises(DiskError, match="E-SWP-010"):
        Mirror(storage, "sweep/0").pull(tmp_path / "there", RUN)
    assert not (tmp_path / "there" / "run" / "events.jsonl").exists()


def test_a_storage_of_no_known_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="E-SWP-009"):
        Mirror("nosuch://bucket", "sweep/0")
