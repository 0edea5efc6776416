"""What the pocket model's pictures and captions promise."""

import re

import numpy as np
import pytest
from PIL import Image

from impasto import pocket
from impasto.pocket.captions import NONSENSE, caption, full_caption
from impasto.pocket.concepts import CONCEPTS, concept_pictures
from impasto.pocket.draw import draw
from impasto.pocket.pretrain.quickstart import write
from impasto.pocket.scene import COLORS, HIDDEN, random_scene


def scenes(count: int, seed: int = 3):
    rng = np.random.default_rng(seed)
    return [random_scene(rng) for _ in range(count)]


def test_a_scene_is_always_drawn_the_same():
    for scene in scenes(5):
        assert np.array_equal(np.asarray(draw(scene)), np.asarray(draw(scene)))


def test_a_picture_is_64_pixels_square_and_contains_its_colour():
    for scene in scenes(30):
        pixels = np.asarray(draw(scene)).astype(int)
        assert pixels.shape == (64, 64, 3)
        distance = np.abs(pixels - np.array(COLORS[scene.color])).max(-1)
        assert (distance < 25).sum() > 20, scene


def test_things_stay_within_the_frame():
    for scene in scenes(200):
        for thing in scene.things:
            assert thing.x - thing.across / 2 >= 0
            assert thing.x + thing.across / 2 <= 64
            assert thing.y - thing.across / 2 >= 0
            assert thing.y + thing.across / 2 <= 64


def test_no_colour_is_lost_on_its_background():
    assert all(scene.color not in HIDDEN.get(scene.background, ()) for scene in scenes(300))


def test_a_caption_names_what_is_drawn():
    rng = np.random.default_rng(0)
    for scene in scenes(100):
        for line in (caption(scene, rng), full_caption(scene)):
            assert scene.color in line
            assert scene.shape in line
            assert scene.texture == "plain" or scene.texture in line
        assert scene.background.split()[0] in full_caption(scene)
        assert scene.size in full_caption(scene)


def test_captions_never_use_a_held_out_word():
    rng = np.random.default_rng(1)
    words = {word for scene in scenes(2000) for word in re.findall(r"\w+", caption(scene, rng))}
    assert not words & {*CONCEPTS, "creature", "rocket", "violet", "antenna"}
    assert words & set(NONSENSE)


@pytest.mark.parametrize("name", CONCEPTS)
def test_a_concept_is_drawn_the_same_and_captioned_with_its_name(name):
    first, again = concept_pictures(name, 3, 7), concept_pictures(name, 3, 7)
    for (picture, line), (same, _) in zip(first, again, strict=True):
        assert np.array_equal(np.asarray(picture), np.asarray(same))
        assert name in line
    assert not np.array_equal(np.asarray(first[0][0]), np.asarray(first[1][0]))


def test_the_quickstart_pictures_are_reproduced(tmp_path):
    write(tmp_path)
    made, shipped = ({path.name: path for path in folder.iterdir()} for folder in (tmp_path, pocket.quickstart()))
    assert made.keys() == shipped.keys()
    assert len(made) == 24
    for name, path in made.items():
        if path.suffix == ".png":
            assert np.array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(shipped[name])))
        assert path.read_bytes() == shipped[name].read_bytes()
