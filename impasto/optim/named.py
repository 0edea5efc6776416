"""Any optimizer of the libraries we know, by name: looked up, and tried on a toy before anything is trained."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from impasto.errors import ConfigError, Problem
from impasto.optim import config as settings
from impasto.optim.adapted import Adapted, Groups
from impasto.optim.flat import FlatParameters
from impasto.optim.optimizers import Optimizer

PACKAGES = {
    "torch.optim": "torch",
    "pytorch_optimizer": "pytorch-optimizer",
    "bitsandbytes.optim": "bitsandbytes",
}
"""Where names are looked up, in this order, and what to install for it. Never an import of whatever a file says."""

WRONG = {
    "pytorch_optimizer": {
        "DAdaptAdan": ("squares the squares of the gradients", 'kind = "d-adaptation", rule = "adan"')
    }
}
"""Optimizers that are not what they are called, by package: what they do, and what to use."""

NAME = "optim.optimizer.name"
OPTIONS = "optim.optimizer.options"
GIVEN_BY_US = {"self", "params", "lr", "kwargs", "args"}


def rule(flat: FlatParameters, config: settings.Library) -> Adapted:
    """The optimizer over an adapter's parameters, in their shapes. Raises ConfigError if there is none of the name."""
    return Adapted(flat, partial(_make, _found(config), config.options))


def check(config: settings.Library) -> None:
    """Raise ConfigError if there is no such optimizer, or none with these options, or if it breaks our promises.

    Whether it does is tried: it has to move a toy, forget a step that was not finite, and resume to the bit.
    """
    found = _found(config)
    try:
        broken = _promise_broken(config)
    except Exception as error:
        what = f"{found.__name__} cannot be used with these options: {error or type(error).__name__}"
        raise ConfigError(Problem("E-CFG-047", what, OPTIONS, "see its documentation, or choose another")) from error
    if broken:
        what = f"{found.__name__} {broken}, so a run could not be gone on with exactly"
        raise ConfigError(Problem("E-CFG-048", what, NAME, "choose another optimizer"))


def _found(config: settings.Library) -> type[torch.optim.Optimizer]:
    before, _, name = config.name.rpartition(".")
    if before and before not in PACKAGES:
        what = f'"{before}" is none of the libraries optimizers are taken from: {", ".join(PACKAGES)}'
        raise ConfigError(Problem("E-CFG-045", what, NAME, f'name = "{name}"'))
    known: dict[str, type[torch.optim.Optimizer]] = {}
    for package in [before] if before else reversed(PACKAGES):
        known |= _optimizers(package)
    if before and not known:
        what = f"the package {PACKAGES[before]} is not installed"
        raise ConfigError(Problem("E-CFG-046", what, NAME, f"pip install {PACKAGES[before]}"))
    if name not in known:
        near = " or ".join(f'name = "{each}"' for each in _near(name, known))
        fix = near or f"one of {', '.join(sorted(known))}"
        raise ConfigError(Problem("E-CFG-045", f'no optimizer is called "{name}"', NAME, fix))
    _check_name(known[name])
    _check_options(known[name], config.options)
    return known[name]


def _optimizers(package: str) -> dict[str, type[torch.optim.Optimizer]]:
    if find_spec(package.partition(".")[0]) is None:
        return {}
    module = importlib.import_module(package)
    return {
        name: each
        for name, each in vars(module).items()
        if inspect.isclass(each) and issubclass(each, torch.optim.Optimizer) and _is_made_of_parameters(each)
    }


def _is_made_of_parameters(found: type) -> bool:
    """Not of a model, of another optimizer or of nothing, as wrappers and bases are."""
    takes = inspect.signature(found.__init__).parameters  # type: ignore[misc]
    needs = [each.name for each in takes.values() if each.default is each.empty and each.kind != each.VAR_KEYWORD]
    return "lr" in takes and "params" in needs


def _check_name(found: type) -> None:
    does, fix = WRONG.get(found.__module__.partition(".")[0], {}).get(found.__name__, ("", ""))
    if does:
        raise ConfigError(Problem("E-CFG-049", f"{found.__name__} of this library {does}", NAME, fix))


def _check_options(found: type, options: Mapping[str, Any]) -> None:
    takes = inspect.signature(found.__init__).parameters  # type: ignore[misc]
    own = [name for name in takes if name not in GIVEN_BY_US]
    needed = [name for name in own if takes[name].default is inspect.Parameter.empty and name not in options]
    problems = []
    for name in options:
        if name not in own:
            near = " or ".join(f"{each} = …" for each in _near(name, own))
            fix = near or f"one of {', '.join(own)}"
            fix = "set optim.learning_rate" if name == "lr" else fix
            problems.append(Problem("E-CFG-047", f'{found.__name__} has no option "{name}"', OPTIONS, fix))
    for name in needed:
        problems.append(Problem("E-CFG-047", f'{found.__name__} needs the option "{name}"', OPTIONS, f"{name} = …"))
    if problems:
        raise ConfigError(*problems)


def _near(name: str, known: Iterable[str]) -> list[str]:
    plain = {each.casefold(): each for each in known}
    return [plain[each] for each in get_close_matches(name.casefold(), plain, n=3)]


def _make(found: Any, options: Mapping[str, Any], groups: Groups) -> list[torch.optim.Optimizer]:
    return [found(groups, lr=1.0, **options)]


def _promise_broken(config: settings.Library) -> str:
    whole, other, fresh = _Toy(config), _Toy(config), _Toy(config)
    whole.train(range(3))
    other.train(range(2))
    before = other.everything()
    other.train([2], broken=True)
    if not _equal(before, other.everything()):
        return "does not forget a step that was not finite"
    fresh.restore(before)
    fresh.train([2])
    return "" if _equal(whole.everything(), fresh.everything()) else "does not resume to the bit"


class _Toy:
    """A matrix and a vector."""

    def __init__(self, config: settings.Library) -> None:
        generator = torch.Generator().manual_seed(0)
        self._parameters = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((8, 6), (6,))]
        self._optimizer = Optimizer(flat := FlatParameters({"toy": self._parameters}), rule(flat, config), clip=0.0)

    def train(self, steps: range | list[int], *, broken: bool = False) -> None:
        for step in steps:
            for parameter in self._parameters:
                assert parameter.grad is not None
                noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step))
                parameter.grad.copy_(noise / 0 if broken else noise)
            self._optimizer.step({"toy": 1e-3})
            self._optimizer.zero_grad()

    def restore(self, everything: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for at, parameter in enumerate(self._parameters):
                parameter.copy_(everything[f"weight.{at}"])
        self._optimizer.restore({name: each for name, each in everything.items() if not name.startswith("weight.")})

    def everything(self) -> dict[str, Tensor]:
        weights = {f"weight.{at}": each.detach().clone() for at, each in enumerate(self._parameters)}
        return {**self._optimizer.state(), **weights}


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    kept = one.keys() - {"skipped"}
    return kept == other.keys() - {"skipped"} and all(torch.equal(one[name], other[name]) for name in kept)
