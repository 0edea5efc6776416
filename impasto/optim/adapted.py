"""Optimizers of other libraries, held to our promises: a resume to the bit, steps that can be skipped, all as tensors.

Such an optimizer counts in plain numbers, which only the host can set back, and the host does not know whether a step
counts until it waits for the device. So it never waits for the step it is in: the weights are put back on the device
at once, and what the optimizer remembers at the beginning of the next step, when the answer has long arrived.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from impasto.optim import trees
from impasto.optim.flat import FlatParameters

Groups = list[dict[str, Any]]
Make = Callable[[Groups], Sequence[torch.optim.Optimizer]]
"""Optimizers over groups of parameters; together they move all of them. Each group says its `part`."""

Pace = Callable[[int], float]
"""What the rate is multiplied by at a step, counted from 1: steps that are skipped do not count."""


class Adapted:
    """Any `torch.optim.Optimizer` as a rule."""

    def __init__(self, flat: FlatParameters, make: Make, *, whole: bool = False, pace: Pace | None = None) -> None:
        """`whole`: give it each part as one long tensor. Right where it moves every number by itself, or by sums over
        all of them; else it gets the parameters one by one, in their shapes.
        """
        self._flat = flat
        self._make = make
        self._parts = {part: [group.values] if whole else group.parameters for part, group in flat.groups.items()}
        self._pace = pace
        self._count = 0
        self._rules = list(make(_groups(self._parts)))
        self._undo: _Undo | None = None
        self._buffers: list[Tensor] = []

    def step(self, rates: Mapping[str, float], divisor: Tensor | None, skipped: Tensor) -> Mapping[str, float]:
        """Step on finite gradients; where there are none, step on zeros and take it back."""
        self._settle()
        paced = self._pace(self._count + 1) if self._pace else 1.0
        for options in self._all_groups():
            options["lr"] = rates[options["part"]] * paced
        undo = _Undo(self._rules, self._count, self._buffers)
        self._buffers = undo.copies
        broken = skipped > 0
        kept = {part: group.values.detach().clone() for part, group in self._flat.groups.items()}
        for group in self._flat.groups.values():
            if divisor is not None:
                group.grads.div_(divisor)
            group.grads.masked_fill_(broken, 0.0)
        for rule in self._rules:
            rule.step()
        for part, group in self._flat.groups.items():
            group.values.copy_(torch.where(broken, kept[part], group.values))
        undo.ask(broken)
        self._undo = undo
        self._count += 1
        found = {each["part"]: float(each["d"]) for each in self._all_groups() if _finds_rate(each)}
        return {part: rate * paced * found.get(part, 1.0) for part, rate in rates.items()}

    def tensors(self) -> Mapping[str, Tensor]:
        """`<part>.rule<number>.<parameter>.<name>`, `<part>.rule<number>.<name>`, `rule<number>.<name>`, `count`."""
        self._settle()
        named = {name: value for root, tree in self._trees(self._rules) for name, value in trees.leaves(tree, root)}
        return {**named, "count": torch.tensor(self._count)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Begin anew, then put every number in its place."""
        pattern = self._pattern(state)
        rules = list(self._make(_groups(self._parts)))
        shown = dict(self._trees(pattern))

        def filled(root: str) -> Any:
            return trees.filled(shown.get(root, {}), root, state, self._flat.device)

        for number, rule in enumerate(rules):
            for name, parameter in _named(rule, number):
                if name in shown:
                    rule.state[parameter] = filled(name)
            for group in rule.param_groups:
                group.update(filled(f"{group['part']}.rule{number}"))
            for name, value in filled(f"rule{number}").items():
                setattr(rule, name, value)
        self._rules, self._undo = rules, None
        self._count = int(state["count"])

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Where the library tells training from use (`eval`, as schedule-free optimizers do): its weights for use."""
        switching = [rule for rule in self._rules if hasattr(rule, "eval") and hasattr(rule, "train")]
        if not switching:
            yield
            return
        self._settle()
        kept = {part: group.values.detach().clone() for part, group in self._flat.groups.items()}
        try:
            for rule in switching:
                rule.eval()
            yield
        finally:
            for rule in switching:
                rule.train()
            with torch.no_grad():
                for part, group in self._flat.groups.items():
                    group.values.copy_(kept[part])  # there and back again would round

    def _settle(self) -> None:
        """Take the last step back if the device has found that it does not count."""
        if self._undo is not None and self._undo.answer():
            self._count = self._undo.put_back()
        self._undo = None

    def _all_groups(self) -> Iterator[dict[str, Any]]:
        return (group for rule in self._rules for group in rule.param_groups)

    def _trees(self, rules: Sequence[torch.optim.Optimizer]) -> Iterator[tuple[str, Any]]:
        """What a step depends on and no setting says, by where it belongs."""
        for number, rule in enumerate(rules):
            settings = set(inspect.signature(type(rule).__init__).parameters)
            for name, parameter in _named(rule, number):
                if parameter in rule.state:
                    yield name, rule.state[parameter]
            for group in rule.param_groups:
                own = {key: value for key, value in group.items() if key not in settings | {"params", "part", "lr"}}
                yield f"{group['part']}.rule{number}", own
            yield f"rule{number}", _attributes(rule, settings)

    def _pattern(self, state: Mapping[str, Tensor]) -> Sequence[torch.optim.Optimizer]:
        """The same optimizers over copies of the parameters, before or after a step, whichever the state is of."""
        expected: dict[str, Any] = {}
        for steps in (0, 1):
            parts = {part: [_twin(each) for each in parameters] for part, parameters in self._parts.items()}
            rules = self._make(_groups(parts))
            for rule in rules if steps else ():
                rule.step()
            expected = {name: leaf for root, tree in self._trees(rules) for name, leaf in trees.walk(tree, root)}
            expected["count"] = 0
            if expected.keys() == state.keys():
                break
        else:
            missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
            raise ValueError(f"the saved state is another's: missing {missing[:4]}, unknown {unknown[:4]}")
        for name, leaf in expected.items():
            if not trees.fits(leaf, state[name]):
                own = f"{leaf.dtype} {tuple(leaf.shape)}" if isinstance(leaf, Tensor) else "a plain number"
                raise ValueError(f"the saved {name} is {state[name].dtype} {tuple(state[name].shape)}, not {own}")
        return rules


class _Undo:
    """Everything optimizers remember, as it was; and the question whether it has to be put back."""

    def __init__(self, rules: Sequence[torch.optim.Optimizer], count: int, buffers: list[Tensor]) -> None:
        self._count = count
        self._states = [(rule, {key: trees.copied(value) for key, value in rule.state.items()}) for rule in rules]
        self._groups = [
            (group, {key: trees.copied(value) for key, value in group.items() if key != "params"})
            for rule in rules
            for group in rule.param_groups
        ]
        self._attributes = [(rule, _attributes(rule, set())) for rule in rules]
        remembered = [[tree for _, tree in found] for found in (self._states, self._groups, self._attributes)]
        self._tensors = [each for each in trees.tensors(remembered) if each.numel()]
        fit = len(buffers) == len(self._tensors) and all(
            (one.shape, one.dtype, one.device) == (other.shape, other.dtype, other.device)
            for one, other in zip(buffers, self._tensors, strict=True)
        )
        self.copies = buffers if fit else [torch.empty_like(each) for each in self._tensors]
        if self._tensors:
            torch._foreach_copy_(self.copies, self._tensors)

    def ask(self, broken: Tensor) -> None:
        """Send for the answer."""
        self._event: torch.cuda.Event | None = None
        if broken.device.type == "cuda":
            self._answer = torch.empty((), dtype=torch.bool, pin_memory=True)
            self._answer.copy_(broken, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()
        else:
            self._answer = broken

    def answer(self) -> bool:
        """Whether to put everything back. Waits for what the device was asked a step ago."""
        if self._event is not None:
            self._event.synchronize()
        return bool(self._answer.cpu().numpy())

    @torch.no_grad()
    def put_back(self) -> int:
        """Everything as it was; returns the count then."""
        if self._tensors:
            torch._foreach_copy_(self._tensors, self.copies)
        for rule, state in self._states:
            rule.state.clear()
            rule.state.update(state)
        for group, before in self._groups:
            for key in group.keys() - before.keys() - {"params"}:
                del group[key]
            group.update(before)
        for rule, attributes in self._attributes:
            for name, value in attributes.items():
                setattr(rule, name, value)
        return self._count


def _groups(parts: Mapping[str, Sequence[nn.Parameter]]) -> Groups:
    return [{"params": list(parameters), "part": part} for part, parameters in parts.items()]


def _named(rule: torch.optim.Optimizer, number: int) -> Iterator[tuple[str, nn.Parameter]]:
    for group in rule.param_groups:
        for at, parameter in enumerate(group["params"]):
            yield f"{group['part']}.rule{number}.{at}", parameter


def _attributes(rule: torch.optim.Optimizer, settings: set[str]) -> dict[str, Any]:
    """Numbers that a library keeps on the optimizer itself."""
    return {
        name: value
        for name, value in vars(rule).items()
        if name not in settings and not name.startswith("_") and isinstance(value, bool | int | float | Tensor)
    }


def _finds_rate(group: Mapping[str, Any]) -> bool:
    """Whether the optimizer estimates the distance D to go, by which the rate is multiplied."""
    return "d" in group


def _twin(parameter: nn.Parameter) -> nn.Parameter:
    twin = nn.Parameter(parameter.detach().clone())
    twin.grad = torch.full_like(twin, 1e-3)
    return twin
