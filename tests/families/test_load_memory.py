"""Loading takes the memory of what is loaded, and little beside: files are mapped, and let go tensor by tensor."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from impasto.families import detect, loading
from impasto.families.config import Model
from tests.families import sparse

WIDE = {"block_out_channels": [96, 192, 384, 384], "norm_num_groups": 32, "attention_head_dim": 8}
"""A U-Net of 100 million numbers."""

SLACK = 24 * 2**20
"""Bytes beside: one tensor more, the descriptions of all, the libraries' own."""

CHILD = """
import json, sys
from pathlib import Path
import torch
from impasto.engine.device import resident_peak
from impasto.families import detect, parts
from impasto.families.config import Model
torch.set_num_threads(1)
def load(values):
    model = Model.model_validate({**values, "precision": "auto"})
    return parts.load(detect.look(model), model, dtype=getattr(torch, dtype), device=torch.device("cpu"))
for at, (values, dtype) in enumerate(json.loads(sys.argv[1])):
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident_peak()
    found = load(values)
    size = sum(parts.size(each) for each in (found.unet, *found.encoders, found.vae))
    print(json.dumps([size, resident_peak() - before]) if at else "")
    del found
"""


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> dict[str, dict[str, Any]]:
    """The same base in each layout: files with holes in the place of numbers, which are read as zeros."""
    root = tmp_path_factory.mktemp("wide")
    folder = shutil.copytree(tiny_base, root / "folder")
    packaged = detect.packaged("sd1")["unet"]
    measures = {**packaged, **WIDE, "cross_attention_dim": 16, "sample_size": 8}
    (folder / "unet" / "config.json").write_text(json.dumps(measures))
    unet = folder / "unet" / "diffusion_pytorch_model.safetensors"
    shapes = {name: tuple(value.shape) for name, value in loading.as_made("unet", measures).state_dict().items()}
    sparse.write(unet, shapes)
    sharded = shutil.copytree(folder, root / "sharded", ignore=shutil.ignore_patterns(unet.name))
    shutil.copy(folder / "vae" / unet.name, sharded / "vae")
    places = {}
    for at in range(4):
        file = f"diffusion_pytorch_model-{at + 1:05}-of-00004.safetensors"
        mine = {name: shapes[name] for name in sorted(shapes)[at::4]}
        sparse.write(sharded / "unet" / file, mine)
        places |= dict.fromkeys(mine, file)
    index = sharded / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    one = _one_file(folder, root / "one.safetensors")
    return {
        "folder": {"path": str(folder)}, "sharded": {"path": str(sharded)},
        "single file": {"path": str(one), "config_path": str(folder)},
    }  # fmt: skip


def _one_file(folder: Path, path: Path) -> Path:
    from dataclasses import replace

    from impasto.families import full_size

    card = replace(detect.look(Model(path=str(folder))), original=True)
    return sparse.write(path, dict(full_size.places(card)))


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is begun anew by way of /proc")
def test_the_peak_is_what_is_held_and_a_tenth_more(bases: dict[str, dict[str, Any]]) -> None:
    asked = [(bases["folder"], "bfloat16")]  # the first one brings the libraries in
    asked += [(base, "float16") for base in bases.values()]  # as the file has it
    asked += [({**bases["single file"], "reading": "plain"}, "float16")]
    asked += [({**bases["sharded"], "text_encoder_precision": "fp32"}, "bfloat16")]
    told = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(asked)], capture_output=True, text=True, check=False,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},  # what is freed goes back, and does not hide in a peak
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    found = [json.loads(line) for line in told.stdout.splitlines() if line]
    assert len(found) == len(asked) - 1
    for (base, dtype), (size, peak) in zip(asked[1:], found, strict=True):
        assert size > 100 * 2**20
        assert peak < 1.1 * size + SLACK, (base, dtype, f"{size:,} held, {peak:,} at most")
