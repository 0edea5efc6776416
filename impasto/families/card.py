"""What is known of a base before its weights are read. No weights, no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from impasto.errors import Problem
from impasto.families import sd3_names

Part = Literal["unet", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"]
Name = Literal["sd1", "sd2", "sdxl", "sd3", "flux"]
Prediction = Literal["epsilon", "v", "flow"]

TITLES: Mapping[Name, str] = {
    "sd1": "Stable Diffusion 1.x",
    "sd2": "Stable Diffusion 2.x",
    "sdxl": "Stable Diffusion XL",
    "sd3": "Stable Diffusion 3",
    "flux": "FLUX.1",
}
ENCODERS: tuple[Part, ...] = ("text_encoder", "text_encoder_2", "text_encoder_3")


def numbers(encoders: Iterable[Part]) -> tuple[int, ...]:
    """Which text encoders of its family these are, from 1."""
    return tuple(ENCODERS.index(part) + 1 for part in encoders)


def usual_guidance(family: str) -> float:
    """How much more than without words a picture is drawn with them, by default: FLUX.1 draws it in one go."""
    return 1.0 if family == "flux" else 5.0


class Called(NamedTuple):
    """What other programs call such a base in the metadata of adapters."""

    version: str
    """As sd-scripts does (`ss_base_model_version`)."""

    architecture: str
    """As the model metadata standard does (`modelspec.architecture`, without `/lora`)."""


CALLED: Mapping[tuple[Name, Prediction], Called] = {
    ("sd1", "epsilon"): Called("sd_v1", "stable-diffusion-v1"),
    ("sd1", "v"): Called("sd_v1_v", "stable-diffusion-v1"),
    ("sd2", "epsilon"): Called("sd_v2", "stable-diffusion-v2-512"),
    ("sd2", "v"): Called("sd_v2_v", "stable-diffusion-v2-768-v"),
    ("sdxl", "epsilon"): Called("sdxl_base_v1-0", "stable-diffusion-xl-v1-base"),
    ("sdxl", "v"): Called("sdxl_base_v1-0", "stable-diffusion-xl-v1-base"),
}


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is known of a base before its weights are read."""

    path: Path
    """The folder in diffusers' layout, or the single file."""

    family: Name
    name: str
    resolution: int
    """Pixels of a side it was made for."""

    step: int
    """Sides must be multiples of this many pixels."""

    factor: int
    """Pixels of a side of one latent."""

    prediction: Prediction
    scheduler: Mapping[str, Any]
    """The noise schedule, as its own file says."""

    configs: Mapping[Part, Mapping[str, Any]]
    """The measures of each part, as diffusers and transformers write them."""

    files: Mapping[Part, tuple[Path, ...]]
    """Where the weights of each part lie: in one file, or in several. In a single file that is the same for all."""

    original: bool
    """Whether the weights lie in one file in the original layout rather than in a folder in diffusers' layout."""

    tokenizers: Path | None
    """The folder with the tokenizers' folders; None: CLIP's own, which comes with impasto."""

    whole: bool = True
    """Whether its weights are there; else only their heads are, which suffice for a plan."""

    notes: tuple[Problem, ...] = ()
    """What is odd about it and keeps nobody from training."""

    @property
    def encoders(self) -> tuple[Part, ...]:
        """The text encoders it has."""
        return tuple(part for part in ENCODERS if part in self.configs)

    @property
    def own_vae(self) -> bool:
        """Whether the VAE is the base's own, not one given by `model.vae_path`."""
        if self.original:
            return self.files["vae"] == self.files["unet"]
        return all(self.path in file.parents for file in self.files["vae"])

    @property
    def channels(self) -> int:
        """Of the latents."""
        return int(self.configs["vae"].get("latent_channels", 4))

    @property
    def guided(self) -> bool:
        """Whether the denoiser is told a guidance, as FLUX.1 dev is."""
        return bool(self.configs["unet"].get("guidance_embeds"))

    @property
    def usual_guidance(self) -> float:
        """The guidance that previews are drawn with where the settings say nothing."""
        return usual_guidance(self.family)

    @property
    def t5_tokens(self) -> int:
        """The tokens that T5 reads where the settings say nothing, its end mark among them; 0 for a base without."""
        if self.family not in ("sd3", "flux"):
            return 0
        return 512 if self.guided else 256

    @property
    def hears_apart(self) -> bool:
        """Whether the denoiser has a share for each text encoder, zeros for one that is missing."""
        return self.family == "sd3"

    @property
    def has_places(self) -> bool:
        """Whether the denoiser is told places from a table."""
        return self.family == "sd3"

    @property
    def read_by_diffusers(self) -> bool:
        """Whether diffusers loads adapters of it in the layout in which they are written."""
        return self.family not in ("sd3", "flux")

    @property
    def denoiser(self) -> str:
        """What diffusers calls the denoiser among its parts."""
        return "transformer" if self.family in ("sd3", "flux") else "unet"

    @property
    def title(self) -> str:
        """The family's name, as people say it."""
        return TITLES[self.family]

    @property
    def called(self) -> Called:
        """What other programs call such a base."""
        if self.family == "sd3":
            version = sd3_names.version_of(self.configs["unet"])
            return Called(version, f"stable-diffusion-{version.removeprefix('sd')}")
        if self.family == "flux":
            return Called("flux1", "flux-1-dev" if self.guided else "flux-1-schnell")
        return CALLED[self.family, self.prediction]

    @property
    def to_fetch(self) -> int:
        """Bytes of weights that are fetched from the hub before a training, at most."""
        every = {file for files in self.files.values() for file in files}
        return 0 if self.whole else sum(file.stat().st_size for file in every)

    def weights(self, part: Part) -> tuple[Path, ...]:
        """The files that hold a part's weights."""
        return self.files[part]

    def folder(self, part: Part) -> str:
        """The folder of a part in diffusers' layout."""
        return part if self.original else self.files[part][0].parent.name


def prediction_of(word: object) -> Prediction | None:
    """`epsilon`, `v_prediction` and how else files spell them; None for anything else."""
    match word:
        case "epsilon" | "eps":
            return "epsilon"
        case "v_prediction" | "v-prediction" | "v":
            return "v"
        case _:
            return None
