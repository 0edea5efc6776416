"""The training pictures: drawn once, kept as arrays beside their labels."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from impasto.pocket.draw import draw
from impasto.pocket.judge import ATTRIBUTES
from impasto.pocket.scene import PIXELS, Scene, random_scene

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

FRESH = 1_000_000_007
"""Added to the seed of pictures that training never sees."""


def scene_of(seed: int, number: int) -> Scene:
    """The numbered scene of a seed."""
    return random_scene(np.random.default_rng((seed, number)))


def pictures(seed: int, count: int) -> tuple[Pixels, Labels]:
    """Pictures [N, 64, 64, 3] and their labels [N, attributes], the same for the same seed."""
    scenes = [scene_of(seed, number) for number in range(count)]
    pixels = np.stack([np.asarray(draw(scene)) for scene in scenes])
    return pixels, np.array([labels_of(scene) for scene in scenes])


def labels_of(scene: Scene) -> list[int]:
    """The index of each attribute's value, in the order of `ATTRIBUTES`."""
    return [values.index(getattr(scene, name)) for name, values in ATTRIBUTES.items()]


def draw_all(work: Path, seed: int, count: int) -> None:
    """Draw the training set into the workspace."""
    pixels = np.lib.format.open_memmap(work / "pictures.npy", "w+", np.uint8, (count, PIXELS, PIXELS, 3))
    labels = np.zeros((count, len(ATTRIBUTES)), dtype=np.int64)
    chunks = [range(start, min(start + 1000, count)) for start in range(0, count, 1000)]
    with ProcessPoolExecutor() as pool:
        for chunk, (some, named) in zip(chunks, pool.map(partial(_chunk, seed), chunks), strict=True):
            pixels[chunk.start : chunk.stop], labels[chunk.start : chunk.stop] = some, named
    pixels.flush()
    np.save(work / "labels.npy", labels)


def _chunk(seed: int, numbers: range) -> tuple[Pixels, Labels]:
    scenes = [scene_of(seed, number) for number in numbers]
    return np.stack([np.asarray(draw(scene)) for scene in scenes]), np.array([labels_of(scene) for scene in scenes])
