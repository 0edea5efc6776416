"""Small real objects that many tests stand on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from impasto import families
from impasto.families import detect, tiny
from impasto.families.config import Model
from impasto.families.family import Family

torch.set_num_threads(1)  # miniatures are too small to share between threads, and one thread is bit-exact everywhere


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature Stable Diffusion 1.x with random weights, as a folder."""
    return tiny.stable_diffusion(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def tiny_family(tiny_base: Path) -> Family:
    """The same, loaded afresh."""
    model = Model(path=str(tiny_base))
    return families.load(detect.look(model), model, device=torch.device("cpu"), dtype=torch.float32)
