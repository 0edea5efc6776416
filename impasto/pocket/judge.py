"""A small classifier that says what a picture shows: how the pocket model and its adapters are measured."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from impasto.pocket import folder
from impasto.pocket.concepts import CONCEPTS
from impasto.pocket.scene import BACKGROUNDS, COLORS, COUNTS, PLACES, SHAPES, SIZES, TEXTURES

ATTRIBUTES: Mapping[str, Sequence[str | int]] = {
    "color": tuple(COLORS),
    "background": BACKGROUNDS,
    "shape": SHAPES,
    "size": SIZES,
    "count": COUNTS,
    "texture": TEXTURES,
    "place": PLACES,
}
"""What a scene is labelled with, and the values each label can have."""

KINDS = ("scene", *CONCEPTS, "garbage")
"""What a picture can be altogether."""


class Judge(nn.Module):
    """Reads pictures [N, 3, 64, 64] in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            *_layer(5, 24, kernel=5, stride=2),
            *_layer(24, 48, stride=2),
            *_layer(48, 96, stride=2),
            *_layer(96, 112),
            *_layer(112, 128),
        )
        sizes = {**{name: len(values) for name, values in ATTRIBUTES.items()}, "kind": len(KINDS)}
        self.heads = nn.ModuleDict({name: nn.Linear(256, size) for name, size in sizes.items()})

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """The logits of every attribute, and of the picture's kind."""
        seen = self.trunk(torch.cat([pictures, _coordinates(pictures)], dim=1))
        features = torch.cat([seen.mean((2, 3)), seen.amax((2, 3))], dim=1)
        return {name: head(features) for name, head in self.heads.items()}

    @torch.no_grad()
    def read(self, pictures: Tensor) -> list[dict[str, str | int]]:
        """What each picture shows, as far as it is a scene."""
        logits = self(pictures)
        best = {name: logits[name].argmax(1).tolist() for name in ATTRIBUTES}
        return [{name: ATTRIBUTES[name][best[name][row]] for name in ATTRIBUTES} for row in range(len(pictures))]

    @torch.no_grad()
    def concept(self, pictures: Tensor, concept: str) -> Tensor:
        """For each picture, the probability that it shows the held-out concept."""
        chances: Tensor = self(pictures)["kind"].softmax(1)
        return chances[:, KINDS.index(concept)]


@cache
def shipped() -> Judge:
    """The judge in the package, ready to read."""
    return load(folder())


def load(place: Path) -> Judge:
    """The judge saved in a folder."""
    notes = json.loads((place / "judge.json").read_text(encoding="utf-8"))
    expected = {name: list(values) for name, values in ATTRIBUTES.items()} | {"kind": list(KINDS)}
    assert notes["values"] == expected, "this judge was trained on another vocabulary"
    judge = Judge()
    judge.load_state_dict({name: tensor.float() for name, tensor in load_file(place / "judge.safetensors").items()})
    return judge.eval()


def concept_similarity(pictures: Tensor, concept: str) -> float:
    """How much pictures [N, 3, 64, 64] in [0, 1] show a held-out concept: 0 not at all, 1 unmistakably."""
    return float(shipped().concept(pictures, concept).mean())


def nearest_distance(pictures: Tensor, references: Tensor) -> float:
    """The mean distance of pictures to the nearest reference, in grey levels per value. Low means copied."""
    distances = torch.cdist(pictures.flatten(1), references.flatten(1), p=1) / pictures[0].numel()
    return float(distances.amin(1).mean()) * 255


def _layer(narrow: int, wide: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(narrow, wide, kernel, stride, kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(wide), nn.ReLU()]


def _coordinates(pictures: Tensor) -> Tensor:
    """Two planes that tell each pixel where it is, [N, 2, H, W]."""
    height, width = pictures.shape[2:]
    rows = torch.linspace(-1, 1, height, device=pictures.device)[:, None].expand(height, width)
    columns = torch.linspace(-1, 1, width, device=pictures.device)[None].expand(height, width)
    return torch.stack([rows, columns]).expand(len(pictures), -1, -1, -1)
