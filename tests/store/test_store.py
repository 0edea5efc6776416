"""A store gives back what was put, or nothing: never something else, whatever happens to its files."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import struct
import time
from functools import partial
from pathlib import Path

import pytest

from impasto import files, store
from impasto.errors import DiskError
from impasto.store import Recipe, Store
from tests.files import faults


def recipe(number: int) -> Recipe:
    return {"kind": "latents", "picture": f"{number:04d}", "size": [64, 64 + number]}


def payload(number: int, size: int = 4096) -> bytes:
    return random.Random(number).randbytes(size)


@pytest.fixture
def cache(tmp_path: Path) -> Store:
    """A store with 20 results."""
    cache = Store(tmp_path / "store")
    for number in range(20):
        cache.put(recipe(number), payload(number))
    return cache


def test_what_was_put_comes_back_and_what_was_not_does_not(cache: Store) -> None:
    assert cache.get(recipe(7)) == payload(7)
    assert cache.get(recipe(99)) is None


def test_any_other_recipe_is_another_result(cache: Store) -> None:
    other = {"size": [64, 71], "picture": "0007", "kind": "latents"}
    assert cache.get(other) == payload(7), "order does not matter"
    for changed in ({**other, "size": [64, 72]}, {**other, "flip": False}, {**other, "kind": "text"}):
        assert cache.get(changed) is None


def test_a_result_is_made_once(cache: Store) -> None:
    made = []

    def make() -> bytes:
        made.append(1)
        return b"result"

    assert [cache.fetch(recipe(50), make) for _ in range(3)] == [b"result"] * 3
    assert len(made) == 1


def test_what_is_missing_is_told_at_once(cache: Store) -> None:
    wanted = [recipe(number) for number in range(30)]
    assert cache.missing(wanted) == wanted[20:]


def test_the_same_name_for_the_same_recipe_for_ever() -> None:
    """Another name would throw away everybody's store."""
    assert store.key(recipe(1)) == "15bc993bf061d170ce811274cac621350b55b40dec1c5128248343bf4b86452a"


def truncate(path: Path, other: Path, dice: random.Random) -> None:
    os.truncate(path, dice.randrange(path.stat().st_size))


def flip(path: Path, other: Path, dice: random.Random) -> None:
    blob = bytearray(path.read_bytes())
    blob[dice.randrange(len(blob))] ^= 1 << dice.randrange(8)
    path.write_bytes(blob)


def zero(path: Path, other: Path, dice: random.Random) -> None:
    blob = bytearray(path.read_bytes())
    start = dice.randrange(len(blob) - 16)
    blob[start : start + 512] = bytes(len(blob[start : start + 512]))
    path.write_bytes(blob)


def swap(path: Path, other: Path, dice: random.Random) -> None:
    shutil.copy(other, path)


def lie(path: Path, other: Path, dice: random.Random) -> None:
    """A head that claims a payload, or a recipe, of any size."""
    blob = bytearray(path.read_bytes())
    if dice.random() < 0.5:
        struct.pack_into("<Q", blob, 16, dice.randrange(1 << 63))
    else:
        struct.pack_into("<I", blob, 12, dice.randrange(1 << 31))
    path.write_bytes(blob)


def lengthen(path: Path, other: Path, dice: random.Random) -> None:
    path.write_bytes(path.read_bytes() + dice.randbytes(dice.randrange(1, 64)))


def foreign(path: Path, other: Path, dice: random.Random) -> None:
    path.write_bytes(dice.choice([b"", b"\x89PNG\r\n", dice.randbytes(5000), b"<html>", b"\0" * 5000]))


def later(path: Path, other: Path, dice: random.Random) -> None:
    """A later form."""
    blob = bytearray(path.read_bytes())
    struct.pack_into("<I", blob, 8, 2)
    path.write_bytes(blob)


FAULTS = [truncate, flip, zero, swap, lie, lengthen, foreign, later]


def test_each_of_400_faults_is_found_and_made_good(cache: Store) -> None:
    dice = random.Random(0)
    for case in range(400):
        number = dice.randrange(20)
        path = cache.path(recipe(number))
        FAULTS[case % len(FAULTS)](path, cache.path(recipe((number + 1) % 20)), dice)

        assert cache.get(recipe(number)) is None, FAULTS[case % len(FAULTS)].__name__
        if case % 20 == 0:
            assert [problem.where for problem in cache.verify()] == [str(path)]
        assert cache.fetch(recipe(number), partial(payload, number)) == payload(number)
        assert cache.get(recipe(number)) == payload(number)
    assert cache.verify() == []


def test_a_disk_that_cannot_read_a_result_only_costs_the_time_to_make_it(
    cache: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "System", faults.Disk(2, faults.error(errno.EIO)))
    assert cache.fetch(recipe(3), lambda: payload(3)) == payload(3)


@pytest.mark.parametrize("fault", [faults.killed, faults.killed_half_way, faults.power_cut])
def test_killed_at_any_call_a_result_is_whole_or_absent(
    cache: Store, monkeypatch: pytest.MonkeyPatch, fault: faults.Fault
) -> None:
    disk = faults.Disk()
    monkeypatch.setattr(files, "System", disk)
    cache.put({"kind": "text", "at": 0}, payload(0))
    assert disk.count > 8

    for at in range(1, disk.count + 1):
        shutil.rmtree(cache.root / "text", ignore_errors=True)
        monkeypatch.setattr(files, "System", faults.Disk(at, fault, forked=False))
        with pytest.raises(faults.Gone):
            cache.put({"kind": "text", "at": 0}, payload(0))
        monkeypatch.undo()
        assert cache.get({"kind": "text", "at": 0}) in (None, payload(0))
        assert cache.fetch({"kind": "text", "at": 0}, lambda: payload(0)) == payload(0)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_no_room_for_a_result_is_told_and_leaves_nothing(
    cache: Store, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    for at in (3, 4):
        disk = faults.Disk(at, faults.error(number))
        monkeypatch.setattr(files, "System", disk)
        with pytest.raises(DiskError) as caught:
            cache.put(recipe(1), b"x" * 1000)
        assert caught.value.exit_code == 6
        monkeypatch.undo()
    assert not faults.leftovers(cache.root)
    assert cache.get(recipe(1)) == payload(1)


def test_writers_may_be_killed_at_any_moment(tmp_path: Path) -> None:
    cache = Store(tmp_path)
    dice = random.Random(0)
    made = 0

    def write_for_ever() -> None:
        for number in range(10_000):
            cache.put(recipe(number % 50), payload(number % 50, 20_000))

    for _ in range(12):
        writer = faults.start(write_for_ever)
        time.sleep(dice.uniform(0.02, 0.06))
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        made = sum(cache.get(recipe(number)) == payload(number, 20_000) for number in range(50))
        assert cache.verify() == []

    assert made > 0
    cache.sweep()
    assert not faults.leftovers(cache.root)


def test_eight_processes_make_every_result_once(tmp_path: Path) -> None:
    cache = Store(tmp_path / "store")
    tally = os.open(tmp_path / "tally", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def make(number: int) -> bytes:
        os.write(tally, b".")
        time.sleep(0.001)
        return payload(number)

    def work(seed: int) -> None:
        order = random.Random(seed).sample(range(40), 30)
        for number in order:
            assert cache.fetch(recipe(number), partial(make, number)) == payload(number)

    workers = [faults.start(partial(work, seed)) for seed in range(8)]
    time.sleep(0.05)
    for worker in workers[:4]:
        os.kill(worker, signal.SIGKILL)
    ends = [os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) for worker in workers]

    assert ends[4:] == [0] * 4
    assert (tmp_path / "tally").stat().st_size <= 40 + 4, "one each, and one each for the killed"
    assert cache.verify() == []
    cache.sweep()
    assert not faults.leftovers(cache.root)
    os.close(tally)


def test_entries_tell_what_is_there(cache: Store) -> None:
    entries = list(cache.entries())

    assert len(entries) == 20
    assert {entry.kind for entry in entries} == {"latents"}
    assert sorted(str(entry.recipe["picture"]) for entry in entries) == [f"{number:04d}" for number in range(20)]
    assert all(entry.path == cache.path(entry.recipe) for entry in entries)


def test_a_sweep_spares_what_a_run_needs(cache: Store) -> None:
    swept = cache.sweep(keep=[recipe(number) for number in range(5)])

    assert swept.blobs == 15
    assert swept.size > 15 * 4096
    assert len(list(cache.entries())) == 5


def test_a_sweep_by_age_spares_what_was_used_lately(tmp_path: Path) -> None:
    now = [time.time()]
    cache = Store(tmp_path, clock=lambda: now[0])
    for number in range(3):
        cache.put(recipe(number), payload(number))

    now[0] += 20 * files.DAY
    cache.get(recipe(1))
    now[0] += 20 * files.DAY

    assert cache.sweep(older_than_days=30).blobs == 2
    assert cache.get(recipe(1)) == payload(1)
    assert cache.sweep().blobs == 0


def test_a_fingerprint_is_taken_once_and_again_when_the_file_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"red")
    cache = Store(tmp_path / "store", clock=lambda: time.time() + 10)
    red = files.sha256(picture)
    before = picture.stat()
    taken = []
    take = files.sha256

    def counted(path: Path) -> str:
        taken.append(path)
        return take(path)

    monkeypatch.setattr(files, "sha256", counted)

    assert [cache.fingerprint(picture) for _ in range(3)] == [red] * 3
    assert len(taken) == 1

    time.sleep(0.01)
    picture.write_bytes(b"tan")
    os.utime(picture, ns=(before.st_atime_ns, before.st_mtime_ns))  # other pixels, same size, same date
    assert cache.fingerprint(picture) != red


def test_a_file_changed_a_moment_ago_is_not_remembered(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"red")
    cache = Store(tmp_path / "store")

    cache.fingerprint(picture)

    assert list(cache.entries()) == []


@pytest.mark.parametrize(
    ("environ", "platform", "expected"),
    [
        ({"XDG_CACHE_HOME": "/fast", "HOME": "/home/ann"}, "linux", "/fast/impasto"),
        ({"XDG_CACHE_HOME": "not/absolute", "HOME": "/home/ann"}, "linux", "/home/ann/.cache/impasto"),
        ({"HOME": "/home/ann"}, "linux", "/home/ann/.cache/impasto"),
        ({"HOME": "/Users/ann"}, "darwin", "/Users/ann/Library/Caches/impasto"),
        ({"HOME": "/c/ann", "LOCALAPPDATA": "/c/ann/Local"}, "win32", "/c/ann/Local/impasto/cache"),
    ],
)
def test_the_store_is_where_the_system_keeps_such_things(environ: dict[str, str], platform: str, expected: str) -> None:
    assert store.default_root(environ, platform) == Path(expected)
