"""A small trainee: two parts, a loss that depends on the step, and its training with the parts flat."""

import pytest
import torch
from torch import nn

from impasto import optim
from impasto.optim.config import AdamW, Optim
from impasto.optim.flat import FlatParameters

CONFIG = Optim(optimizer=AdamW(weight_decay=0.1), clip=0.5)
RATES = {"unet": 1e-2, "text_encoder": 3e-3}


class Trainee:
    """Layers of odd sizes, so that no parameter ends where the next may start."""

    def __init__(self, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.net = nn.ModuleDict({"unet": nn.Linear(7, 5), "text_encoder": nn.Linear(5, 3, bias=False)})
        with torch.no_grad():
            for parameter in self.net.parameters():
                parameter.normal_(generator=generator)
        self.parts = {part: list(layer.parameters()) for part, layer in self.net.items()}

    def loss(self, step):
        x, y = torch.randn(2, 11, 7, generator=torch.Generator().manual_seed(step))
        return (self.net["text_encoder"](self.net["unet"](x).tanh()) - y[:, :3]).square().mean() * 4

    def flatten(self, config=CONFIG):
        self.flat = FlatParameters(self.parts)
        self.optimizer = optim.build(config, self.flat)
        return self

    def train(self, steps, rates=RATES):
        for step in steps:
            self.loss(step).backward()
            report = self.optimizer.step(rates)
            self.optimizer.zero_grad()
        return report

    def weights(self):
        return {name: value.clone() for name, value in self.net.state_dict().items()}

    def everything(self):
        return {**self.weights(), **self.optimizer.state()}


@pytest.fixture
def trainee():
    return Trainee


@pytest.fixture
def rates():
    return dict(RATES)
