"""What a trial uses: a typed, read-only view of the settings that its key is computed from.

The settings are a dict of plain JSON values. A parameter that an older dict lacks has its value from before it existed,
which is looked up only here. Keys, stacks and tables, which go by names, read the dict itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache, cached_property
from typing import Any

from qsweep.data.catalog import DATASETS, DataSet
from qsweep.data.own import data_set
from qsweep.formats import ROUNDING, Float32, Format, make
from qsweep.models.catalog import OUTPUT, Architecture, architecture_of
from qsweep.parameter import ALWAYS, Parameter
from qsweep.trial.optimizers import OPTIMIZERS
from qsweep.trial.parameters import (
    BATCH_SIZE,
    CLIP,
    CODEBOOK,
    COMPRESS,
    EPOCHS,
    FLOAT32_ENDS,
    HISTOGRAM,
    ITERATIONS,
    LAYERS,
    LOSS,
    LOSS_SCALE,
    QUANTIZE_INIT,
    RETRAIN,
    STAGES,
    WINDOW,
)
from qsweep.trial.roles import AT, FLOAT32, KEPT, OPERANDS, ROLES, STORED

Given = Mapping[str, Any]
"""Settings, or a part of them, as in a key."""


def complete(parameters: Iterable[Parameter], given: Given) -> dict[str, Any]:
    """Settings completed with missing parameters, each at the value that means "as before"."""
    return {p.name: p.as_before for p in parameters if p.as_before is not ALWAYS} | dict(given)


@dataclass(frozen=True)
class Data:
    """The examples that a trial sees.

    Attributes:
        name: of a data set in the catalog, or the digest of a user's own, `sha256:…`.
        preprocess: how pixels become inputs, one of qsweep.data.catalog.PREPROCESS.
        split: which examples are the test set, one of qsweep.data.catalog.SPLITS.
        drop_last: whether an incomplete last batch is left out.
    """

    name: str
    preprocess: str
    split: str
    drop_last: bool


@dataclass(frozen=True)
class OptimizerSettings:
    """An optimizer and its parameters.

    Attributes:
        name: of an optimizer in the catalog.
        lr: the learning rate, above 0, which multiplies a direction.
        weight_decay: 0 or above; this multiple of a weight is added to its gradient.
        l1: 0 or above; the gradient of l1 · Σ|w| is added.
        own: all its parameters by name, as its formula reads them.
    """

    name: str
    lr: float
    weight_decay: float
    l1: float
    own: Given

    @classmethod
    def of(cls, given: Given) -> OptimizerSettings:
        """From the settings' `optimizer`."""
        own = complete(OPTIMIZERS[given["name"]].parameters, given)
        return cls(own["name"], own["lr"], own["weight_decay"], own["l1"], own)

    @property
    def memory(self) -> tuple[str, ...]:
        """The tensors that it keeps from step to step: without memory that a parameter of the same name turns off."""
        return tuple(name for name in OPTIMIZERS[self.name].memory if self.own.get(name, 1))


@dataclass(frozen=True)
class Quantization:
    """The rounding of a role, or the compression of a part of a model.

    Attributes:
        format: float32 for values that are not rounded.
        rounding: a role's mode, one of qsweep.formats.ROUNDINGS.
        at: where a role is rounded: `outputs` of layers, or `operands` of products of linear and convolution layers.
        clip: how a compression clips values first: `none`, `least_squares`, or the percentage of a group's values that
            is not clipped, from 50 up to, not including, 100.
    """

    format: Format
    rounding: str = ROUNDING.default
    at: str = AT.as_before
    clip: float | str = CLIP.default

    @classmethod
    def of(cls, given: Given) -> Quantization:
        """From the settings of a role, or of a part in a compression."""
        return _quantization(tuple(given.items()))

    @property
    def rounds(self) -> bool:
        """Whether it rounds at all."""
        return not isinstance(self.format, Float32)

    @property
    def stays(self) -> bool:
        """Whether rounded values are stored, not only operands of a product."""
        return self.at != OPERANDS

    @property
    def axis(self) -> int | None:
        """The axis of channels or groups, if the format sets one by number."""
        found = getattr(self.format, "axis", None)
        return found if isinstance(found, int) else None

    @property
    def group_size(self) -> int:
        """How many values along an axis share a scale or levels; 0 if that is not a number of values."""
        found = getattr(self.format, "per", None)
        return found if isinstance(found, int) else 0


OF_ROLES = (ROUNDING, AT, CLIP)
"""Parameters of a role or a compression besides the format's."""


@cache  # the trials of a grid have few of them
def _quantization(items: tuple[tuple[str, Any], ...]) -> Quantization:
    given = dict(items)
    return Quantization(make(given["format"], given), **{p.name: given[p.name] for p in OF_ROLES if p.name in given})


Roles = Mapping[str, Quantization]
"""Roles, or the parts of a compression, each with its rounding."""


@dataclass(frozen=True)
class Compression:
    """A stage that rounds parts of the model, each once; `parts` are some of qsweep.trial.parameters.COMPRESSIBLE."""

    parts: Roles


@dataclass(frozen=True)
class Retraining:
    """A stage that trains on.

    Attributes:
        keeps_levels: whether values compressed to the same level stay equal, so that levels are trained.
    """

    optimizer: OptimizerSettings
    keeps_levels: bool


@dataclass(frozen=True)
class Settings:
    """Everything a trial uses. `given` is the dict that this is a view of; parts are read lazily."""

    given: Given

    def __reduce__(self) -> tuple[Any, ...]:
        return Settings, (self.given,)  # cached parts are not pickled

    @property
    def seed(self) -> int:
        """Determines initial weights, the order of examples, dropout masks and the random bits of rounding."""
        return int(self.given["seed"])

    # --- data and net -------------------------------------------------------------------------------------------------

    @cached_property
    def data(self) -> Data:
        return Data(**{part.name: self.given["data"][part.name] for part in fields(Data)})

    @property
    def data_set(self) -> DataSet:
        given = self.given["data"]
        return DATASETS[given["name"]] if given["name"] in DATASETS else data_set(given)

    @property
    def examples(self) -> tuple[int, int]:
        """How many examples are for training, and how many for the test."""
        return self.data_set.examples(self.data.split)

    @property
    def model(self) -> Given:
        """The name and the parameters of the net, as qsweep.models.build takes them."""
        model: Given = self.given["model"]
        return model

    @property
    def architecture(self) -> Architecture | None:
        """None for an open model, a user's own or a library's."""
        return architecture_of(self.model)

    @property
    def source(self) -> Any:
        """The identity of the user's own file that the net comes from (see qsweep.models.imports); None for others."""
        return self.model.get("source")

    @property
    def output(self) -> str:
        """What follows the last layer of a net of the catalog: `linear` (nothing), `relu` or `relu_ungated`."""
        return str(self.model.get(OUTPUT.name, OUTPUT.as_before))

    @property
    def init(self) -> Given:
        """The name and the parameters of the initial weights, as qsweep.models.build takes them."""
        init: Given = self.given["init"]
        return init

    # --- training -----------------------------------------------------------------------------------------------------

    @cached_property
    def optimizer(self) -> OptimizerSettings:
        return OptimizerSettings.of(self.given["optimizer"])

    @property
    def loss(self) -> str:
        """`cross_entropy`, or `squared_error`: half the sum of squares over the classes. Per example."""
        return str(self.given[LOSS.name])

    @property
    def loss_scale(self) -> float:
        """A power of two, by which losses are multiplied and gradients divided; 1 for none."""
        return float(self.given.get(LOSS_SCALE.name, LOSS_SCALE.as_before))

    @property
    def epochs(self) -> int:
        """Passes over the training set, from 1; not with iterations."""
        return int(self.given[EPOCHS.name])

    @property
    def batch_size(self) -> int:
        """Examples per step, from 1; not with iterations."""
        return int(self.given[BATCH_SIZE.name])

    @property
    def iterations(self) -> int:
        """Steps of a trial that trains on one example at a time, from 1; 0 for others."""
        return int(self.given.get(ITERATIONS.name, 0))

    @property
    def window(self) -> int:
        """With iterations, over how many of the last ones training accuracy and loss are means, from 1."""
        return int(self.given[WINDOW.name])

    @property
    def histogram(self) -> int:
        """Bins of a histogram of each layer's values after the last epoch; 0 for none."""
        return int(self.given.get(HISTOGRAM.name, HISTOGRAM.as_before))

    # --- rounding -----------------------------------------------------------------------------------------------------

    @property
    def quantize_init(self) -> bool:
        """Whether stored values are rounded before the first step; False if none are rounded."""
        return bool(self.given.get(QUANTIZE_INIT.name, False))

    @cached_property
    def quantize(self) -> Roles:
        """The roles that have a format in the whole net; others stay in float32."""
        return _roles(self.given.get("quantize", {}))

    @cached_property
    def layers(self) -> Mapping[str, Roles | None]:
        """Roles that have another format at some places, by place; None for a place that stays in float32."""
        given = self.given.get(LAYERS, {})
        if given == FLOAT32_ENDS:
            return {}
        return {place: None if own == FLOAT32 else _roles(own) for place, own in given.items()}

    @property
    def has_float32_ends(self) -> bool:
        """Whether the first and the last linear or convolution layer stay in float32."""
        return bool(self.given.get(LAYERS) == FLOAT32_ENDS)

    @property
    def names_places(self) -> bool:
        """Whether there are exceptions for single places."""
        return LAYERS in self.given

    @property
    def everywhere(self) -> list[Roles]:
        """The roles of the whole net, then those of each place with exceptions."""
        return [self.quantize, *(own for own in self.layers.values() if own is not None)]

    def rounded(self) -> Iterator[tuple[str, Quantization]]:
        """Each role that is not in float32, with its rounding: in the whole net, then at single places."""
        for roles in self.everywhere:
            yield from ((role, own) for role, own in roles.items() if own.rounds)

    @property
    def quantized_roles(self) -> tuple[str, ...]:
        """The roles that are rounded anywhere, in order."""
        found = {role for role, _ in self.rounded()}
        return tuple([role for role in ROLES if role in found])

    @property
    def kept_roles(self) -> tuple[str, ...]:
        """The roles whose rounded values are stored: none that is rounded only as an operand."""
        found = {role for role, own in self.rounded() if own.stays}
        return tuple([role for role in KEPT if role in found])

    @property
    def rounds_stored(self) -> bool:
        """Whether stored weights, biases or norms are rounded after a step."""
        return bool({*STORED} & {*self.kept_roles})

    @property
    def keeps_drifting(self) -> bool:
        """Whether values stay rounded from step to step in a format whose scale drifts."""
        return any(own.format.drifts for role, own in self.rounded() if role in KEPT and own.stays)

    @property
    def is_counted(self) -> bool:
        """Whether training keeps parameters rounded, all of them in formats that have codes of a fixed length."""
        kept = [own.format for role, own in self.rounded() if role in STORED and own.stays]
        return bool(kept) and all(fmt.code is not None for fmt in kept)

    @property
    def names_axis(self) -> bool:
        """Whether some format sets an axis by number."""
        return any(own.axis is not None for own in self._quantizations())

    @property
    def has_groups(self) -> bool:
        """Whether some format has a scale, or levels, per group of a number of values."""
        return any(own.group_size for own in self._quantizations())

    def _quantizations(self) -> Iterator[Quantization]:
        """Those of all roles, places and compressions."""
        for roles in (*self.everywhere, *self._compressions()):
            yield from roles.values()

    # --- stages after the training ------------------------------------------------------------------------------------

    @cached_property
    def stages(self) -> tuple[Compression | Retraining, ...]:
        """The stages after training, in order."""
        return tuple([_stage(stage) for stage in self.given.get(STAGES, ())])

    @property
    def compresses(self) -> bool:
        """Whether some stage compresses the model."""
        return bool(self._compressions())

    @property
    def compressed_parts(self) -> tuple[str, ...]:
        """The parts that some stage compresses, each once."""
        return tuple(dict.fromkeys([part for parts in self._compressions() for part in parts]))

    def _compressions(self) -> list[Roles]:
        return [stage.parts for stage in self.stages if isinstance(stage, Compression)]

    @property
    def ends_compressing(self) -> bool:
        """Whether the last stage is a compression, so that it has no epochs."""
        return bool(self.stages) and isinstance(self.stages[-1], Compression)

    @property
    def compressed(self) -> Roles:
        """The parts of the model that are still compressed after all stages, each with its format."""
        kept: dict[str, Quantization] = {}
        for stage in self.stages:
            if isinstance(stage, Compression):
                kept |= stage.parts
            elif not stage.keeps_levels:
                kept = {}
        return kept

    @property
    def retrained(self) -> Settings:
        """The settings in the last stage, a retraining: it has an optimizer, epochs and a batch size of its own."""
        return Settings({**self.given, **self.given[STAGES][-1][RETRAIN]})


def _roles(given: Given) -> Roles:
    return {role: Quantization.of(own) for role, own in given.items()}


def _stage(given: Given) -> Compression | Retraining:
    if COMPRESS in given:
        return Compression(_roles(given[COMPRESS]))
    own = given[RETRAIN]
    return Retraining(OptimizerSettings.of(own["optimizer"]), own[CODEBOOK.name] == "kept")
