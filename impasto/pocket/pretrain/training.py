"""What the trainings share: a schedule by the clock, a running average, checkpoints that resume."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed, nn


@dataclass
class Pace:
    """How much of the time is used up, and the learning rate that goes with it."""

    minutes: float
    peak: float
    used: float = 0.0
    """Seconds used by earlier sittings."""
    began: float = field(default_factory=time.monotonic)

    def seconds(self) -> float:
        """Seconds of training so far, over all sittings."""
        return self.used + time.monotonic() - self.began

    def progress(self) -> float:
        """From 0 at the start to 1 at the end."""
        return min(1.0, self.seconds() / (60 * self.minutes))

    def learning_rate(self, progress: float) -> float:
        """A short warm-up, then a cosine down to nearly nothing."""
        return self.peak * min(1.0, progress / 0.02 + 0.01) * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)


@dataclass
class Trainee:
    """The networks in training, their optimizer and their running average."""

    nets: nn.ModuleDict
    optimizer: torch.optim.Optimizer
    decay: float
    average: list[Tensor] = field(default_factory=list)
    steps: int = 0

    def __post_init__(self) -> None:
        self.average = [p.detach().clone() for p in self.nets.parameters()]

    def update(self, rate: float) -> None:
        """One optimizer step at the given learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        nn.utils.clip_grad_norm_(self.nets.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.nets.parameters()], 1 - decay)

    def averaged(self) -> None:
        """Put the running average in the place of the weights. For good: save first."""
        with torch.no_grad():
            for parameter, average in zip(self.nets.parameters(), self.average, strict=True):
                parameter.copy_(average)


def save(trainee: Trainee, file: Path, seconds: float) -> None:
    """Write all that a training needs to go on."""
    tensors = {f"net.{name}": tensor.contiguous() for name, tensor in trainee.nets.state_dict().items()}
    for number, (parameter, average) in enumerate(zip(trainee.nets.parameters(), trainee.average, strict=True)):
        tensors[f"average.{number}"] = average.contiguous()
        for key, value in trainee.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{number}.{key}"] = value.contiguous()
    part = file.with_suffix(".part")
    save_file(tensors, part, {"steps": str(trainee.steps), "seconds": str(seconds)})
    part.replace(file)


def resume(trainee: Trainee, file: Path) -> float:
    """Take up a saved training; the seconds it had used."""
    tensors = load_file(file)
    with safe_open(file, "pt") as opened:
        notes = opened.metadata()
    trainee.nets.load_state_dict({name[4:]: tensor for name, tensor in tensors.items() if name.startswith("net.")})
    with torch.no_grad():
        for number, parameter in enumerate(trainee.nets.parameters()):
            trainee.average[number].copy_(tensors[f"average.{number}"])
            keys = [key for key in tensors if key.startswith(f"optimizer.{number}.")]
            trainee.optimizer.state[parameter] = {key.rsplit(".", 1)[1]: tensors[key] for key in keys}
    trainee.steps = int(notes["steps"])
    return float(notes["seconds"])


def steps_of(file: Path) -> int:
    """How many steps a saved training has taken."""
    with safe_open(file, "pt") as opened:
        return int(opened.metadata()["steps"])


def train(
    trainee: Trainee,
    loss: Callable[[int], Tensor],
    *,
    file: Path,
    minutes: float,
    peak: float,
    glimpse: Callable[[int], None] = lambda _: None,
) -> None:
    """Train until the time is over, from where the checkpoint stands; `loss` computes a numbered step's loss."""
    pace = Pace(minutes, peak, used=resume(trainee, file) if file.exists() else 0.0)
    seen, shown, saved = 0.0, time.monotonic(), time.monotonic()
    progress = pace.progress()
    while progress < 1:
        value = loss(trainee.steps)
        value.backward()  # type: ignore[no-untyped-call]
        progress = _agree(trainee.nets, pace.progress())
        trainee.update(pace.learning_rate(progress))
        seen = 0.98 * seen + 0.02 * float(value.detach()) if seen else float(value.detach())
        if not leads():
            continue
        if time.monotonic() - shown > 20:
            _report(trainee.steps, seen, pace)
            shown = time.monotonic()
        if time.monotonic() - saved > 180:
            save(trainee, file, pace.seconds())
            glimpse(trainee.steps)
            saved = time.monotonic()
    if leads():
        save(trainee, file, pace.seconds())


def batch(total: int, size: int, seed: int, step: int) -> Tensor:
    """The numbers of the examples in a step's batch: every epoch a new order, the same for the same seed."""
    per_epoch = total // size
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed * 1009 + step // per_epoch))
    start = step % per_epoch * size
    return order[start : start + size]


def leads() -> bool:
    """Whether this process is the only one, or the first of those that train together."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


def own_rows(size: int) -> range:
    """The rows of a batch that this process computes."""
    if not distributed.is_initialized():
        return range(size)
    return range(distributed.get_rank(), size, distributed.get_world_size())


def trainable(nets: nn.ModuleDict, rate: float, decay: float, betas: tuple[float, float] = (0.9, 0.99)) -> Trainee:
    """Networks with AdamW and a running average."""
    return Trainee(nets, torch.optim.AdamW(nets.parameters(), lr=rate, betas=betas, weight_decay=0.01), decay)


@torch.no_grad()
def _agree(nets: nn.Module, progress: float) -> float:
    """Average the gradients of the processes that train together, and how far they are."""
    if not distributed.is_initialized():
        return progress
    gradients = [p.grad for p in nets.parameters() if p.grad is not None]
    flat = torch.cat([*(gradient.flatten() for gradient in gradients), torch.tensor([progress])])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for gradient, part in zip(gradients, torch.split(flat[:-1], [g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
    return float(flat[-1])


def _report(steps: int, loss: float, pace: Pace) -> None:
    seconds = pace.seconds()
    left = 60 * pace.minutes - seconds
    print(f"step {steps}  loss {loss:.4f}  {steps / seconds:.2f} steps/s  {left / 60:.1f} min left", flush=True)
