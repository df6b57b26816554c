"""Exports the trained weights of a trial to one file, packed if they are compressed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.numpy import load

from qsweep import files
from qsweep.data.files import data_folder, ensure
from qsweep.errors import UserError
from qsweep.formats import Format, parse
from qsweep.formats.packing import ENDING, Array, Groups, to_file
from qsweep.models.imports import parts_of
from qsweep.results.keys import records_like, view
from qsweep.results.records import Record
from qsweep.results.weights import Weights
from qsweep.training import job
from qsweep.trial import environment
from qsweep.trial.measures import STORED_AS
from qsweep.trial.parameters import ITERATIONS
from qsweep.trial.settings import Quantization, Settings


def export(results: Path, key: str, file: Path, say: Callable[[str], None]) -> int:
    """Write the weights of a trial to a file that `qsweep.load_weights` reads; return its size in bytes.

    Args:
        key: the key of the trial, or its beginning.

    Raises:
        UserError: there is no such trial, it is not done, its weights are lost, or the file can't be written.
    """
    if file.suffix != ENDING:
        raise UserError(f"{file}: weights can only be written as {ENDING}: {file.stem}{ENDING}")
    with closing(view(results / "store.db", key)) as store:
        record = _chosen(records_like(store, key), environment.describe(environment.choose("auto")))
        sources = store.sources(_digests(record.view))
    weights = Weights.beside(results, record.environment)
    content = weights.get(record.key)
    if content is None:
        content, record = _retrained(record, sources, weights, say)
    tensors = load(content)
    packed = to_file(tensors, _groups(record, tensors))
    files.write(file, packed)
    return len(packed)


def _chosen(records: list[Record], here: str) -> Record:
    """The record of a done trial, preferably of this environment."""
    done = [record for record in records if record.status == "done"]
    if not done:
        raise UserError(f"{records[0].key[:10]} is {records[0].status}: it has no weights")
    return min(done, key=lambda record: record.environment != here)


def _groups(record: Record, tensors: Mapping[str, Array]) -> dict[str, Groups]:
    """The groups of the compressed tensors; if there are none, of those that training keeps rounded."""
    from qsweep.training.codebooks import groups_in

    if compressed := record.result.get("tensors"):
        formats = record.view.compressed
        return {own["tensor"]: groups_in(formats[own["part"]].format, own["shape"]) for own in compressed}
    stored = record.run.get(STORED_AS)
    found = _guessed(record.view, tensors) if stored is None else {name: parse(text) for name, text in stored.items()}
    return {name: groups_in(fmt, tensors[name].shape) for name, fmt in found.items()}


def _guessed(settings: Settings, tensors: Mapping[str, Array]) -> dict[str, Format]:
    """The formats of parameters that training keeps rounded, by name, for older records, which do not have them.

    A tensor that is not in this format after all, for example in a user's own layer, is packed by its values.
    """

    def at(name: str, role: str) -> Quantization | None:
        there = settings.layers.get(name.rpartition(".")[0], {})
        return None if there is None else there.get(role) or settings.quantize.get(role)

    own = {name: at(name, _role(name, tensors)) for name in tensors}
    return {name: at.format for name, at in own.items() if at is not None and at.rounds and at.stays}


def _role(name: str, tensors: Mapping[str, Array]) -> str:
    """The role of a parameter: weights of norms have one axis, those of linear layers and convolutions more."""
    place, _, own = name.rpartition(".")
    weight = tensors.get(f"{place}.weight" if place else "weight")
    if own not in ("weight", "bias") or weight is None:
        return ""
    return own if weight.ndim > 1 else "norm"


def _digests(settings: Settings) -> list[str]:
    """The digests of the users' files that a trial's net comes from."""
    if not settings.source:
        return []
    file, modules, _ = parts_of(settings.source)
    return [file, *modules.values()]


def _retrained(
    record: Record, sources: Mapping[str, str], weights: Weights, say: Callable[[str], None]
) -> tuple[bytes, Record]:
    """The weights of a trial without stages, which were not stored, and its record, from training it again."""
    settings = record.view
    if settings.iterations:
        raise UserError(
            f"{record.key[:10]} trained on one example at a time ({ITERATIONS.name}), which stores no weights"
        )
    if settings.stages:
        raise UserError(f"the weights of {record.key[:10]} are lost: retrain them with `qsweep run SPEC --force`")
    if set(_digests(settings)) - sources.keys():
        raise UserError(
            f"neither the weights of {record.key[:10]} nor its model's file are stored: `qsweep run` of its spec"
            " stores the file"
        )
    say(f"its weights were not stored: retraining {record.key[:10]}, which took {record.seconds:.0f} s before")
    found = _trained(record, sources, weights, say)
    return found["weights"], replace(record, run=found["run"])


def _trained(
    record: Record, sources: Mapping[str, str], weights: Weights, say: Callable[[str], None]
) -> dict[str, Any]:
    settings, place = record.trial, data_folder()
    ensure(record.view.data_set, place, say)
    (found,) = job.Job(sources, place, environment.choose("auto"), kept=[record.key])([settings])
    if "weights" not in found:
        raise UserError(f"retraining {record.key[:10]} had another outcome: {found['status']}: {found['reason']}")
    if found["environment"] != record.environment:
        say(f"the record is from another environment ({record.environment}): the weights are from this one")
    elif found["result"] != record.result:
        raise UserError(f"retraining {record.key[:10]} had another result: please report it (`qsweep why`)")
    Weights(weights.folder, found["environment"]).put(record.key, found["weights"])
    return found
