"""LeNet on MNIST, batch 64, one core: every tensor in 8-bit block floating point against float32.

Baselines, interleaved in the same run: a plain PyTorch loop with a DataLoader, as in the document, and the same loop
with QPyTorch's quantizers (`pip install qtorch`; skipped if it is not installed). qsweep runs as in a worker, each
baseline in a separate process, as its users would run it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from measure import as_a_worker, ratios, spread
from torch import nn

from qsweep.data.catalog import DATASETS
from qsweep.data.files import data_folder, ensure, load
from qsweep.kernels.streams import Stream
from qsweep.models.build import build, initialize
from qsweep.runner.backends import worker_environment
from qsweep.spec.file import read
from qsweep.spec.plan import expand
from qsweep.training.course import Course, Totals
from qsweep.training.nets import plain_net
from qsweep.trial.key import Trial

STEPS, N = 40, 9
MNIST = DATASETS["mnist"]


def course(trial: Trial) -> Callable[[], None]:
    """A function that runs some training steps of a trial."""
    model = build(trial.view.model, {}, MNIST.shape, MNIST.classes)
    initialize(model, trial.view.init, Stream(0))
    running = Course(plain_net(model), model, [trial.view], MNIST, load(MNIST, data_folder()))
    batches, totals = list(running.batches(1)), Totals(1)

    def steps() -> None:
        for chosen in batches[:STEPS]:
            running.train_step(chosen, totals)

    return steps


class Net(nn.Module):
    """The document's LeNet, with a module after each activation."""

    def __init__(self, between: Callable[[], nn.Module]) -> None:
        super().__init__()
        first = (nn.Conv2d(1, 20, 5), nn.ReLU(), between(), nn.MaxPool2d(2), between())
        second = (nn.Conv2d(20, 50, 5), nn.ReLU(), between(), nn.MaxPool2d(2), between(), nn.Flatten())
        linear = (nn.Linear(800, 500), nn.ReLU(), between(), nn.Linear(500, 10), between())
        self.layers = nn.Sequential(*first, *second, *linear)

    def forward(self, x: torch.Tensor) -> Any:
        return self.layers(x)


def loader() -> Iterator[Any]:
    """Batches as in the document: torchvision decodes images and converts them to tensors one by one."""
    from torchvision import transforms

    examples = load(MNIST, data_folder())
    images = [transforms.functional.to_pil_image(image) for image in examples.train_images[: 64 * STEPS]]
    prepare = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])

    class Images(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int) -> Any:
            return prepare(images[index]), int(examples.train_labels[index])

    data: Any = torch.utils.data.DataLoader(Images(), batch_size=64, shuffle=True)
    loaded: Iterator[Any] = data
    return loaded


def document(between: Callable[[], nn.Module], wrap: Callable[[Any, Any], Any]) -> Callable[[], None]:
    """A function that runs some steps of the document's loop."""
    net, data = Net(between), loader()
    optimizer = wrap(torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4), net)

    def steps() -> None:
        for x, y in data:
            loss = nn.functional.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return steps


def qpytorch() -> Callable[[], None] | None:
    """The document's quantized loop; None if QPyTorch is not installed."""
    try:
        from qtorch import BlockFloatingPoint, FloatingPoint
        from qtorch.optim import OptimLP
        from qtorch.quant import Quantizer, quantizer
    except ImportError:
        return None
    block, bf16 = BlockFloatingPoint(wl=8, dim=-1), FloatingPoint(exp=8, man=7)
    nearest: dict[str, Any] = {"forward_number": block, "forward_rounding": "nearest"}
    weight, gradient = quantizer(**nearest), quantizer(**nearest)
    copies = quantizer(forward_number=bf16, forward_rounding="nearest")

    def wrap(optimizer: Any, net: nn.Module) -> Any:
        return OptimLP(optimizer, weight_quant=weight, grad_quant=gradient, momentum_quant=copies, acc_quant=copies)

    both = {"backward_number": block, "backward_rounding": "nearest"}
    return document(lambda: Quantizer(**nearest, **both), wrap)


PEERS: dict[str, Callable[[], Callable[[], None] | None]] = {
    "loader": lambda: document(nn.Identity, lambda optimizer, _: optimizer),
    "qpytorch": qpytorch,
}


def serve(name: str) -> None:
    """Run as a baseline process: print a line when ready; for each input line, run some steps and print a line."""
    torch.set_num_threads(1)
    steps = PEERS[name]()
    print("ready" if steps else "absent", flush=True)
    for _ in sys.stdin:
        if steps:
            steps()
        print("done", flush=True)


def peer(name: str) -> Callable[[], None] | None:
    """A function that runs some steps of a baseline, in a separate process without a worker's environment; None if the
    baseline is not available."""
    plain = {k: v for k, v in os.environ.items() if k not in worker_environment()}
    command = [sys.executable, __file__, "--peer", name]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=plain)
    output, requests = process.stdout, process.stdin
    assert output is not None
    assert requests is not None
    if output.readline() != "ready\n":
        return None

    def steps() -> None:
        requests.write("\n")
        requests.flush()
        assert output.readline() == "done\n"

    return steps


def compare(name: str, one: Callable[[], None], other: Callable[[], None]) -> None:
    """Print how many times as fast as `other` `one` is."""
    times, others = ratios(one, other, N)
    ratio = spread([b / a for a, b in zip(times, others, strict=True)])
    speeds = [spread([STEPS / t for t in own]) for own in (times, others)]
    print(f"{name}: {ratio}; {' against '.join(speeds)} steps/s")


def main() -> None:
    """qsweep's block floating point against its float32, and both against their baselines."""
    as_a_worker()
    ensure(MNIST, data_folder(), print)
    trials = expand(read(Path(__file__).parent.parent / "configs" / "low_precision_block.yaml")).trials
    block, as_qtorch, float32 = (course(trials[i]) for i in (0, 3, 6))
    compare("block floating point against float32", block, float32)
    compare("with QPyTorch's rules against float32", as_qtorch, float32)
    for what, own, name in (
        ("float32 against a loop with a DataLoader", float32, "loader"),
        ("with QPyTorch's rules against QPyTorch", as_qtorch, "qpytorch"),
    ):
        if other := peer(name):
            compare(what, own, other)


if __name__ == "__main__":
    serve(sys.argv[2]) if "--peer" in sys.argv else main()
