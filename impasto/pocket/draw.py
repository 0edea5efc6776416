"""Scene -> picture: polygons, painted four times too large and averaged down."""

from collections.abc import Callable, Mapping, Sequence
from math import cos, pi, sin
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from impasto.pocket.scene import COLORS, PIXELS, PLAIN, Rgb, Scene, Shape, Texture, Thing

Point = tuple[float, float]
Paint = Rgb | Literal["fill", "shade"]
Part = tuple[Paint, Sequence[Point]]
"""A polygon within [-1, 1] x [-1, 1], y pointing down, and what it is painted with."""

OVER = 4
SOFTNESS = 0.6
CREAM: Rgb = (240, 224, 196)
TRUNK: Rgb = (92, 58, 34)


def draw(scene: Scene) -> Image.Image:
    """The picture of a scene, 64 pixels square."""
    rng = np.random.default_rng(scene.seed)
    image = backdrop(scene.background, rng)
    color = tinted(COLORS[scene.color], rng)
    for thing in scene.things:
        put(image, thing, SHAPE_PARTS[scene.shape], color, fabric(scene.texture, color, thing))
    return finished(image)


def backdrop(background: str, rng: np.random.Generator) -> Image.Image:
    """An oversized canvas with the background painted on it."""
    if background in PLAIN:
        return Image.new("RGB", (PIXELS * OVER, PIXELS * OVER), tinted(PLAIN[background], rng))
    return SCENERY[background](rng)


def put(image: Image.Image, thing: Thing, parts: Sequence[Part], color: Rgb, fill: Image.Image) -> None:
    """Paint a thing's parts onto the canvas, back to front."""
    for paint, polygon in parts:
        outline = _placed(polygon, thing)
        if paint == "fill":
            mask = Image.new("L", image.size)
            ImageDraw.Draw(mask).polygon(outline, fill=255)
            image.paste(fill, mask=mask)
        else:
            ImageDraw.Draw(image).polygon(outline, fill=darker(color) if paint == "shade" else paint)


def fabric(texture: Texture, color: Rgb, thing: Thing) -> Image.Image:
    """An oversized sheet of a texture, laid so that it is centred on the thing."""
    sheet = Image.new("RGB", (PIXELS * OVER, PIXELS * OVER), color)
    pen = ImageDraw.Draw(sheet)
    second = darker(color)
    for box in _marks(texture, thing):
        corners = [round(at * OVER) for at in box]
        (pen.ellipse if texture == "dotted" else pen.rectangle)(corners, fill=second)
    return sheet


def finished(image: Image.Image) -> Image.Image:
    """The canvas averaged down to its final size, its edges a little softened for the small autoencoder's sake."""
    return image.reduce(OVER).filter(ImageFilter.GaussianBlur(SOFTNESS))


def tinted(color: Rgb, rng: np.random.Generator) -> Rgb:
    """The colour as it falls out this time."""
    r, g, b = (int(np.clip(value + rng.integers(-6, 7), 0, 255)) for value in color)
    return r, g, b


def darker(color: Rgb) -> Rgb:
    """The second tone of a colour, for textures and shades. Black's is grey."""
    if max(color) < 60:
        return 100, 100, 106
    r, g, b = (int(value * 0.55) for value in color)
    return r, g, b


def arc(x: float, y: float, rx: float, ry: float, start: float = 0.0, end: float = 2 * pi) -> list[Point]:
    """Points along an ellipse, by default all around it."""
    return [(x + rx * cos(a), y + ry * sin(a)) for a in np.linspace(start, end, 40).tolist()]


def box(left: float, top: float, right: float, bottom: float) -> list[Point]:
    """A rectangle."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _placed(polygon: Sequence[Point], thing: Thing) -> list[Point]:
    half, c, s = thing.across / 2, cos(thing.tilt), sin(thing.tilt)
    return [((thing.x + half * (c * x - s * y)) * OVER, (thing.y + half * (s * x + c * y)) * OVER) for x, y in polygon]


def _marks(texture: Texture, thing: Thing) -> list[tuple[float, float, float, float]]:
    steps = range(-4, 5)
    match texture:
        case "plain":
            return []
        case "striped":
            return [(0, thing.y + 12 * k - 3, PIXELS, thing.y + 12 * k + 3) for k in steps]
        case "dotted":
            centres = [(thing.x + 11 * i, thing.y + 11 * k) for i in steps for k in steps]
            return [(x - 3, y - 3, x + 3, y + 3) for x, y in centres]
        case "checkered":
            corners = [(thing.x + 7 * i, thing.y + 7 * k) for i in range(-6, 6) for k in range(-6, 6) if (i + k) % 2]
            return [(x, y, x + 7, y + 7) for x, y in corners]


def _star() -> list[Point]:
    radii = [1.05 if k % 2 == 0 else 0.45 for k in range(10)]
    return [(r * sin(k * pi / 5), 0.08 - r * cos(k * pi / 5)) for k, r in enumerate(radii)]


def _heart() -> list[Point]:
    turns = np.linspace(0, 2 * pi, 60).tolist()
    return [(sin(t) ** 3, -(13 * cos(t) - 5 * cos(2 * t) - 2 * cos(3 * t) - cos(4 * t)) / 15 - 0.12) for t in turns]


def _cross() -> list[Point]:
    a, b = 0.34, 1.0
    return [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)]


def _moon() -> list[Point]:
    return [*arc(0.1, 0, 1, 1, 0.28 * pi, 1.72 * pi), *arc(0.52, 0, 0.78, 0.8, 1.62 * pi, 0.38 * pi)]


SHAPE_PARTS: Mapping[Shape, Sequence[Part]] = {
    "circle": [("fill", arc(0, 0, 0.98, 0.98))],
    "square": [("fill", box(-0.88, -0.88, 0.88, 0.88))],
    "triangle": [("fill", [(0, -0.95), (1.02, 0.85), (-1.02, 0.85)])],
    "star": [("fill", _star())],
    "heart": [("fill", _heart())],
    "cross": [("fill", _cross())],
    "ring": [("fill", [*arc(0, 0, 1, 1), *arc(0, 0, 0.5, 0.5, 2 * pi, 0)])],
    "moon": [("fill", _moon())],
    "house": [
        ("fill", box(-0.72, -0.2, 0.72, 0.95)),
        ("shade", [(0, -1.0), (1.0, -0.15), (-1.0, -0.15)]),
        ("shade", box(-0.2, 0.35, 0.2, 0.95)),
    ],
    "fish": [
        ("shade", [(0.35, 0), (1.05, -0.6), (1.05, 0.6)]),
        ("fill", arc(-0.2, 0, 0.84, 0.6)),
        ((252, 252, 252), arc(-0.6, -0.12, 0.17, 0.17)),
        ((10, 10, 10), arc(-0.62, -0.12, 0.09, 0.09)),
    ],
    "tree": [
        (TRUNK, box(-0.17, 0.4, 0.17, 1.0)),
        ("fill", [(0, -0.2), (0.9, 0.6), (-0.9, 0.6)]),
        ("fill", [(0, -1.0), (0.68, 0.0), (-0.68, 0.0)]),
    ],
    "mushroom": [
        (CREAM, [(-0.3, -0.1), (0.3, -0.1), (0.4, 0.95), (-0.4, 0.95)]),
        ("fill", arc(0, 0.1, 1.0, 1.05, pi, 2 * pi)),
    ],
}


def _gradient(top: Rgb, bottom: Rgb) -> Image.Image:
    column = np.linspace(top, bottom, PIXELS * OVER)[:, None, :]
    rows = np.broadcast_to(column, (PIXELS * OVER, PIXELS * OVER, 3))
    return Image.fromarray(np.ascontiguousarray(rows.round().astype(np.uint8)))


def _ground(image: Image.Image, y: float, color: Rgb, bulge: float = 0.0) -> None:
    """Everything below `y` (in pixels), with the middle raised by `bulge`."""
    side = PIXELS * OVER
    crest = [(x, (y - bulge * sin(pi * x / side)) * OVER) for x in np.linspace(0, side, 24).tolist()]
    ImageDraw.Draw(image).polygon([*crest, (side, side), (0, side)], fill=color)


def _meadow(rng: np.random.Generator) -> Image.Image:
    image = _gradient(tinted((120, 190, 245), rng), (190, 225, 250))
    _ground(image, rng.uniform(36, 44), tinted((100, 180, 70), rng), rng.uniform(-4, 5))
    return image


def _night_sky(rng: np.random.Generator) -> Image.Image:
    image = _gradient(tinted((14, 18, 60), rng), tinted((62, 48, 120), rng))
    pen = ImageDraw.Draw(image)
    for x, y in rng.uniform(3, 61, (6, 2)).tolist():
        pen.ellipse([(x - 1.3) * OVER, (y - 1.3) * OVER, (x + 1.3) * OVER, (y + 1.3) * OVER], fill=(250, 245, 200))
    return image


def _beach(rng: np.random.Generator) -> Image.Image:
    image = _gradient(tinted((165, 215, 250), rng), (210, 235, 250))
    sea = rng.uniform(22, 28)
    _ground(image, sea, tinted((30, 120, 195), rng))
    _ground(image, sea + rng.uniform(15, 19), tinted((238, 212, 150), rng), rng.uniform(-3, 3))
    return image


def _sunset(rng: np.random.Generator) -> Image.Image:
    image = _gradient(tinted((120, 50, 125), rng), tinted((255, 170, 70), rng))
    _ground(image, rng.uniform(46, 52), tinted((66, 30, 66), rng), rng.uniform(-3, 4))
    return image


def _snow(rng: np.random.Generator) -> Image.Image:
    image = _gradient(tinted((140, 175, 205), rng), (200, 220, 235))
    _ground(image, rng.uniform(34, 42), tinted((246, 249, 250), rng), rng.uniform(-5, 6))
    return image


SCENERY: Mapping[str, Callable[[np.random.Generator], Image.Image]] = {
    "meadow": _meadow,
    "night sky": _night_sky,
    "beach": _beach,
    "sunset": _sunset,
    "snow": _snow,
}
