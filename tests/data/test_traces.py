"""Pictures that look the same are found, whatever they are saved as; those that do not are told apart."""

from __future__ import annotations

import io
import time

import numpy as np
from PIL import Image, ImageDraw

from impasto.data import traces


def scene(seed: int, side: int = 256) -> Image.Image:
    """A few blobs of colour."""
    rng = np.random.default_rng(seed)
    drawn = Image.new("RGB", (side, side), tuple(int(each) for each in rng.integers(0, 256, 3)))
    pen = ImageDraw.Draw(drawn)
    for _ in range(12):
        x, y, r = rng.uniform(0, 1, 3) * side * np.array([1, 1, 0.4])
        pen.ellipse((x - r, y - r, x + r, y + r), fill=tuple(int(each) for each in rng.integers(0, 256, 3)))
    return drawn


def copies(image: Image.Image) -> list[Image.Image]:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=60)
    return [image, Image.open(file).convert("RGB"), image.resize((100, 100)), image.resize((400, 380))]


def test_copies_are_found_and_others_are_not() -> None:
    pictures = [each for seed in range(8) for each in copies(scene(seed))]
    found = traces.alike([traces.of(each) for each in pictures])
    assert found == [list(range(at, at + 4)) for at in range(0, 32, 4)]


def test_one_scene_in_two_colours_is_two_pictures() -> None:
    one, other = (Image.new("RGB", (64, 64), colour) for colour in ("red", "blue"))
    assert traces.alike([traces.of(one), traces.of(other)]) == []
    assert traces.alike([traces.of(one), traces.of(one)]) == [[0, 1]]
    assert traces.alike([]) == []


def test_the_bands_miss_no_pair_that_is_near_enough() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 256, 64, np.uint8)
    for _ in range(200):
        bits = np.unpackbits(first[:16])
        bits[rng.choice(128, traces.BITS, replace=False)] ^= 1
        near = np.concatenate([np.packbits(bits), first[16:]])
        assert traces.alike([first.tobytes().hex(), near.tobytes().hex()]) == [[0, 1]]


def test_ten_thousand_pictures_are_compared_in_moments() -> None:
    rng = np.random.default_rng(1)
    many = [rng.bytes(64).hex() for _ in range(10_000)]
    begun = time.process_time()
    assert traces.alike([*many, many[17]]) == [[17, 10_000]]
    assert time.process_time() - begun < 5
