"""Disks that are really full: a small disk in memory, and a real limit on the size of files."""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from impasto.engine import checkpoint
from impasto.errors import DiskError
from impasto.events import EventLog, Noted
from impasto.runs.folder import RunFolder
from impasto.store import Store
from tests.files import faults

SIZE = 400_000
SHARES = [0.0, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0, 1.2, 1.6, 2.0, 3.0]
NEW_NAMESPACE, PRIVATE, REMOUNT = 0x20000, 0x44000, 0x20
NOT_ALLOWED = 77


def save(run: RunFolder, step: int) -> None:
    group = {"weight": torch.full((SIZE // 8,), float(step))}
    checkpoint.save(run, step, {"adapter": group, "optimizer": group}, {"step": step})


def newest(run: RunFolder) -> int:
    found, refused = checkpoint.latest(run)
    assert found is not None
    assert not refused
    assert all(torch.all(group["weight"] == found.step) for group in found.tensors.values())
    return found.step


def mount(folder: Path, size: int, flags: int = 0) -> bool:
    system = ctypes.CDLL(None)
    options = f"size={size}".encode()
    return bool(system.mount(b"tmpfs", str(folder).encode(), b"tmpfs", flags, options) == 0)


def own_mounts() -> bool:
    system = ctypes.CDLL(None)
    if not hasattr(system, "unshare") or system.unshare(NEW_NAMESPACE) != 0:
        return False
    return bool(system.mount(b"none", b"/", None, PRIVATE, None) == 0)


def fill_up(run: RunFolder, cache: Store, make_room: Callable[[], object]) -> None:
    """Save, keep and tell on a disk that may have no room: what was there stays, and later all goes on."""
    told = ""
    try:
        save(run, 20)
    except DiskError as full:
        told = str(full)
    assert not told or "bytes are needed" in told
    assert newest(run) == (10 if told else 20)
    assert not faults.leftovers(run.path)
    try:
        cache.put({"kind": "latents"}, bytes(SIZE // 2))
    except DiskError:
        assert cache.get({"kind": "latents"}) is None
        assert not faults.leftovers(cache.root)
    with EventLog(run.events) as log:
        for _ in range(100):
            log.write(Noted(text="x" * 5000))
        dropped = log.dropped
        make_room()
        log.write(Noted(text="room again"))
        assert log.read()[-1].kind == ("warned" if dropped else "noted")
    save(run, 20)
    assert newest(run) == 20


@pytest.mark.parametrize("share", SHARES)
def test_a_full_disk_destroys_nothing_and_work_goes_on_when_there_is_room(tmp_path: Path, share: float) -> None:
    def work() -> None:
        if not own_mounts() or not mount(tmp_path, int(1.05 * SIZE + share * SIZE)):
            os._exit(NOT_ALLOWED)
        run = RunFolder.create(tmp_path / "run", 'name = "a"', {})
        save(run, 10)
        assert newest(run) == 10
        fill_up(run, Store(tmp_path / "store"), lambda: mount(tmp_path, 10 * SIZE, REMOUNT))

    code = faults.in_child(work)
    if code == NOT_ALLOWED:
        pytest.skip("only the superuser can make a small disk")
    assert code == 0


@pytest.mark.parametrize("share", SHARES[1:])
def test_a_limit_on_files_destroys_nothing(tmp_path: Path, share: float) -> None:
    def work() -> None:
        run = RunFolder.create(tmp_path / "run", 'name = "a"', {})
        save(run, 10)
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * SIZE / 2), most))
        fill_up(
            run,
            Store(tmp_path / "store"),
            lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)),
        )

    assert faults.in_child(work) == 0
