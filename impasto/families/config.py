"""Which base model is trained on, and in which precision it is held."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from impasto.schema import FilePath, NaturalInt, Section

Precision = Literal["fp32", "bf16", "fp16"]
Emphasis = Literal["off", "plain", "mean"]


class Merged(Section):
    """An adapter that is made part of the base before training."""

    path: FilePath
    """The adapter file."""

    weight: Annotated[float, Field(ge=-10.0, le=10.0)] = 1.0
    """How much of it: 1 as it was trained, 0.5 half of it."""


Format = Literal["fp8", "int8", "nf4"]
Quantization = Literal["none", "fp8", "int8", "nf4"]


class Model(Section):
    """The frozen base model."""

    path: Annotated[str, Field(min_length=1, max_length=4096)] = "pocket"
    """The base: `pocket` (the small model that comes with impasto), a `.safetensors` checkpoint, or a folder in
    diffusers' layout; Stable Diffusion 1.x, 2.x, XL or 3, or FLUX.1. A relative path starts at the folder
    of the settings file, or on the command line at the current folder. `org/name` that is no path is fetched from the
    Hugging Face hub, and so is one file of it, `org/name/file.safetensors`."""

    revision: Annotated[str, Field(pattern=r"^[\w.-]{1,100}$")] | None = None
    """Of a base from the hub: a branch, a tag or a commit. Unset: `main`, as it is when the run begins; the run keeps
    that commit."""

    variant: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")] | None = None
    """Which of several kinds of weights a folder in diffusers' layout holds, as `fp16` of `model.fp16.safetensors`.
    Unset: the plain ones, or those of 16 bits where no others are."""

    vae_path: FilePath | None = None
    """Another VAE than the base's own: a `.safetensors` file or a folder. Checkpoints without a VAE need one, as FLUX.1
    does where its denoiser has a file of its own (`ae.safetensors`)."""

    clip_l_path: FilePath | None = None
    """For a checkpoint of Stable Diffusion 1.x, XL, 3 or FLUX.1: its text encoder CLIP-L, in place of its own or
    where it lacks one. A `.safetensors` file (CLIP-L's own, or a checkpoint that has it), its folder, or a whole
    model's. FLUX.1 needs CLIP-L and T5. Text encoders of Stable Diffusion 3 that are neither in the checkpoint nor
    given say nothing; one is needed."""

    clip_g_path: FilePath | None = None
    """The same for the second text encoder, CLIP-G, of Stable Diffusion XL or 3."""

    t5_path: FilePath | None = None
    """The same for T5."""

    config_path: FilePath | None = None
    """For a checkpoint whose measures are not the published ones: a folder in diffusers' layout, of which only the
    description files and the tokenizers are read."""

    merged: Annotated[tuple[Merged, ...], Field(strict=False)] = ()
    """Adapter files that are merged into the base, in this order: training goes on from there, and the new adapter is
    to be used together with them."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """How the base is held and computed. `auto`: bf16 where the device is fast in it, else fp32. How the adapter's own
    weights are held is up to `optim.precision`."""

    text_encoder_precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """How the text encoder is held and computed. `auto`: as `precision` says."""

    vae_precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """How the picture encoder is held and computed. In 16 bits it takes half the memory and is faster on a GPU. Where
    it then gives no numbers, as some do in fp16, that picture is done again in fp32, and the run says so."""

    vae_tile: Annotated[int, Field(ge=64, le=4096, multiple_of=64)] | None = None
    """Encode and decode larger pictures in overlapping tiles of so many pixels a side: memory of one tile, and close
    to the whole picture's result, not equal to it. Unset: whole; a preview that does not fit is decoded in tiles."""

    quantize: Quantization = "none"
    """Hold the denoiser's large layers in fewer bits; each is unpacked when it computes. `int8`: half of 16 bits, and
    closest to the plain base. `fp8`: as large, rounds five times as coarsely. `nf4`: a quarter, and coarsest. Slower;
    the adapter learns to make up for the rounding, so draw with a base held alike or check that it still looks
    right."""

    quantize_text_encoder: Quantization = "none"
    """The same for the text encoder, which is small: the denoiser is where the memory goes."""

    prediction: Literal["auto", "epsilon", "v"] = "auto"
    """What the base predicts. `auto`: as the model says of itself. A Stable Diffusion 2.x checkpoint does not say:
    `v` for those of 768 pixels, `epsilon` for those of 512."""

    clip_skip: Annotated[int, Field(ge=1, le=12)] = 1
    """Which layer of the text encoder is used, counted from the end: 1 is the last, 2 the one before (anime models).
    Stable Diffusion XL always uses the one before."""

    max_tokens: Literal[75, 150, 225] = 75
    """Tokens of a caption that are used; longer captions are cut there. More than 75 are encoded in windows of 75."""

    emphasis: Emphasis = "off"
    """What brackets in captions and prompts mean. `off`: nothing, they are text. Otherwise `(word:1.3)` counts 1.3
    times, `(word)` 1.1 times, `[word]` 1 / 1.1 times, they nest, and `\\(` is a bracket. `plain`: the encoded word is
    multiplied, as sd-scripts does. `mean`: then the whole caption is scaled back to its mean before, as many programs
    that draw do."""

    token_padding: bool = True
    """Let the denoiser see the empty tokens behind a caption, as Stable Diffusion was trained and as programs that draw
    do. Off: it sees the caption's own tokens only. Then draw without padding too."""

    text_encoder_mask: Literal["none", "clip", "t5", "all"] = "none"
    """For Stable Diffusion 3 and FLUX.1: which text encoders attend to a caption's own tokens only, not to the empty
    ones behind. `none`: as they were made and as programs draw. FLUX.1 knows `t5`, and then its denoiser does not see
    the empty tokens either. Draw with the same."""

    t5_tokens: Annotated[int, Field(ge=16, le=512)] | None = None
    """For Stable Diffusion 3 and FLUX.1: how many tokens of a caption T5 reads, its end mark among them. Unset: as the
    base was made, 512 for FLUX.1 dev, 256 for schnell and Stable Diffusion 3. Fewer are faster; draw with as many."""

    guidance: Annotated[float, Field(ge=0.0, le=100.0)] = 1.0
    """For FLUX.1 dev: the guidance it is told while it learns. At 1 it answers a picture, so that is what it learns
    pictures at; at more it answers one made more like its caption, which no picture is. Previews are told another
    (`preview.prompts`)."""

    gradient_checkpointing: bool = False
    """Compute parts of the forward pass twice to use less memory: about a third slower, less than half the memory."""

    offload_checkpoints: bool = False
    """With `gradient_checkpointing`: what it remembers of each block waits in the host's memory, too. For long runs of
    blocks at large batches or pictures; the numbers are the same, and it costs the time of two copies."""

    blocks_to_swap: NaturalInt = 0
    """So many blocks of the denoiser wait in the host's memory, and come to the device one ahead of when they compute,
    in the forward and in the backward pass. For large transformers on a GPU that does not hold them. The numbers are
    the same; it costs time."""

    reading: Literal["mapped", "plain"] = "mapped"
    """How the base's files are read, a tensor at a time in either way. `mapped`: as part of the memory, fastest on
    disks of this machine. `plain`: in whole pieces, for network disks and for Windows' disks inside of WSL, where
    mapped files are slow."""

    @model_validator(mode="after")
    def _something_to_offload(self) -> Model:
        if self.offload_checkpoints and not self.gradient_checkpointing:
            raise ValueError(
                "offload_checkpoints moves what gradient_checkpointing remembers; set that to true as well"
            )
        return self

    @model_validator(mode="after")
    def _merged_into_numbers(self) -> Model:
        if self.merged and (self.quantize != "none" or self.quantize_text_encoder != "none"):
            raise ValueError(
                "an adapter cannot be merged into a base in few bits; merge it into a folder first "
                "(`impasto weights merge`), or set quantize to none"
            )
        return self
