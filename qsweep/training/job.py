"""The job: trains a stack of trials, and gives back a record for each. It never raises: an error is a record too."""

from __future__ import annotations

import ctypes
import random
import re
import signal
import sys
import time
import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from qsweep.data.catalog import DATASETS
from qsweep.data.files import load
from qsweep.errors import UserError
from qsweep.models.loading import FILE, line_of
from qsweep.training import apart
from qsweep.training.apart import OutOfTimeError
from qsweep.trial.environment import describe, fix_products
from qsweep.trial.key import key_of
from qsweep.trial.measures import MODEL_BITS, NOT_ROUNDED, STORED_AS
from qsweep.trial.parameters import COMPRESS, ITERATIONS, LOSS, STAGES

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


OF_THE_RUN = ("log", MODEL_BITS, STORED_AS)
"""Parts of an outcome that a record has in `run`, which is never compared."""

MOST_TEXT = 300
"""Characters of a reason."""

GRACE_SECONDS = 10
"""What a stack may take beyond its time: one that does not stop by itself is ended then."""


@dataclass(frozen=True)
class Job:
    """How the stacks of a run are trained, each by one call.

    Attributes:
        sources: text of users' Python files, by SHA-256.
        timeout: wall seconds per trial.
        kept: keys of the trials whose weights come back.
    """

    sources: Mapping[str, str]
    data_folder: Path
    device: str
    timeout: float | None = None
    kept: Collection[str] = ()

    def __call__(self, trials: Sequence[Settings], inputs: Sequence[bytes] = ()) -> list[dict[str, Any]]:
        """Take the last stage of trials that share a stack signature.

        Args:
            trials: settings as `qsweep.trial.resolve` resolves them.
            inputs: the weights that each of them starts from, as safetensors; none where they have but their training.

        Returns:
            One record for each trial, in order: `key`, `environment`, `status`, `reason`, `trial`, `result`,
            `history`, `run`; `weights` where they are asked for and there are any.
        """
        is_apart = self.timeout or any(is_users(settings) for settings in trials)
        outcomes, seconds = (self._train_apart if is_apart else self._train_timed)(trials, inputs)
        run = {"seconds": seconds / max(len(trials), 1), "stack": len(trials), "threads": 1, "device": self.device}
        return [_record(settings, own, self.device, run) for settings, own in zip(trials, outcomes, strict=True)]

    def _limit(self, trials: Sequence[Settings]) -> float | None:
        """Wall seconds of a stack."""
        return self.timeout * len(trials) if self.timeout else None

    def _train_apart(self, trials: Sequence[Settings], inputs: Sequence[bytes]) -> tuple[list[dict[str, Any]], float]:
        """As `_train_timed`, in a process of its own, which can be ended whatever it waits for. A user's file may
        change what every later trial would compute."""
        start = time.perf_counter()
        limit = self._limit(trials)
        try:
            found: tuple[list[dict[str, Any]], float] = apart.call(
                self._train_timed, trials, inputs, prepare=prepare_training, limit=limit and limit + GRACE_SECONDS
            )
        except apart.LostError as error:
            outcome = _outcome_of_nothing("failed", str(error))
        except OutOfTimeError:
            outcome = _outcome_of_nothing("timeout", f"took longer than {limit:g} s, and was ended")
        else:
            return found
        return [outcome] * len(trials), time.perf_counter() - start

    def _train_timed(self, trials: Sequence[Settings], inputs: Sequence[bytes]) -> tuple[list[dict[str, Any]], float]:
        """What becomes of each trial of a stack, and the wall seconds of all."""
        start = time.perf_counter()
        fix_products()
        try:
            import qsweep.training.stages  # noqa: F401  # torch's own start is no trial's time

            start = time.perf_counter()
            with _one_thread(), _time_limit(self._limit(trials)):
                outcomes = self._train(trials, inputs)
                _check_imports(trials[0])
        except Exception as error:  # any error of a user's model, of torch, of the machine
            status = "timeout" if isinstance(error, OutOfTimeError) else "failed"
            outcomes = [_failure(status, error, str(self.data_folder))] * len(trials)
        return outcomes, time.perf_counter() - start

    def _train(self, trials: Sequence[Settings], inputs: Sequence[bytes]) -> list[dict[str, Any]]:
        """Stacked where the net stacks, else one trial after the other; both by the same course."""
        import torch

        from qsweep.kernels.streams import Stream
        from qsweep.models.build import build, initialize, stacks
        from qsweep.training.nets import Net, plain_net, stacked_net
        from qsweep.training.stages import packed, run_last, start_from

        keep_memory()
        shared = trials[0]
        data = DATASETS[shared["data"]["name"]]
        examples = load(data, self.data_folder, shared["data"]["split"])

        def new_model() -> torch.nn.Module:
            with _seeded(shared["seed"]):
                model = build(shared["model"], self.sources, data.shape, data.classes)
            initialize(model, shared["init"], Stream(shared["seed"]))
            return model

        def course(
            part: Sequence[Settings], given: Sequence[bytes], model: torch.nn.Module, net: Net
        ) -> list[dict[str, Any]]:
            start_from(net, given)
            found = []
            for trial, own in zip(part, run_last(net, model, part, data, examples, self.device), strict=True):
                is_kept = own.status == "done" and key_of(trial) in self.kept
                found.append(_outcome(trial, own) | ({"weights": packed(own.weights)} if is_kept else {}))
            return found

        model = new_model()
        if ITERATIONS.name in shared:
            from qsweep.training import one_example

            return [
                _outcome(trial, own)
                for trial, own in zip(trials, one_example.run(model, trials, data, examples), strict=True)
            ]
        if stacks(shared["model"], model, data.shape, data.classes):
            return course(trials, inputs, model, stacked_net(model.to(self.device), len(trials), shared[LOSS.name]))
        outcomes = []
        for index, trial in enumerate(trials):
            model = new_model()
            stacks(shared["model"], model, data.shape, data.classes)  # it learns the shapes of its masks
            net = plain_net(model.to(self.device), shared[LOSS.name])
            outcomes += course([trial], inputs[index : index + 1], model, net)
        return outcomes


def is_users(settings: Settings) -> bool:
    """Whether a trial's net comes from a user's own file."""
    return "source" in settings["model"]


def _outcome_of_nothing(status: str, reason: str) -> dict[str, Any]:
    return {"status": status, "reason": reason[:MOST_TEXT], "result": {}, "history": []}


def _record(settings: Settings, outcome: Mapping[str, Any], device: str, run: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "key": key_of(settings),
        "environment": describe(device),
        "trial": settings,
        **{name: value for name, value in outcome.items() if name not in OF_THE_RUN},
        "run": {**run, **{name: outcome[name] for name in OF_THE_RUN if name in outcome}},
    }


def _failure(status: str, error: Exception, data_folder: str) -> dict[str, Any]:
    text = str(error).replace(data_folder, "$QSWEEP_DATA") if data_folder else str(error)
    message = without_paths(" ".join(text.split()))
    is_ours = isinstance(error, OutOfTimeError | UserError)  # its message says all, in the user's words
    reason = message if is_ours else _told(type(error).__name__, message, line_of(error))
    log = without_paths("".join(traceback.format_exception(error, limit=-3)))
    return {**_outcome_of_nothing(status, reason), "log": log[-4000:]}


def _told(name: str, message: str, line: str) -> str:
    """An error as one line: `ValueError: no such layer (nets.py, line 3)`."""
    where = f" ({line})" if line else ""
    return f"{f'{name}: {message}'.removesuffix(': ')[: MOST_TEXT - len(where)]}{where}"


def with_file(outcome: Mapping[str, Any], file: str) -> dict[str, Any]:
    """An outcome in which a user's own file has its name: a job knows its text alone, and calls it `<model>`.

    Args:
        file: relative to the spec.
    """
    named = {name: text.replace(FILE, file) for name, text in outcome.items() if name in ("reason", "log")}
    more = {"run": with_file(outcome["run"], file)} if "run" in outcome else {}
    return {**outcome, **named, **more}


def without_paths(text: str) -> str:
    """A text that may be mailed: of each full path (or address) no more than the last name."""
    return FOLDERS.sub("…/", text)


# --- looking at a net before it trains --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inspection:
    """What building a net once and running it on blank examples tells of a trial.

    Attributes:
        failure: status, reason and log, as in a record, where the net can not be built or run. The rest says nothing
            then.
        is_known: whether the net was built at all in the time that there was.
        stacks: whether trials of this net train in stacks.
        places: the names of its places.
        rounding: those of them whose outputs or errors the trial rounds.
        misfit: what the trial asks of this net that it lacks: a place of `layers`, an axis of a format; "" for nothing.
        not_rounded: what the trial's roles name and nothing rounds.
    """

    failure: Mapping[str, Any] | None = None
    is_known: bool = True
    stacks: bool = False
    places: tuple[str, ...] = ()
    rounding: tuple[str, ...] = ()
    misfit: str = ""
    not_rounded: tuple[str, ...] = ()


def inspect_net(trials: Sequence[Settings], sources: Mapping[str, str], limit: float) -> list[Inspection]:
    """Build the net that trials share once, in a process of its own, and look at it for each of them.

    Args:
        limit: wall seconds.
    """
    try:
        found: list[Inspection] = apart.call(_inspect, trials, sources, prepare=prepare, limit=limit)
    except apart.LostError as error:
        return [Inspection(failure=_outcome_of_nothing("failed", f"building the net failed: {error}"))] * len(trials)
    except OutOfTimeError:
        return [Inspection(is_known=False)] * len(trials)
    return found


def _inspect(trials: Sequence[Settings], sources: Mapping[str, str]) -> list[Inspection]:
    from qsweep.models.build import build, stacks
    from qsweep.training.places import places_of

    shared = trials[0]
    data = DATASETS[shared["data"]["name"]]
    try:
        with _one_thread(), _seeded(shared["seed"]):
            net = build(shared["model"], sources, data.shape, data.classes)
            is_stacking = stacks(shared["model"], net, data.shape, data.classes)
            places = places_of(net, data.shape)
            _check_imports(shared)
    except Exception as error:  # any error of a user's model, and whatever torch says of shapes
        failure = _failure("failed", error, "")
        reason = failure["reason"] if is_users(shared) else _refusal(shared, error)
        return [Inspection(failure={**failure, "reason": reason})] * len(trials)
    return [_inspection(settings, is_stacking, places) for settings in trials]


def _inspection(settings: Settings, is_stacking: bool, places: Places) -> Inspection:
    try:
        places.layers(settings)
        places.check_axes(settings)
    except UserError as error:
        return Inspection(stacks=is_stacking, places=places.names, misfit=str(error))
    return Inspection(
        stacks=is_stacking,
        places=places.names,
        rounding=places.rounding(settings),
        not_rounded=places.not_rounded(settings),
    )


def _check_imports(settings: Settings) -> None:
    """Refuse a user's net that has run what its key does not hold."""
    if is_users(settings):
        from qsweep.models.loading import check

        check()


def _refusal(settings: Settings, error: Exception) -> str:
    """What keeps a net that is no user's from training on a data set."""
    if isinstance(error, UserError):
        return str(error)
    data = DATASETS[settings["data"]["name"]]
    size = "×".join(map(str, data.shape))
    cause = (str(error) or type(error).__name__).splitlines()[0]
    return f"{settings['model']['name']} does not take {data.name}'s images of {size}: {cause}"


def unbuilt(settings: Settings, failure: Mapping[str, Any], device: str) -> dict[str, Any]:
    """The record of a trial whose net can not be built: it has failed before it was trained."""
    return _record(settings, failure, device, {"seconds": 0.0, "stack": 1, "threads": 1, "device": device})


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """A user's net may draw its own initial values, from any of the usual generators: the same for trials of a seed."""
    import numpy as np
    import torch

    python, numpys = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpys)


def _outcome(trial: Settings, own: Outcome) -> dict[str, Any]:
    stages = trial.get(STAGES, [])
    first = 0 if stages and COMPRESS in stages[-1] else 1
    history = [{"stage": len(stages), "epoch": i, **metrics} for i, metrics in enumerate(own.epochs, start=first)]
    more = {**own.sizes, **({"histograms": own.histograms} if own.histograms else {})}
    lacking = {NOT_ROUNDED: list(own.not_rounded)} if own.not_rounded else {}
    result = {**(own.epochs[-1] | more if own.status == "done" else {}), **lacking}
    return {"status": own.status, "reason": own.reason, "result": result, "history": history, **own.kept_sizes}


def prepare() -> None:
    """Have ready what looking at nets needs, in a process that is forked for each of them: no thread may start here."""
    fix_products()
    import qsweep.training.places
    import qsweep.training.stages  # noqa: F401


def prepare_training() -> None:
    """The same for training."""
    prepare()
    from qsweep.kernels.streams import Stream

    Stream(0).uniform((1,), "", "", 0)  # numba takes more than a second for the first kernel of a process


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
