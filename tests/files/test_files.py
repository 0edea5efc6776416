"""Files are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from impasto import files
from impasto.errors import DiskError
from tests.files import faults

OLD, NEW = b"old" * 1000, b"new" * 1500


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> faults.Disk:
    disk = faults.Disk()
    monkeypatch.setattr(files, "System", disk)
    return disk


def test_a_file_is_synced_then_renamed_then_its_folder_is_synced(tmp_path: Path, disk: faults.Disk) -> None:
    files.write(tmp_path / "a", NEW)

    assert [name for name, _ in disk.calls] == [
        "open", "write", "fsync", "close", "rename", "open", "fsync", "close",
    ]  # fmt: skip
    assert disk.calls[-2] == ("fsync", tmp_path)
    assert disk.calls[2][1].parent == tmp_path
    assert (tmp_path / "a").read_bytes() == NEW


def test_a_path_to_fill_becomes_the_file_in_the_same_order(tmp_path: Path, disk: faults.Disk) -> None:
    with files.replacing(tmp_path / "a") as path:
        path.write_bytes(NEW)

    assert [name for name, _ in disk.calls] == ["open", "fsync", "close", "rename", "open", "fsync", "close"]
    assert (tmp_path / "a").read_bytes() == NEW


def test_a_path_to_fill_is_gone_when_filling_it_fails(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(OLD)

    def fill() -> None:
        with files.replacing(tmp_path / "a") as path:
            path.write_bytes(NEW)
            raise KeyError

    with pytest.raises(KeyError):
        fill()

    assert (tmp_path / "a").read_bytes() == OLD
    assert not faults.leftovers(tmp_path)


@pytest.mark.parametrize("fault", [faults.killed, faults.killed_half_way, faults.power_cut])
def test_killed_at_any_call_the_file_is_old_or_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: faults.Fault
) -> None:
    path = tmp_path / "a"
    for at in range(1, 9):
        path.write_bytes(OLD)
        monkeypatch.setattr(files, "System", faults.Disk(at, fault))

        assert faults.in_child(lambda: files.write(path, NEW)) == faults.KILLED

        assert path.read_bytes() in (OLD, NEW)
        monkeypatch.undo()
        files.sweep(tmp_path, now=time.time())
        assert not faults.leftovers(tmp_path), "the dead leave nothing behind"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.ESTALE])
def test_a_failing_call_leaves_the_file_old_or_new_and_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "a"
    for at in range(1, 9):
        path.write_bytes(OLD)
        monkeypatch.setattr(files, "System", faults.Disk(at, faults.error(number)))

        with pytest.raises(DiskError) as caught:
            files.write(path, NEW)

        assert path.read_bytes() in (OLD, NEW)
        assert str(path) in str(caught.value)
        assert caught.value.problems[0].fix
        assert not faults.leftovers(tmp_path)


def test_a_full_disk_is_told_with_needed_and_free_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "System", faults.Disk(1, faults.full(errno.ENOSPC), from_then_on=True))

    with pytest.raises(DiskError, match=r"E-DSK-001 .*/a: the disk is full: 4,500 bytes are needed, [\d,]+ bytes are"):
        files.write(tmp_path / "a", NEW)


def test_an_interrupted_call_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for at in (1, 2, 3, 5, 6, 7):
        monkeypatch.setattr(files, "System", faults.Disk(at, faults.error(errno.EINTR)))
        files.write(tmp_path / f"{at}", NEW)
        assert (tmp_path / f"{at}").read_bytes() == NEW


def test_a_disk_that_takes_a_little_at_a_time_gets_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.System, "write", staticmethod(lambda fd, data: os.write(fd, data[:7])))

    files.write(tmp_path / "a", OLD, NEW)

    assert files.read(tmp_path / "a") == OLD + NEW


def test_what_is_in_the_way_gets_the_next_free_number(tmp_path: Path) -> None:
    for _ in range(2):
        (tmp_path / "run").mkdir()
        moved = files.aside(tmp_path / "run")

    assert moved.name == "run.old-2"
    assert {path.name for path in tmp_path.iterdir()} == {"run.old-1", "run.old-2"}


def test_a_sweep_spares_the_living_and_takes_the_dead_and_the_old(tmp_path: Path) -> None:
    mine = files.temporary(tmp_path / "a")
    foreign = tmp_path / ".tmp-cafecafe-1-abc"
    mine.touch()
    foreign.touch()
    assert faults.in_child(lambda: files.temporary(tmp_path / "a").mkdir()) == 0

    files.sweep(tmp_path, now=time.time())
    assert set(faults.leftovers(tmp_path)) == {mine, foreign}

    files.sweep(tmp_path, now=time.time() + 2 * files.DAY)
    assert faults.leftovers(tmp_path) == [mine], "of another machine, nobody knows better than its age"

    files.clear(tmp_path)
    assert not faults.leftovers(tmp_path)


def test_a_file_that_reads_badly_is_a_fault_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(OLD)
    monkeypatch.setattr(files, "System", faults.Disk(2, faults.error(errno.EIO)))

    with pytest.raises(DiskError, match="E-DSK-005"):
        files.read(tmp_path / "a")


def test_folders_are_durable_from_the_top(tmp_path: Path, disk: faults.Disk) -> None:
    files.make_folder(tmp_path / "a" / "b")

    made = [(name, path) for name, path in disk.calls if name in ("mkdir", "fsync")]
    assert made == [
        ("mkdir", tmp_path / "a"),
        ("fsync", tmp_path),
        ("mkdir", tmp_path / "a" / "b"),
        ("fsync", tmp_path / "a"),
    ]
