"""The job: trains a stack of trials, and gives back a record for each. It never raises: an error is a record too."""

from __future__ import annotations

import ctypes
import re
import signal
import sys
import time
import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from qsweep.data import load
from qsweep.datasets import DATASETS
from qsweep.environment import describe, fix_products
from qsweep.errors import UserError
from qsweep.trial import key_of
from qsweep.vocabulary import COMPRESS, ITERATIONS, LOSS, STAGES

if TYPE_CHECKING:
    from qsweep.training.course import Outcome
    from qsweep.training.places import Places

Settings = Mapping[str, Any]

MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD = -3, -1, -2  # malloc.h
KEPT_BYTES = 256 * 1024 * 1024


FOLDERS = re.compile(
    r"""(?<=['"])(?:~|[A-Za-z]:|\w+:/)?/(?:[^/'"\n]*/)*(?=[^/'"\n]+['"])"""  # quoted, so that names may hold spaces
    r"""|(?<![\w.…$/])(?:~|[A-Za-z]:|\w+:/)?/(?:[^/\s'"<>|:;,()]+/)*(?=\w)"""
)
"""The folders of a full path or an address, up to its last name."""


class OutOfTimeError(Exception):
    """A stack took longer than its trials may."""


def train_stack(
    trials: Sequence[Settings],
    inputs: Sequence[bytes] = (),
    *,
    sources: Mapping[str, str],
    data_folder: str,
    device: str,
    timeout: float | None,
    kept: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Take the last stage of trials that share a stack signature.

    Args:
        trials: settings as `qsweep.trial` resolves them.
        inputs: the weights that each of them starts from, as safetensors; none where they have but their training.
        kept: keys of the trials whose weights come back.
        sources: text of users' Python files, by SHA-256.
        timeout: wall seconds a trial.

    Returns:
        One record for each trial, in order: `key`, `environment`, `status`, `reason`, `trial`, `result`, `history`,
        `run`; `weights` where they are asked for and there are any.
    """
    start = time.perf_counter()
    fix_products()
    try:
        import qsweep.training.stages  # noqa: F401  # torch's own start is no trial's time

        start = time.perf_counter()
        with _one_thread(), _time_limit(timeout * len(trials) if timeout else None):
            outcomes = _train(trials, inputs, sources, Path(data_folder), device, kept)
    except Exception as error:  # any error of a user's model, of torch, of the machine
        status = "timeout" if isinstance(error, OutOfTimeError) else "failed"
        outcomes = [_failure(status, error, data_folder)] * len(trials)
    run = {
        "seconds": (time.perf_counter() - start) / max(len(trials), 1),
        "stack": len(trials),
        "threads": 1,
        "device": device,
    }
    return [_record(settings, outcome, device, run) for settings, outcome in zip(trials, outcomes, strict=True)]


def _record(settings: Settings, outcome: Mapping[str, Any], device: str, run: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "key": key_of(settings),
        "environment": describe(device),
        "trial": settings,
        **{k: v for k, v in outcome.items() if k != "log"},
        "run": {**run, **({"log": outcome["log"]} if "log" in outcome else {})},
    }


def _failure(status: str, error: Exception, data_folder: str) -> dict[str, Any]:
    message = without_paths(" ".join(str(error).replace(data_folder, "$QSWEEP_DATA").split()))
    reason = message if isinstance(error, OutOfTimeError) else f"{type(error).__name__}: {message}"
    log = without_paths("".join(traceback.format_exception(error, limit=-3)))
    return {"status": status, "reason": reason[:300], "result": {}, "history": [], "log": log[-4000:]}


def without_paths(text: str) -> str:
    """A text that may be mailed: of each full path (or address) no more than the last name."""
    return FOLDERS.sub("…/", text)


def _train(
    trials: Sequence[Settings],
    inputs: Sequence[bytes],
    sources: Mapping[str, str],
    folder: Path,
    device: str,
    kept: Collection[str],
) -> list[dict[str, Any]]:
    """Stacked where the net stacks, else one trial after the other; both by the same course."""
    import torch

    from qsweep.models import build, initialize, stacks
    from qsweep.streams import Stream
    from qsweep.training.nets import Net, plain_net, stacked_net
    from qsweep.training.stages import packed, run_last, start_from

    keep_memory()
    shared = trials[0]
    data = DATASETS[shared["data"]["name"]]
    examples = load(data, folder, shared["data"]["split"])

    def new_model() -> torch.nn.Module:
        with _seeded(shared["seed"]):
            model = build(shared["model"], sources, data.shape, data.classes)
        initialize(model, shared["init"], Stream(shared["seed"]))
        return model

    def course(
        part: Sequence[Settings], given: Sequence[bytes], model: torch.nn.Module, net: Net
    ) -> list[dict[str, Any]]:
        start_from(net, given)
        found = []
        for trial, own in zip(part, run_last(net, model, part, data, examples, device), strict=True):
            weights = {"weights": packed(own.weights)} if own.status == "done" and key_of(trial) in kept else {}
            found.append(_outcome(trial, own) | weights)
        return found

    model = new_model()
    if ITERATIONS.name in shared:
        from qsweep.training import online

        return [
            _outcome(trial, own) for trial, own in zip(trials, online.run(model, trials, data, examples), strict=True)
        ]
    if stacks(shared["model"], model, data.shape, data.classes):
        return course(trials, inputs, model, stacked_net(model.to(device), len(trials), shared[LOSS.name]))
    outcomes = []
    for index, trial in enumerate(trials):
        model = new_model()
        stacks(shared["model"], model, data.shape, data.classes)  # it learns the shapes of its masks
        outcomes += course([trial], inputs[index : index + 1], model, plain_net(model.to(device), shared[LOSS.name]))
    return outcomes


def places_of(settings: Settings, sources: Mapping[str, str]) -> Places:
    """The places of a trial's net, which is built and run once for it; errors of a user's own net pass through."""
    from qsweep.models import build
    from qsweep.training import places

    data = DATASETS[settings["data"]["name"]]
    with _seeded(settings["seed"]):
        return places.places_of(build(settings["model"], sources, data.shape, data.classes), data.shape)


def check_net(settings: Settings) -> None:
    """Build a library's net and run it once on two of the data set's examples.

    Raises:
        UserError: there is none of this name, it draws random numbers itself, or takes no such images.
    """
    from qsweep.models import build, probe

    model, data = settings["model"], DATASETS[settings["data"]["name"]]
    try:
        with _seeded(settings["seed"]):
            probe(build(model, {}, data.shape, data.classes), data.shape, data.classes)
    except UserError:
        raise
    except Exception as error:  # whatever torch says of shapes
        size = "×".join(map(str, data.shape))
        cause = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{model['name']} does not take {data.name}'s images of {size}: {cause}") from None


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """A user's net may draw its own initial values from torch's generator: the same for every trial of a seed."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _outcome(trial: Settings, own: Outcome) -> dict[str, Any]:
    stages = trial.get(STAGES, [])
    first = 0 if stages and COMPRESS in stages[-1] else 1
    history = [{"stage": len(stages), "epoch": i, **metrics} for i, metrics in enumerate(own.epochs, start=first)]
    more = {**own.sizes, **({"histograms": own.histograms} if own.histograms else {})}
    result = {**own.epochs[-1], **more} if own.status == "done" else {}
    return {"status": own.status, "reason": own.reason, "result": result, "history": history}


# --- the process that a job runs in -----------------------------------------------------------------------------------


@contextmanager
def _one_thread() -> Iterator[None]:
    """Two threads add up in another order than one; the caller's own setting comes back afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _time_limit(seconds: float | None) -> Iterator[None]:
    """Raise OutOfTimeError in this thread after so many seconds."""
    if seconds is None:
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise OutOfTimeError(f"took longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@cache
def keep_memory() -> None:
    """Keep freed memory for the next step: glibc gives large blocks back at once, and faults on every page again.

    That costs more than the arithmetic of an update: 6 instead of 2.6 ns a weight.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(MMAP_THRESHOLD, 32 * 1024 * 1024)
        mallopt(TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(TOP_PAD, 16 * 1024 * 1024)
