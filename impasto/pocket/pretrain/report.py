"""The gates: what the packaged model can do, measured on fresh pictures and written into the documentation."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from impasto.pocket import folder, judge
from impasto.pocket.captions import full_caption
from impasto.pocket.concepts import CONCEPTS
from impasto.pocket.judge import ATTRIBUTES
from impasto.pocket.pretrain.base import BATCH as BASE_BATCH
from impasto.pocket.pretrain.judge import EACH, GARBAGE, SCENES, stacked, to_unit
from impasto.pocket.pretrain.pictures import FRESH, Labels, Pixels, labels_of, pictures, scene_of
from impasto.pocket.pretrain.sample import GUIDANCE, STEPS, Painter, draw_prompts, painter
from impasto.pocket.pretrain.training import steps_of
from impasto.pocket.pretrain.vae import BATCH as VAE_BATCH
from impasto.pocket.pretrain.vae import decode, encode, psnrs

PROMPTS = 128
FRESH_PICTURES = 512
CEILING, BASE = "autoencoder's ceiling", "drawn by the base"
GATES = {"color": 0.85, "background": 0.85, "shape": 0.60}
BEGIN, FINISH = "<!-- report -->", "<!-- /report -->"


@dataclass(frozen=True)
class Concept:
    """How the held-out concepts fare: how well rebuilt, recognised when rebuilt, and found in the base's drawings."""

    name: str
    decibels: float
    rebuilt: float
    base: float


def report(document: Path, work: Path, seed: int) -> None:
    """Measure everything, write the numbers between the document's marks, and the pictures beside it."""
    model = painter(folder())
    pixels, labels = pictures(seed + FRESH, FRESH_PICTURES)
    rebuilt = decode(model.vae, encode(model.vae, pixels))
    drawn, asked, prompts = ask(model, seed)
    shown = document.with_suffix("")
    shown.mkdir(parents=True, exist_ok=True)
    sheet(drawn[:64], 16).save(shown / "base.webp", lossless=True)
    (shown / "prompts.txt").write_text("\n".join(prompts[:64]) + "\n", encoding="utf-8")
    pairs = [sheet(np.concatenate([pixels[:8], rebuilt[:8]]), 8), *(_concept_sheet(model, name) for name in CONCEPTS)]
    _beneath(pairs).save(shown / "autoencoder.webp", lossless=True)
    lines = [
        *_effort(work),
        *_autoencoder(psnrs(model.vae, pixels)),
        *_table(accuracy(pixels, labels), accuracy(rebuilt, labels), accuracy(drawn, asked), chance(asked)),
        *_concepts([measure(model, name, seed) for name in CONCEPTS]),
    ]
    text = document.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(FINISH)[1]
    document.write_text(before + "\n".join([BEGIN, *lines, FINISH]) + after, encoding="utf-8")
    print("\n".join(lines))


def ask(model: Painter, seed: int, *, count: int = PROMPTS, steps: int = STEPS) -> tuple[Pixels, Labels, list[str]]:
    """Pictures drawn for the captions of fresh scenes, those scenes' labels, and the captions."""
    scenes = [scene_of(seed + FRESH + 1, number) for number in range(count)]
    prompts = [full_caption(scene) for scene in scenes]
    labels = np.array([labels_of(scene) for scene in scenes])
    return draw_prompts(model, prompts, seed=seed, steps=steps), labels, prompts


def accuracy(pixels: Pixels, labels: Labels) -> dict[str, float]:
    """How often the judge reads what the labels say."""
    read = judge.shipped().read(to_unit(pixels))
    found = np.array([[ATTRIBUTES[name].index(row[name]) for name in ATTRIBUTES] for row in read])
    return dict(zip(ATTRIBUTES, (found == labels).mean(0).tolist(), strict=True))


def chance(labels: Labels) -> dict[str, float]:
    """How often the labels of two scenes agree by luck."""
    return {
        name: float(np.square(np.bincount(labels[:, column]) / len(labels)).sum())
        for column, name in enumerate(ATTRIBUTES)
    }


def measure(model: Painter, name: str, seed: int) -> Concept:
    """A held-out concept's numbers, on pictures that neither model nor judge was trained on."""
    pixels = stacked(name, 64, seed + FRESH)
    again = to_unit(decode(model.vae, encode(model.vae, pixels)))
    prompts = [f"a {name} on a {background} background" for background in ("white", "grey", "teal", "mint")] * 4
    drawn = to_unit(draw_prompts(model, prompts, seed=seed))
    similar = judge.concept_similarity
    return Concept(name, float(psnrs(model.vae, pixels).mean()), similar(again, name), similar(drawn, name))


def sheet(pixels: Pixels, columns: int, gap: int = 4) -> Image.Image:
    """Pictures side by side in rows."""
    step = pixels.shape[1] + gap
    rows = -(-len(pixels) // columns)
    image = Image.new("RGB", (columns * step - gap, rows * step - gap), "white")
    for number, picture in enumerate(pixels):
        image.paste(Image.fromarray(picture), (number % columns * step, number // columns * step))
    return image


def _concept_sheet(model: Painter, name: str) -> Image.Image:
    pixels = stacked(name, 8, FRESH)
    return sheet(np.concatenate([pixels, decode(model.vae, encode(model.vae, pixels))]), 8)


def _beneath(sheets: list[Image.Image], gap: int = 12) -> Image.Image:
    image = Image.new("RGB", (sheets[0].width, sum(one.height + gap for one in sheets) - gap), "white")
    y = 0
    for one in sheets:
        image.paste(one, (0, y))
        y += one.height + gap
    return image


def _effort(work: Path) -> list[str]:
    """How much training the workspace's checkpoints stand for."""
    pictures = {"vae": VAE_BATCH, "base": BASE_BATCH, "judge-training": SCENES + EACH * len(CONCEPTS) + GARBAGE}
    seen = {
        name: size * steps_of(work / f"{name}.safetensors")
        for name, size in pictures.items()
        if (work / f"{name}.safetensors").exists()
    }
    names = {"vae": "the autoencoder", "base": "the base", "judge-training": "the judge"}
    parts = [f"{names[name]} {count:,}" for name, count in seen.items()]
    return [f"Pictures seen in training, repetitions counted: {', '.join(parts)}.", ""] if parts else []


def _autoencoder(decibels: np.ndarray) -> list[str]:
    overall = -10 * np.log10(np.mean(10 ** (-decibels / 10)))
    return [
        f"Autoencoder, {len(decibels)} fresh pictures: **{decibels.mean():.1f} dB** PSNR, the mean over pictures "
        f"({overall:.1f} dB from their mean squared error; the gate is 28).",
        "",
    ]


def _table(
    raw: dict[str, float], ceiling: dict[str, float], base: dict[str, float], luck: dict[str, float]
) -> list[str]:
    head = f"Read by the judge: {FRESH_PICTURES} fresh pictures as drawn and rebuilt by the autoencoder, and {PROMPTS} "
    rows = [
        f"| {name} | {luck[name]:.1%} | {raw[name]:.1%} | {ceiling[name]:.1%} | **{base[name]:.1%}** | "
        f"{f'{GATES[name]:.0%}' if name in GATES else ''} |"
        for name in ATTRIBUTES
    ]
    return [
        head + f"pictures that the base drew from a prompt (DDIM, {STEPS} steps, guidance {GUIDANCE:g}).",
        "",
        f"| attribute | by luck | as drawn | {CEILING} | {BASE} | gate |",
        "| --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
    ]


def _concepts(found: list[Concept]) -> list[str]:
    rows = [f"| {one.name} | {one.decibels:.1f} dB | {one.rebuilt:.1%} | {one.base:.1%} |" for one in found]
    return [
        "The held-out concepts, which the base must not know and the autoencoder must be able to show:",
        "",
        "| concept | autoencoder | judge's certainty, rebuilt | judge's certainty, asked of the base |",
        "| --- | --- | --- | --- |",
        *rows,
        "",
    ]
