"""How long a run lasts, what it saves and what it shows: the sections only the engine reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from impasto.schema import FilePath, NaturalInt, PositiveFloat, PositiveInt, Section, Seed

Sampler = Literal["ddim", "euler", "dpm++2m"]


class Train(Section):
    """How long, and with which dice."""

    steps: PositiveInt | None = None
    """Optimizer steps in all. Give this or epochs; with neither, a run lasts 10 epochs."""

    epochs: PositiveInt | None = None
    """Passes over all pictures and their repeats. Give this or steps; with neither, 10."""

    accumulate: PositiveInt = 1
    """Micro-batches that make one optimizer step: a larger batch without its memory."""

    text_encoder_until: PositiveInt | Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Stop training the text encoder here: after a whole number of steps, or a share of all steps (0.5). From then on
    its adapter stays as it is. Unset: it is trained to the end."""

    seed: Seed = 0
    """Decides every random choice. Two runs with the same seed see the same noise, timesteps and order."""

    @model_validator(mode="before")
    @classmethod
    def _usual_length(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("steps") is None and value.get("epochs") is None:
            return {**value, "epochs": 10}
        return value

    @model_validator(mode="after")
    def _one_length(self) -> Train:
        if self.steps is not None and self.epochs is not None:
            raise ValueError(
                "steps and epochs are both given; delete one (`train.epochs=` does it on the command line)"
            )
        return self


class Save(Section):
    """Which adapter files are written, and from where a run can go on."""

    every_steps: PositiveInt | None = None
    """Save after every so many steps."""

    every_epochs: PositiveInt | None = None
    """Save after every so many epochs."""

    files: PositiveInt | None = None
    """Save so many times in the whole run, evenly spread, the end among them: 10 is after each tenth of the steps,
    however long the run is. It goes beside `every_steps` and `every_epochs`."""

    every_minutes: PositiveFloat | None = None
    """Save when so many minutes have passed since the last save."""

    keep: PositiveInt | None = None
    """Adapter files kept beside the final one, the newest ones. Unset: all."""

    keep_checkpoints: Annotated[int, Field(ge=2, le=10**6)] = 2
    """Checkpoints kept to go on from, the newest ones. At least 2, so that one is always whole."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp16"
    """Precision of the adapter files. Checkpoints are always fp32."""

    layout: Literal["kohya", "diffusers"] = "kohya"
    """How the layers are named in adapter files. kohya: as Kohya's scripts do, which most programs read; diffusers: as
    diffusers and PEFT do, for LoRA and DoRA, without T5's layers, with the scale inside the factors."""

    proof: Literal["every", "final", "off"] = "every"
    """When a written file is loaded again through diffusers on a fresh base, its layers counted, a picture compared."""


class Prompt(Section):
    """A picture to draw while training."""

    text: str
    """What to draw."""

    negative: str = ""
    """What not to draw."""

    width: Annotated[int, Field(ge=8, le=8192)] | None = None
    """Pixels. Unset: the run's resolution."""

    height: Annotated[int, Field(ge=8, le=8192)] | None = None
    """Pixels. Unset: the run's resolution."""

    seed: Seed = 1
    """The noise it starts from: the same seed at every step, so that previews can be compared."""

    steps: Annotated[int, Field(ge=1, le=1000)] = 20
    """Denoising steps."""

    guidance: Annotated[float, Field(ge=0.0, le=100.0)] | None = None
    """How closely the words are followed (classifier-free guidance). 1 draws without it, in half the time. Unset: 5,
    and 1 for FLUX.1, which follows words without it."""

    embedded_guidance: Annotated[float, Field(ge=0.0, le=100.0)] = 3.5
    """For FLUX.1 dev: the guidance that it is told (distilled guidance), 3.5 as most programs draw. In training it is
    told `model.guidance`. Other bases are told none."""

    sampler: Sampler = "ddim"
    """How the noise is taken away."""


class Preview(Section):
    """Pictures drawn while training."""

    prompts: Annotated[tuple[Prompt, ...], Field(strict=False)] = ()
    """What to draw."""

    every_steps: PositiveInt | None = None
    """Draw after every so many steps."""

    every_epochs: PositiveInt | None = None
    """Draw after every so many epochs."""

    at_start: bool = True
    """Draw before the first step too, to see what the base does by itself."""


class Validation(Section):
    """The loss on pictures that are held out of the training, and on as many that are not, with the same noise every
    time."""

    share: Annotated[float, Field(ge=0.0, le=0.5)] | None = None
    """Of the training pictures, the share that is held out: chosen by what is in them, each with all that look like it.
    0.0: none. Unset: none where a set has the role `validation` or there are fewer than 20 pictures, else 0.05 of them,
    at least 2 and at most `pictures`."""

    pictures: NaturalInt = 8
    """Held-out pictures that are measured at most, and as many training pictures; where none is held out, 4 training
    pictures are, if there are 10 to choose from. 0: nothing is measured."""

    bins: Annotated[int, Field(ge=1, le=32)] = 4
    """Into so many equal parts the noise levels that are trained are divided; each picture is measured in the middle of
    each."""

    timesteps: Annotated[tuple[Annotated[int, Field(ge=0, lt=1000)], ...], Field(strict=False, min_length=1)] | None = (
        None
    )
    """The timesteps at which each picture is measured, as [100, 300, 500]. Unset: the middles of `bins`."""

    every_steps: PositiveInt | None = None
    """Measure after every so many steps, and at the end. Unset: at the start, at the end and in between, as often as
    takes less than 5 % of the time."""

    patience: PositiveInt | None = None
    """End the run early once so many measurements in a row brought no lower loss on the held-out pictures. Unset:
    never. The schedule of the rate is not shortened by it."""

    @property
    def levels(self) -> int:
        """Noise levels of each picture."""
        return self.bins if self.timesteps is None else len(self.timesteps)


class Scores(Section):
    """The files worth a try, scored at the end by pictures they draw: how like the training pictures, what leaks into
    other words, how varied, how much is copied."""

    trigger: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """The word or words that call the concept, as in the captions. With it the files on the shortlist are scored, and
    one that draws as well and copies or leaks less is recommended before others. Unset: nothing is scored."""

    instead: str = ""
    """What stands in the trigger's place to see what leaks, as the class: person, dog."""

    prompts: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """What to draw, each with the trigger in it. Empty: the texts of `preview.prompts` that name it, or the trigger
    alone."""

    seeds: Annotated[tuple[Seed, ...], Field(strict=False, min_length=1, max_length=32)] = (1, 2)
    """The noises each prompt is drawn from, with and without the trigger. Variety needs two or more."""

    steps: Annotated[int, Field(ge=1, le=1000)] = 20
    """Denoising steps of each picture."""

    encoder: str | None = None
    """What pictures are compared by: a folder or hub id of CLIP, SigLIP or DINO. Unset: form and colour, which is
    always there and coarse."""

    pictures: PositiveInt = 64
    """Training pictures that are compared with, at most."""

    def called_by(self, text: str) -> bool:
        """Whether a text has the trigger in it."""
        return self.trigger is not None and word(self.trigger).search(text) is not None

    @model_validator(mode="after")
    def _names_the_trigger(self) -> Scores:
        if self.trigger is None and (self.prompts or self.instead or self.encoder):
            raise ValueError("without scores.trigger nothing is scored; give the word that calls the concept")
        for text in self.prompts:
            if self.trigger is not None and not self.called_by(text):
                raise ValueError(
                    f"the prompt {text!r} has no {self.trigger!r} in it; put it in, or leave the prompt out"
                )
        return self


class Guard(Section):
    """What happens when numbers go wrong."""

    on_nonfinite: Literal["stop", "halve_rate", "roll_back"] = "stop"
    """When three steps in a row have no finite numbers (they are thrown away): `stop` ends the run, its last checkpoint
    is as it was; `halve_rate` goes on at half the rates; `roll_back` does so from a state of a while ago, kept in
    memory. After five such halvings the run ends."""

    remember_every: PositiveInt = 50
    """With `roll_back`: steps between the states that are kept."""

    explosion: Annotated[float, Field(ge=1.5, le=1e6)] = 10.0
    """Warn when a loss or a gradient is so many times what is usual."""


class Output(Section):
    """Where a run lives."""

    folder: FilePath = Path("runs")
    """The folder that holds run folders. A relative path starts at the current folder, wherever it is given."""

    log_every: PositiveInt = 1
    """Write the loss after every so many steps."""

    title: str = ""
    """Title in the adapter file. Unset: the run's name."""

    author: str = ""
    """Author in the adapter file."""

    comment: str = ""
    """A remark for the adapter file."""

    silenced: Annotated[tuple[Annotated[str, Field(pattern=r"^A-\d{3}$")], ...], Field(strict=False)] = ()
    """Codes of advice that is not to be given for this run, as ["A-402"]. `impasto plan` shows the codes."""

    description: str = ""
    """What the adapter is and does, for the adapter file; sites that share files show it. Unset: the comment."""

    license: str = ""
    """Under which terms the adapter may be used, for the adapter file."""

    tags: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Words by which sites that share files find it, for the adapter file."""

    trigger_phrase: str = ""
    """The words that call the concept, for the adapter file; programs that draw offer them."""

    usage_hint: str = ""
    """How to use it (strength, sampler, words to add), for the adapter file."""

    preprocessor: str = ""
    """How pictures were made ready before training, for the adapter file."""

    thumbnail: bool = False
    """Put the newest preview of the first prompt into the adapter file, made small, where sites and programs show it.
    Needs preview.prompts."""

    metadata: Literal["full", "least"] = "full"
    """How much the adapter file tells. `full`: settings, counts of pictures and tags, everything another program or a
    later you could ask for; of paths only their last names. `least`: what programs need to load it, and the words of
    this section."""


class Device(Section):
    """What computes."""

    name: Annotated[str, Field(pattern=r"^(auto|cpu|mps|(cuda|xpu)(:\d+)?)$")] = "auto"
    """`auto` takes a GPU if there is one; `cpu`, `cuda`, `cuda:1` ... say which."""

    rows: NaturalInt = 0
    """Examples of all members that may ride in one forward pass. 0: as many as fit."""

    threads: NaturalInt = 0
    """Processor threads. 0: as many as PyTorch takes. A resume is bit-exact with the same number."""

    rank_timeout: Annotated[float, Field(ge=1.0, le=1e6)] = 600.0
    """Where several ranks train together: seconds that one of them may keep the others waiting within a step. Waiting
    for encoding, previews, measurements and saving does not count; a dead or frozen rank is noticed in any case."""

    shard_base: bool = False
    """Where several ranks train together: each holds only its share of the denoiser, and gets the rest block by block
    while it computes (FSDP2). Slower; for a base that one GPU does not hold. Needs `save.proof = "off"`."""


Attention = Literal["auto", "flash", "flash-3", "flash-4", "efficient", "cudnn", "math"]


class Speed(Section):
    """The same training in less time: the numbers are the same but for rounding."""

    attention: Attention = "auto"
    """Which of PyTorch's kernels computes attention. `auto`: the fastest that it has for the case. `flash`, `efficient`
    (what xformers is) and `cudnn` come with PyTorch for NVIDIA's GPUs; `flash-3` and `flash-4` are packages of their
    own, for Hopper GPUs and later; `math` is the plain formula, slow and large, for comparing. What the chosen one
    cannot do is done by another."""

    compile: Literal["off", "blocks"] = "off"
    """`blocks`: the denoiser's blocks are compiled by torch.compile at the start, for the shapes of micro-batches that
    come most often. That takes minutes once, less when torch remembers it, and pays in long runs on a GPU; on a
    processor it rarely does. Where it fails, the run says so and goes on uncompiled."""

    backend: Literal["inductor", "aot_eager", "eager"] = "inductor"
    """What compiles. `inductor` makes faster code and needs a C++ compiler (on a GPU Triton); the other two make
    nothing faster and are for finding out what fails."""

    autotune: bool = False
    """Let the compiler try several kernels for each product and keep the fastest: a longer start."""

    graphs: bool = False
    """Record both passes of the denoiser as CUDA graphs and play them from then on: for NVIDIA's GPUs, where small
    bases wait for the host. With the text encoder at rest, without dropouts, gradient checkpointing and waiting blocks.
    Each shape takes memory of its own."""

    products: Literal["plain", "fp8"] = "plain"
    """`fp8`: with `model.quantize = "fp8"`, linear layers of the denoiser multiply in 8 bits in both passes of a step,
    for NVIDIA's GPUs from Ada (RTX 4000) and Hopper on. Inputs and gradients are rounded too, so this changes the
    training a little more than the others here do. Previews and measurements are computed with plain products."""

    shapes: PositiveInt = 4
    """Shapes of micro-batches (bucket and number of pictures) that are compiled or recorded at most, those that come
    most often. Each takes as long as the first; all other micro-batches run as they are, with the same result."""


def word(trigger: str) -> re.Pattern[str]:
    """Finds the trigger in a text, as a word of its own, however it is written."""
    return re.compile(rf"(?<!\w){re.escape(trigger)}(?!\w)", re.IGNORECASE)
