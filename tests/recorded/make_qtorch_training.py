"""Make qtorch_training.npz: ten steps of QPyTorch's OptimLP and Quantizer, and the accuracies of whole runs, as an oracle.

Made with qtorch 0.3.0 (the array `versions` in the file says with which torch, on a CPU). Run in an environment with
qtorch 0.3.0, torch, scikit-learn and a C++ compiler:

    python tests/data/make_qtorch_training.py

For each case, `<format>|<optimizer>`, of a net of a 3×3 convolution, ReLU, 2×2 max-pool and a dense layer:
    <case>|init|<parameter>             the weights before the first step
    <case>|<place>|in, out              what went into and came out of a quantizer, (steps, *shape): place is
                                        `relu activation`, `relu error` …, or `<parameter> gradient`, `… master`,
                                        `… weight`, `… momentum`
Learning rate, momentum and weight decay are powers of two, so that all orders of operations agree.

    accuracy|block, accuracy|float32    test accuracy of digits after 10 epochs, five seeds
"""

import importlib.metadata
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
from qtorch import BlockFloatingPoint, FixedPoint, FloatingPoint
from qtorch.optim import OptimLP
from qtorch.quant import Quantizer, quantizer
from sklearn.datasets import load_digits
from torch import nn

STEPS, BATCH = 10, 2
FORMATS = {
    "fixed": FixedPoint(wl=8, fl=5),
    "float": FloatingPoint(exp=5, man=2),
    "block": BlockFloatingPoint(wl=8, dim=-1),
}
BF16 = FloatingPoint(exp=8, man=7)
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=2.0**-4, momentum=0.5, weight_decay=2.0**-6),
    "adam": lambda p: torch.optim.Adam(p, lr=2.0**-6, betas=(0.0, 0.0), eps=2.0**-8),
}
Arrays = dict[str, np.ndarray]
Steps = dict[str, list[np.ndarray]]


def note(found: Steps, name: str, values: torch.Tensor) -> None:
    """Keep what a quantizer saw in one step."""
    found.setdefault(name, []).append(values.detach().clone().numpy())


class Recorded(nn.Module):
    """A Quantizer, and what went through it in both directions."""

    def __init__(self, name: str, number: object, found: Steps) -> None:
        super().__init__()
        nearest = {"forward_rounding": "nearest", "backward_rounding": "nearest"}
        self.quantizer = Quantizer(forward_number=number, backward_number=number, **nearest)
        self.name, self.found = name, found

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.quantizer(x)
        self._note("activation", "in", x)
        self._note("activation", "out", y)
        x.register_hook(lambda error: self._note("error", "out", error))
        y.register_hook(lambda error: self._note("error", "in", error))
        return y

    def _note(self, role: str, end: str, values: torch.Tensor) -> None:
        note(self.found, f"{self.name} {role}|{end}", values)


class Net(nn.Module):
    """Named as the test names its own."""

    def __init__(self, quantizers: dict[str, nn.Module]) -> None:
        super().__init__()
        self.conv, self.relu, self.pool, self.linear = nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Linear(18, 10)
        self.quantizers = quantizers  # no submodules: they have no parameters

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.quantizers["relu"](self.relu(self.conv(x)))
        x = self.quantizers["pool"](self.pool(x))
        return self.quantizers["linear"](self.linear(x.flatten(1)))


def ten_steps(case: str, number: object, make: Callable[..., torch.optim.Optimizer]) -> Arrays:
    """All that one case has."""
    found: Steps = {}

    def recording(role: str, own: object) -> Callable[[torch.Tensor], torch.Tensor]:
        rounding = quantizer(forward_number=own, forward_rounding="nearest")
        order = cycle(names)  # OptimLP goes over the parameters in order

        def call(values: torch.Tensor) -> torch.Tensor:
            name = next(order)
            result = rounding(values)
            note(found, f"{name} {role}|in", values)
            note(found, f"{name} {role}|out", result)
            return result

        return call

    torch.manual_seed(3)
    net = Net({name: Recorded(name, number, found) for name in ("relu", "pool", "linear")})
    names = [name for name, _ in net.named_parameters()]
    for name, parameter in net.named_parameters():
        parameter.data = torch.randn_like(parameter) / 4
        note(found, f"init|{name}", parameter)
    adam = case.endswith("adam")
    optimizer = OptimLP(
        make(net.parameters()),
        weight_quant=recording("weight", number),
        grad_quant=recording("gradient", number),
        momentum_quant=None if adam else recording("momentum", BF16),
        acc_quant=recording("master", BF16),
    )
    for _ in range(STEPS):
        x, y = torch.rand(BATCH, 1, 8, 8), torch.randint(0, 10, (BATCH,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return {f"{case}|{name}": np.stack(arrays) for name, arrays in found.items()}


def accuracies(number: object | None, copies: object | None) -> np.ndarray:
    """Whole runs on digits: 64-32-10, block floating point everywhere or nowhere."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    return np.array([whole_run(seed, x, y, number, copies) for seed in range(5)])


def whole_run(seed: int, x: torch.Tensor, y: torch.Tensor, number: object | None, copies: object | None) -> float:
    """The test accuracy of one run of ten epochs, batches of 50, learning rate 0.1, momentum 0.9."""
    torch.manual_seed(seed)

    def between() -> nn.Module:
        nearest = {"forward_rounding": "nearest", "backward_rounding": "nearest"}
        return Quantizer(forward_number=number, backward_number=number, **nearest) if number else nn.Identity()

    def rounding(own: object) -> Callable[[torch.Tensor], torch.Tensor]:
        return quantizer(forward_number=own, forward_rounding="nearest")

    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), between(), nn.Linear(32, 10), between())
    optimizer: torch.optim.Optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    if number:
        own = {"weight_quant": rounding(number), "grad_quant": rounding(number)}
        optimizer = OptimLP(optimizer, **own, momentum_quant=rounding(copies), acc_quant=rounding(copies))
    for _ in range(10):
        for chosen in torch.randperm(1500).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[chosen]), y[chosen]).backward()
            optimizer.step()
    with torch.no_grad():
        return float((net(x[1500:]).argmax(1) == y[1500:]).double().mean())


def main() -> None:
    """Write the file next to this one."""
    found: Arrays = {}
    for name, number in FORMATS.items():
        found |= ten_steps(f"{name}|sgd", number, OPTIMIZERS["sgd"])
    found |= ten_steps("fixed|adam", FORMATS["fixed"], OPTIMIZERS["adam"])
    found["accuracy|block"] = accuracies(FORMATS["block"], BF16)
    found["accuracy|float32"] = accuracies(None, None)
    versions = np.array([f"qtorch {importlib.metadata.version('qtorch')}", f"torch {torch.__version__}"])
    np.savez_compressed(Path(__file__).with_name("qtorch_training.npz"), versions=versions, **found)


if __name__ == "__main__":
    main()
