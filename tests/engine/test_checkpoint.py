"""A checkpoint is whole or does not exist, and there is always one to go on from."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from impasto import files
from impasto.engine import checkpoint
from impasto.engine.checkpoint import Checkpoint
from impasto.errors import DiskError, DivergedError, ModelFileError
from impasto.files import JSON
from impasto.runs.folder import RunFolder
from tests.files import faults
from tests.files.faults import Disk

ERRORS = [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT]


def tensors(step: int) -> dict[str, dict[str, Tensor]]:
    """Every number tells its step, so that a mixed set cannot pass for a whole one."""
    return {
        "adapter": {"down": torch.full((4, 3), float(step)), "up": torch.full((3,), step, dtype=torch.bfloat16)},
        "optimizer": {"moment": torch.full((12,), step / 7), "count": torch.tensor(step)},
        "ema": {"down": torch.full((4, 3), step + 0.5)},
    }


def state(step: int) -> dict[str, JSON]:
    return {"step": step, "note": f"step {step}"}


def save(run: RunFolder, step: int) -> Path:
    return checkpoint.save(run, step, tensors(step), state(step), {"adapter": {"made_at": str(step)}})


def is_of(found: Checkpoint, step: int) -> bool:
    expected = tensors(step)
    same = all(
        torch.equal(found.tensors[stem][name], value)
        for stem, group in expected.items()
        for name, value in group.items()
    )
    return same and found.tensors.keys() == expected.keys() and found.state == state(step) and found.step == step


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with checkpoints of steps 10 and 20."""
    run = RunFolder.create(tmp_path / "run", 'name = "anna"\n', {})
    save(run, 10)
    save(run, 20)
    return run


def copies(run: RunFolder, calls: int) -> Iterator[tuple[int, RunFolder]]:
    """A fresh copy of the run for each call that can go wrong."""
    for at in range(1, calls + 1):
        copy = run.path.with_name(f"{at}")
        shutil.copytree(run.path, copy)
        yield at, RunFolder(copy)
        shutil.rmtree(copy)


def calls_of_a_save(run: RunFolder, step: int) -> list[tuple[str, Path]]:
    copy = RunFolder(run.path.with_name("counted"))
    shutil.copytree(run.path, copy.path)
    disk = Disk()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "System", disk)
        save(copy, step)
    return disk.calls


def check_survived(run: RunFolder, before: int, after: int) -> None:
    found, refused = checkpoint.latest(run)
    assert found is not None
    assert is_of(found, before) or is_of(found, after)
    assert not refused, "what a crash leaves is not taken for a checkpoint"
    with run.hold():
        assert not faults.leftovers(run.path), "the next start clears up"


def check_goes_on(run: RunFolder, before: int, after: int) -> None:
    check_survived(run, before, after)
    save(run, after)
    found, refused = checkpoint.latest(run)
    assert found is not None
    assert is_of(found, after)
    assert not refused
    assert sorted(path.name for path in run.checkpoints.iterdir()) == [f"{before:08d}", f"{after:08d}"]


def test_killed_at_any_call_of_a_save_the_run_can_go_on(run: RunFolder) -> None:
    calls = calls_of_a_save(run, 30)
    assert len(calls) >= 40

    for at, copy in copies(run, len(calls)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "System", Disk(at, faults.killed))
            assert faults.in_child(partial(save, copy, 30)) == faults.KILLED
        check_goes_on(copy, 20, 30)


@pytest.mark.parametrize("fault", [faults.killed_half_way, faults.power_cut])
def test_half_a_write_or_a_power_cut_loses_nothing_that_was_there(run: RunFolder, fault: faults.Fault) -> None:
    calls = calls_of_a_save(run, 30)

    for at, copy in copies(run, len(calls)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "System", Disk(at, fault, forked=False))
            with pytest.raises(faults.Gone):
                save(copy, 30)
        check_goes_on(copy, 20, 30)


@pytest.mark.parametrize("fault", [faults.killed, faults.killed_half_way, faults.power_cut])
def test_killed_at_any_call_of_saving_a_step_again_the_step_is_not_lost(run: RunFolder, fault: faults.Fault) -> None:
    shutil.rmtree(run.checkpoint(10))  # so that the step at stake is the only one there is
    calls = calls_of_a_save(run, 20)

    for at, copy in copies(run, len(calls)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "System", Disk(at, fault, forked=False))
            with pytest.raises(faults.Gone):
                save(copy, 20)
        found, _ = checkpoint.latest(copy)
        assert found is not None
        assert is_of(found, 20)
        save(copy, 20)
        assert [path.name for path in copy.checkpoints.iterdir()] == ["00000020"]


@pytest.mark.parametrize("number", ERRORS)
def test_an_error_at_any_call_ends_with_exit_code_6_and_a_checkpoint(run: RunFolder, number: int) -> None:
    calls = calls_of_a_save(run, 30)
    names = [name for name, _ in calls]
    committed = names.index("rename") + 4

    for at, copy in copies(run, len(calls)):
        told = None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "System", Disk(at, faults.error(number)))
            try:
                save(copy, 30)
            except DiskError as error:
                told = error
        assert told is not None or at > committed, "an old checkpoint that cannot be read is no reason to stop"
        assert told is None or (told.exit_code == 6 and str(copy.checkpoints) in str(told))
        check_survived(copy, 20, 30)


def test_a_disk_full_from_any_call_on_harms_nothing_and_is_told_with_numbers(run: RunFolder) -> None:
    calls = calls_of_a_save(run, 30)
    last_write = max(at for at, (name, _) in enumerate(calls, 1) if name == "write")

    for at, copy in copies(run, len(calls)):
        told = ""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "System", Disk(at, faults.full(errno.ENOSPC), from_then_on=True))
            try:
                save(copy, 30)
            except DiskError as full:
                told = str(full)
        assert "bytes are free" in told or at > last_write, "to read back and to prune takes no space"
        assert not faults.leftovers(copy.path), "on a full disk every byte counts"
        check_goes_on(copy, 20, 30)


def test_interrupted_calls_are_made_again(run: RunFolder) -> None:
    calls = calls_of_a_save(run, 30)

    for at, copy in copies(run, len(calls)):
        if calls[at - 1][0] == "close":
            continue  # Linux has closed the file all the same; Python hides this case
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "System", Disk(at, faults.error(errno.EINTR)))
            save(copy, 30)
        check_survived(copy, 20, 30)


def test_everything_is_synced_then_named_then_read_back_then_the_oldest_goes(run: RunFolder) -> None:
    calls = calls_of_a_save(run, 30)
    names = [name for name, _ in calls]

    named = names.index("rename")
    written = [path for name, path in calls[:named] if name == "write"]
    synced = [path for name, path in calls[:named] if name == "fsync"]
    assert [path.name for path in dict.fromkeys(written)] == [
        "adapter.safetensors",
        "optimizer.safetensors",
        "ema.safetensors",
        "state.json",
        "MANIFEST.json",
    ]
    assert set(written) <= set(synced)
    assert files.is_temporary(synced[-1]), "last of all the folder that becomes the checkpoint"

    assert calls[named + 2][0] == "fsync"
    assert calls[named + 2][1].name == "checkpoints"
    pruned = names.index("rename", named + 1)
    read = {path.name for name, path in calls[named:pruned] if name == "read" and path.parent.name == "00000030"}
    assert read == {path.name for path in written}
    assert calls[pruned][1].name == "00000010"
    assert names.index("unlink") > pruned


def test_every_flipped_bit_and_every_cut_is_noticed(run: RunFolder) -> None:
    dice = random.Random(0)
    victims = sorted(run.checkpoint(20).iterdir())
    assert len(victims) == 5

    for case in range(300):
        victim = victims[case % 5]
        whole = victim.read_bytes()
        bent = bytearray(whole)
        if case % 10 < 5:
            bent[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
        else:
            del bent[dice.randrange(len(whole)) :]
        victim.write_bytes(bent)

        found, refused = checkpoint.latest(run)

        assert found is not None
        assert is_of(found, 10)
        assert [problem.code for problem in refused] == ["W-CKP-001"]
        assert victim.name in refused[0].what
        victim.write_bytes(whole)
    found, refused = checkpoint.latest(run)
    assert found is not None
    assert is_of(found, 20)


@pytest.mark.parametrize("victim", ["adapter.safetensors", "state.json", "MANIFEST.json"])
def test_a_checkpoint_with_a_missing_file_is_refused(run: RunFolder, victim: str) -> None:
    (run.checkpoint(20) / victim).unlink()

    found, refused = checkpoint.latest(run)

    assert found is not None
    assert is_of(found, 10)
    assert f"there is no {victim}" in refused[0].what
    with pytest.raises(ModelFileError, match="E-CKP-002"):
        checkpoint.load(run.checkpoint(20))


def test_files_of_two_checkpoints_are_never_mixed(run: RunFolder) -> None:
    shutil.copy(run.checkpoint(10) / "adapter.safetensors", run.checkpoint(20))

    found, _ = checkpoint.latest(run)

    assert found is not None
    assert is_of(found, 10)


def test_if_none_is_whole_the_run_does_not_silently_begin_anew(run: RunFolder) -> None:
    for step in (10, 20):
        (run.checkpoint(step) / "state.json").write_bytes(b"{}")

    with pytest.raises(ModelFileError) as caught:
        checkpoint.latest(run)

    assert caught.value.exit_code == 7
    assert len(caught.value.problems) == 2


def test_a_run_without_checkpoints_has_no_latest(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", "", {})
    assert checkpoint.latest(run) == (None, [])


def test_latest_is_the_highest_step_whatever_the_clock_and_the_names_say(run: RunFolder) -> None:
    save(run, 30)
    os.utime(run.checkpoint(20), (2e9, 2e9))
    os.utime(run.checkpoint(30), (0, 0))
    shutil.copytree(run.checkpoint(20), run.checkpoint(99))  # somebody copied folders about

    found, _ = checkpoint.latest(run)

    assert found is not None
    assert is_of(found, 30)


def test_a_jumping_clock_changes_nothing(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for step, now in [(30, 0.0), (40, 4e9), (50, 1e9)]:
        monkeypatch.setattr("time.time", lambda now=now: now)
        save(run, step)

    found, _ = checkpoint.latest(run)
    assert found is not None
    assert is_of(found, 50)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["00000040", "00000050"]


def newer(run: RunFolder, step: int) -> Path:
    """Pretend that a later version has written a checkpoint."""
    folder = save(run, step)
    manifest = json.loads((folder / "MANIFEST.json").read_bytes())
    del manifest["sha256"]
    (folder / "MANIFEST.json").write_bytes(checkpoint._signed({**manifest, "format": 2, "shards": ["a"]}))
    return folder


def test_what_a_later_version_wrote_is_refused_and_left_alone(run: RunFolder) -> None:
    folder = newer(run, 30)
    before = {path: path.read_bytes() for path in folder.iterdir()}

    with pytest.raises(ModelFileError, match=r"E-CKP-001 .*format 2") as caught:
        checkpoint.latest(run)
    assert caught.value.exit_code == 7

    for step in (40, 50, 60):
        save(run, step)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_the_newest_are_kept_and_a_course_that_was_left_goes(run: RunFolder) -> None:
    for step in (30, 40, 50):
        checkpoint.save(run, step, tensors(step), state(step), keep=3)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["00000030", "00000040", "00000050"]

    (run.checkpoint(50) / "state.json").write_bytes(b"{}")
    found, _ = checkpoint.latest(run)
    assert found is not None
    assert found.step == 40
    save(run, 45)

    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["00000040", "00000045"]


def test_what_does_not_read_back_is_not_kept_and_costs_nothing(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes every byte and stores another."""

    def lie(fd: int, data: memoryview) -> int:
        return os.write(fd, bytes(data).replace(b"note", b"nope"))

    monkeypatch.setattr(files.System, "write", staticmethod(lie))
    with pytest.raises(DiskError, match=r"E-CKP-004 .*state\.json"):
        save(run, 30)

    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["00000010", "00000020"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.complex64])
def test_numbers_that_are_not_finite_are_never_written(run: RunFolder, value: float, dtype: torch.dtype) -> None:
    bad = tensors(30)
    bad["optimizer"]["moment"] = torch.tensor([1.0, value]).to(dtype)

    with pytest.raises(DivergedError, match=r"E-NUM-002 .*optimizer: moment") as caught:
        checkpoint.save(run, 30, bad, state(30))

    assert caught.value.exit_code == 4
    assert not run.checkpoint(30).exists()


def test_views_parameters_and_eight_bit_numbers_come_back_as_they_were(run: RunFolder) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    group = {
        "whole": whole,
        "turned": whole.T,
        "row": whole[1],
        "parameter": torch.nn.Parameter(whole * 2),
        "eighth": torch.ones(3).to(torch.float8_e4m3fn),
        "empty": torch.zeros(0, 4),
        "mask": torch.tensor([True, False]),
        "count": torch.tensor(2**40),
    }
    found = checkpoint.load(checkpoint.save(run, 30, {"odd": group}, {}))

    assert found.tensors["odd"].keys() == group.keys()
    for name, tensor in found.tensors["odd"].items():
        assert tensor.dtype == group[name].dtype
        assert torch.equal(tensor.to(torch.float64), group[name].detach().to(torch.float64))


def test_metadata_is_in_the_head_of_its_file(run: RunFolder) -> None:
    head = (run.checkpoint(20) / "adapter.safetensors").read_bytes()
    assert b'"made_at":"20"' in head
