"""The job: trains a stack of trials, and returns a record for each. It never raises: errors become records too."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsweep.data.files import load
from qsweep.training import apart
from qsweep.training.apart import OutOfTimeError
from qsweep.training.failures import failure_of, outcome_of_nothing
from qsweep.training.process import (
    check_imports,
    keep_memory,
    one_thread,
    prepare_training,
    seeded,
    time_limit,
)
from qsweep.trial.environment import describe, fix_products
from qsweep.trial.key import key_of
from qsweep.trial.measures import MODEL_BITS, NOT_ROUNDED, STORED_AS
from qsweep.trial.settings import Settings

if TYPE_CHECKING:
    from qsweep.training.course import Outcome

OF_THE_RUN = ("log", MODEL_BITS, STORED_AS)
"""Parts of an outcome that a record has in `run`, which is never compared."""

GRACE_SECONDS = 10
"""How long a stack may exceed its time limit before its process is ended."""


@dataclass(frozen=True)
class Job:
    """Trains the stacks of a run, one per call.

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

    def __call__(self, settings: Sequence[dict[str, Any]], inputs: Sequence[bytes] = ()) -> list[dict[str, Any]]:
        """Run the last stage of trials that share a stack signature.

        Args:
            settings: of each trial, as `qsweep.trial.resolve` resolves them.
            inputs: the weights that each of them starts from, as safetensors; none if training is the only stage.

        Returns:
            One record for each trial, in order: `key`, `environment`, `status`, `reason`, `trial`, `result`,
            `history`, `run`; `weights` if they are kept and there are any.
        """
        trials = [Settings(given) for given in settings]
        is_apart = self.timeout or any(trial.source for trial in trials)
        outcomes, seconds = (self._train_apart if is_apart else self._train_timed)(trials, inputs)
        run = {"seconds": seconds / max(len(trials), 1), "stack": len(trials), "threads": 1, "device": self.device}
        return [_record(given, own, self.device, run) for given, own in zip(settings, outcomes, strict=True)]

    def _limit(self, trials: Sequence[Settings]) -> float | None:
        """The time limit of a stack, in wall seconds."""
        return self.timeout * len(trials) if self.timeout else None

    def _train_apart(self, trials: Sequence[Settings], inputs: Sequence[bytes]) -> tuple[list[dict[str, Any]], float]:
        """As `_train_timed`, in a separate process, which can be ended whatever it waits for, and which isolates later
        trials from global changes by a user's file."""
        start = time.perf_counter()
        limit = self._limit(trials)
        try:
            found: tuple[list[dict[str, Any]], float] = apart.call(
                self._train_timed, trials, inputs, prepare=prepare_training, limit=limit and limit + GRACE_SECONDS
            )
        except apart.LostError as error:
            outcome = outcome_of_nothing("failed", str(error))
        except OutOfTimeError:
            outcome = outcome_of_nothing("timeout", f"took longer than {limit:g} s, and was ended")
        else:
            return found
        return [outcome] * len(trials), time.perf_counter() - start

    def _train_timed(self, trials: Sequence[Settings], inputs: Sequence[bytes]) -> tuple[list[dict[str, Any]], float]:
        """The outcome of each trial of a stack, and the wall seconds of all."""
        start = time.perf_counter()
        fix_products()
        try:
            import qsweep.training.stages  # noqa: F401  # importing torch does not count as training time

            start = time.perf_counter()
            with one_thread(), time_limit(self._limit(trials)):
                outcomes = self._train(trials, inputs)
                check_imports(trials[0])
        except Exception as error:  # any error of a user's model, of torch, of the machine
            status = "timeout" if isinstance(error, OutOfTimeError) else "failed"
            outcomes = [failure_of(status, error, str(self.data_folder))] * len(trials)
        return outcomes, time.perf_counter() - start

    def _train(self, trials: Sequence[Settings], inputs: Sequence[bytes]) -> list[dict[str, Any]]:
        """Train stacked if the net stacks, otherwise one trial after the other, with the same course."""
        import torch

        from qsweep.kernels.streams import Stream
        from qsweep.models.build import build, initialize, stacks
        from qsweep.training.nets import Net, plain_net, stacked_net
        from qsweep.training.stages import packed, run_last, start_from

        keep_memory()
        shared = trials[0]
        data = shared.data_set
        examples = load(data, self.data_folder, shared.data.split)

        def new_model() -> torch.nn.Module:
            with seeded(shared.seed):
                model = build(shared.model, self.sources, data.shape, data.classes)
            initialize(model, shared.init, Stream(shared.seed))
            return model

        def course(
            part: Sequence[Settings], given: Sequence[bytes], model: torch.nn.Module, net: Net
        ) -> list[dict[str, Any]]:
            start_from(net, given)
            found = []
            for trial, own in zip(part, run_last(net, model, part, data, examples, self.device), strict=True):
                is_kept = own.status == "done" and key_of(trial.given) in self.kept
                found.append(_outcome(trial, own) | ({"weights": packed(own.weights)} if is_kept else {}))
            return found

        model = new_model()
        if shared.iterations:
            from qsweep.training import one_example

            return [
                _outcome(trial, own)
                for trial, own in zip(trials, one_example.run(model, trials, data, examples), strict=True)
            ]
        if stacks(shared.model, model, data.shape, data.classes):
            return course(trials, inputs, model, stacked_net(model.to(self.device), len(trials), shared.loss))
        outcomes = []
        for index, trial in enumerate(trials):
            model = new_model()
            stacks(shared.model, model, data.shape, data.classes)  # determines the shapes of its masks
            net = plain_net(model.to(self.device), shared.loss)
            outcomes += course([trial], inputs[index : index + 1], model, net)
        return outcomes


def _record(
    settings: dict[str, Any], outcome: Mapping[str, Any], device: str, run: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "key": key_of(settings),
        "environment": describe(device),
        "trial": settings,
        **{name: value for name, value in outcome.items() if name not in OF_THE_RUN},
        "run": {**run, **{name: outcome[name] for name in OF_THE_RUN if name in outcome}},
    }


def unbuilt(settings: dict[str, Any], failure: Mapping[str, Any], device: str) -> dict[str, Any]:
    """The record of a trial whose net cannot be built: it failed before training."""
    return _record(settings, failure, device, {"seconds": 0.0, "stack": 1, "threads": 1, "device": device})


def _outcome(trial: Settings, own: Outcome) -> dict[str, Any]:
    stage, first = len(trial.stages), 0 if trial.ends_compressing else 1
    history = [{"stage": stage, "epoch": i, **metrics} for i, metrics in enumerate(own.epochs, start=first)]
    more = {**own.sizes, **({"histograms": own.histograms} if own.histograms else {})}
    lacking = {NOT_ROUNDED: list(own.not_rounded)} if own.not_rounded else {}
    result = {**(own.epochs[-1] | more if own.status == "done" else {}), **lacking}
    return {"status": own.status, "reason": own.reason, "result": result, "history": history, **own.kept_sizes}
