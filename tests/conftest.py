"""Small real objects that many tests stand on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from impasto import families, files
from impasto.families import detect, tiny
from impasto.families.config import Model
from impasto.families.family import Family

torch.set_num_threads(1)  # miniatures are too small to share between threads, and one thread is bit-exact everywhere


@pytest.fixture(scope="session", autouse=True)
def _nobody_waits_for_a_disk() -> Iterator[None]:
    """A short training syncs 40 files, which takes as long as the training. What is synced, and when, is told by the
    shim of `tests/files`, where syncs are real, as they are in every process that a test starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files.System, "fsync", staticmethod(lambda fd: None))
        yield


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature Stable Diffusion 1.x with random weights, as a folder."""
    return tiny.stable_diffusion(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def tiny_family(tiny_base: Path) -> Family:
    """The same, loaded afresh."""
    model = Model(path=str(tiny_base))
    return families.load(detect.look(model), model, device=torch.device("cpu"), dtype=torch.float32)
