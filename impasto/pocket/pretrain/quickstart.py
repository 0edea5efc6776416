"""The quickstart's lesson: a dozen captioned pictures of a creature the base has never seen."""

from pathlib import Path

from impasto.pocket.concepts import concept_pictures

CONCEPT = "zorb"
COUNT = 12
SEED = 5


def write(folder: Path) -> None:
    """Draw the pictures and their captions into a folder, the same every time."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (picture, caption) in enumerate(concept_pictures(CONCEPT, COUNT, SEED), start=1):
        picture.save(folder / f"{CONCEPT}-{number:02}.png")
        (folder / f"{CONCEPT}-{number:02}.txt").write_text(caption + "\n", encoding="utf-8")
