"""How a file's training read its captions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from impasto.weights import file
from impasto.weights.words import as_trained

OURS = '{"model":{"path":"pocket","clip_skip":2,"max_tokens":225,"emphasis":"mean","token_padding":false}}'


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        (
            {"impasto.config": OURS, "ss_clip_skip": "1"},
            {"clip_skip": 2, "max_tokens": 225, "emphasis": "mean", "token_padding": False},
        ),
        ({"ss_clip_skip": "2", "ss_max_token_length": "150"}, {"clip_skip": 2, "max_tokens": 150}),
        ({"ss_clip_skip": "None", "ss_max_token_length": "None"}, {}),
        ({"ss_clip_skip": "99", "ss_max_token_length": "80"}, {}),
        ({"impasto.config": "not JSON", "ss_clip_skip": "2"}, {"clip_skip": 2}),
        ({"impasto.config": '{"model":[]}'}, {}),
        ({"impasto.config": '{"model":{"clip_skip":"two","emphasis":"loud"}}'}, {}),
        ({}, {}),
    ],
)
def test_a_file_says_how_its_captions_were_read(
    metadata: dict[str, str], found: dict[str, object], tmp_path: Path
) -> None:
    file.write(tmp_path / "a.safetensors", {"lora_up": torch.ones(1)}, metadata, "fp32")
    assert as_trained(tmp_path / "a.safetensors") == found
