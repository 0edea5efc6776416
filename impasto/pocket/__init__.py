"""The pocket model: a tiny Stable Diffusion that ships with the package, for lessons, demos and tests."""

from pathlib import Path

FOLDER = Path(__file__).parent / "model"
QUICKSTART = Path(__file__).parent / "quickstart"


def folder() -> Path:
    """The packaged model, a folder in diffusers layout."""
    return FOLDER


def quickstart() -> Path:
    """Twelve captioned pictures of a creature that the model has never seen."""
    return QUICKSTART
