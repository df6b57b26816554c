"""Resolving checked parameters to a trial.

Parameters that were checked one by one (qsweep.trial.checks) are resolved to what the trial actually uses: each role
to its format's parameters, each optimizer and model to its own. Unused parameters are left out, so that they can't
change the key.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from qsweep.data.catalog import DATASETS, DataSet
from qsweep.data.own import data_set, is_own
from qsweep.formats import BITWIDTH, COMPAT, ROUNDING, Format, check_rounding, make, parameters_of, spell
from qsweep.formats.learned import CLUSTERS
from qsweep.formats.names import a, example_of
from qsweep.models.catalog import ARCHITECTURES, LIBRARY, SOURCE
from qsweep.models.shapes import TooSmallError, UnfitError
from qsweep.parameter import REQUIRED, BadValueError, Parameter, listing
from qsweep.trial import one_example
from qsweep.trial.key import CODED_SIZES, LOST, NUMERICS, STALLED, Trial, key_of
from qsweep.trial.parameters import (
    BATCH_SIZE,
    CHOICES,
    CODEBOOK,
    DEFAULTS,
    EPOCHS,
    FIXED,
    FIXED_POINT,
    FLOAT32_ENDS,
    HISTOGRAM,
    ITERATIONS,
    LAYERS,
    LOSS_SCALE,
    NAMED,
    ONLINE_PARAMETERS,
    OWN_DATA,
    OWN_DATA_PARAMETERS,
    PLAIN,
    QUANTIZE_INIT,
    RETRAIN,
    ROLE_DEFAULTS,
    STAGES,
    TRAINING_PARAMETERS,
    WAYS,
    compression_parameters,
    role_parameters,
)
from qsweep.trial.roles import AT, FLOAT32, FLOWS, OPERANDS, ROLES
from qsweep.trial.settings import Settings
from qsweep.trial.spelling import describe_layers, describe_role, describe_stages

REACHING = frozenset(p.name for p in ROLE_DEFAULTS)


class TrialError(ValueError):
    """A set of parameters that is not a valid trial; `path` is the parameter at fault."""

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        super().__init__(message)


def resolve(parameters: Mapping[str, Any], seed: int, sources: Mapping[str, Any] | None = None) -> Trial:
    """The trial of checked parameters.

    Args:
        parameters: trial parameters as `check` returns them, nested (`{"model": {"name": …}}`).
        sources: identity of each user's Python file that `model` may name, and of each data set of the user's own.

    Raises:
        TrialError: a parameter that the trial needs is missing.
    """
    return _Resolver({**DEFAULTS, **parameters}, sources or {}).trial(seed)


class _Resolver:
    """Builds settings and columns together, so that a column exists exactly if something uses it."""

    def __init__(self, given: Mapping[str, Any], sources: Mapping[str, Any]) -> None:
        self.given = given
        self.sources = sources
        self.columns: dict[str, Any] = {}
        self.parts = {"step", "random", "init"}

    def trial(self, seed: int) -> Trial:
        is_online = self.given.get(ITERATIONS.name) is not None
        parameters = ONLINE_PARAMETERS if is_online else TRAINING_PARAMETERS
        settings: dict[str, Any] = {
            "data": self._data(),
            "model": self._model(),
            "init": self._choice("init", self.given["init"]),
            "optimizer": self._named("optimizer"),
            **self._read(parameters, self.given),
            **self._quantize(),
            "seed": seed,
        }
        self.parts |= {HISTOGRAM.name} & settings.keys()
        if is_online:
            self.parts = self.parts - {"step"} | {"online"}
            for path, problem in one_example.problems(Settings(settings), self.given):
                raise TrialError(path, problem)
        else:
            view = Settings(settings)
            self._refuse_no_step(view, BATCH_SIZE.name)
            self.parts |= {STALLED} if view.keeps_drifting else set()
            self.parts |= {LOST} if set(view.quantized_roles) - set(view.kept_roles) else set()
        return self._with_stages(settings, self.given.get(STAGES) or [])

    def _with_stages(self, settings: dict[str, Any], stages: list[dict[str, Any]]) -> Trial:
        """The trial of all stages; its bases are the trials that end before each stage."""
        columns, bases = self.columns, list[Trial]()
        if stages:
            columns[STAGES] = describe_stages(stages)
        for count in range(len(stages) + 1):
            before = settings.get(STAGES, [])
            done = [*before, *([self._stage(stages[count - 1], count - 1, settings)] if count else [])]
            numerics = {part: NUMERICS[part] for part in self.parts}
            settings = {**settings, **({STAGES: done} if done else {}), "numerics": numerics}
            bases.append(Trial(settings, columns, key_of(settings), tuple(bases)))
        return bases[-1]

    def _stage(self, stage: Mapping[str, Any], index: int, settings: Mapping[str, Any]) -> dict[str, Any]:
        """A stage with all parameters that it uses: a compression's from its formats, a retraining's from the trial."""
        ((kind, given),) = stage.items()
        self.parts.add(kind)
        path = f"{STAGES}.{index}.{kind}"
        if kind == RETRAIN:
            return {kind: self._retrained(given, settings, path)}
        parts = {part: own for part, own in given.items() if own["format"] != FLOAT32}
        return {kind: {part: self._compressed(own, f"{path}.{part}") for part, own in parts.items()}}

    def _compressed(self, given: Mapping[str, Any], path: str) -> dict[str, Any]:
        if CLUSTERS in parameters_of(given["format"]) and CLUSTERS.name not in given and BITWIDTH.name in self.given:
            self.columns[BITWIDTH.name] = bitwidth = self.given[BITWIDTH.name]
            given = {**given, CLUSTERS.name: self._clusters(bitwidth, path)}
        own = _Resolver(self.given, self.sources)
        settings = own._format(compression_parameters(given["format"]), given, path)
        self.parts |= own.parts | ({CODED_SIZES} if make(settings["format"], settings).is_coded else set())
        self.columns.update({name: value for name, value in own.columns.items() if name in REACHING})
        return settings

    def _clusters(self, bitwidth: int, path: str) -> Any:
        try:
            return CLUSTERS.check(2**bitwidth)
        except BadValueError as error:
            raise TrialError(path, f"kmeans with bitwidth {bitwidth}: {error}") from None

    def _retrained(self, given: Mapping[str, Any], settings: Mapping[str, Any], path: str) -> dict[str, Any]:
        codebook = self._codebook(given, Settings(settings), f"{path}.{CODEBOOK.name}")
        own = _Resolver({**self.given, **given}, self.sources)
        found = {"optimizer": own._named("optimizer"), **own._read((EPOCHS, BATCH_SIZE), own.given)}
        if unread := given.keys() - own.columns.keys() - {CODEBOOK.name}:
            name = min(unread)
            raise TrialError(f"{path}.{name}", f"{found['optimizer']['name']} has no {name}")
        self._refuse_no_step(Settings({**settings, **found}), f"{path}.{BATCH_SIZE.name}")
        self.parts |= own.parts
        return {**found, CODEBOOK.name: codebook}

    def _refuse_no_step(self, settings: Settings, path: str) -> None:
        count, _ = settings.examples
        if settings.data.drop_last and settings.batch_size > count:
            raise TrialError(
                path,
                f"no step would be taken: {self.given['data']} has {count:,} training examples, fewer than a batch of"
                f" {settings.batch_size:,}, and drop_last leaves out an incomplete batch",
            )

    def _codebook(self, given: Mapping[str, Any], before: Settings, path: str) -> str:
        """Kept if there is one, unless set otherwise; an error if the trial would round the retrained values."""
        is_there = bool(before.compressed)
        codebook = given.get(CODEBOOK.name) or ("kept" if is_there else "free")
        if codebook == "kept" and not is_there:
            raise TrialError(path, f"nothing is compressed at this stage: there is no {CODEBOOK.name} to keep")
        rounded = [role for role in before.quantized_roles if role not in FLOWS]
        if codebook == "kept" and rounded:
            what = f"the trial rounds {' and '.join(rounded)}, which would separate values that share a level"
            raise TrialError(path, f"{what}: write `{CODEBOOK.name}: free`")
        return str(codebook)

    def _read(self, parameters: tuple[Parameter, ...], given: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
        """The values of parameters. Those that mean "as before this parameter existed" are left out of the settings,
        and of tables unless a spec names them."""
        settings = {}
        for p, name, column in _with_columns(parameters, prefix):
            value = given.get(name, p.default)
            if value is REQUIRED:
                raise TrialError(column, f"{column} is missing: expected {p.expected}")
            if name in given or value != p.as_before:
                self.columns[column] = value
            if value != p.as_before:
                settings[name] = value
        return settings

    def _named(self, what: str) -> dict[str, Any]:
        if what not in self.given:
            raise TrialError(what, f"{what} is missing (one of: {', '.join(NAMED[what])})")
        name = self.columns[what] = self.given[what]
        self.parts.add(name)
        return {"name": name, **self._read(NAMED[what][name], self.given)}

    def _choice(self, what: str, given: Mapping[str, Any]) -> dict[str, Any]:
        name = self.columns[what] = given.get("name", DEFAULTS[what].get("name"))
        return {"name": name, **self._read(CHOICES[what][name], given, f"{what}.")}

    def _data(self) -> dict[str, Any]:
        name: Any = self.given.get("data")
        if not is_own(name):
            return self._named("data")
        self.columns["data"] = name
        self.parts.add(OWN_DATA)
        return {**self.sources[name], **self._read(OWN_DATA_PARAMETERS, self.given)}

    def _data_set(self) -> DataSet | None:
        name = self.given.get("data", "")
        return data_set(self.sources[name]) if is_own(name) else DATASETS.get(name)

    def _model(self) -> dict[str, Any]:
        given = self.given["model"]
        if "name" not in given:
            raise TrialError("model", f"model is missing (one of: {', '.join(CHOICES['model'])})")
        if source := SOURCE.fullmatch(given["name"]):
            return self._open_model("source", {"name": source[2], "source": self.sources[source[1]]})
        if LIBRARY.fullmatch(given["name"]):
            return self._open_model("torchvision", {"name": given["name"]})
        self.parts.add(given["name"])
        own = self._choice("model", self._own_spelling(given))
        self._refuse_unfit_images(own)
        return own

    def _refuse_unfit_images(self, model: dict[str, Any]) -> None:
        architecture, data = ARCHITECTURES[model["name"]], self._data_set()
        if data is None:
            return
        _, height, width = data.shape
        try:
            architecture.layers(data.shape, data.classes, model)
        except TooSmallError:
            least = architecture.least(model)
            raise TrialError(
                "model",
                f"{model['name']} needs images of {least}×{least} pixels at least, {self.given['data']} has"
                f" {height}×{width}",
            ) from None
        except UnfitError as error:
            raise TrialError(f"model.{error.parameter}", str(error)) from None

    def _own_spelling(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """With open models allowed, `check` cannot tell whose parameter a dotted name is: check it now."""
        known = listing(CHOICES["model"][given["name"]])
        checked = dict(given)
        for name in known.keys() & given.keys():
            try:
                checked[name] = known[name].check(given[name])
            except BadValueError as error:
                raise TrialError(f"model.{name}", str(error)) from None
        return checked

    def _open_model(self, part: str, named: dict[str, Any]) -> dict[str, Any]:
        given = self.given["model"]
        self.parts.add(part)
        own = {name: value for name, value in given.items() if name != "name"}
        self.columns["model"] = given["name"]
        self.columns.update({f"model.{name}": value for name, value in own.items()})
        return {**named, **own}

    def _quantize(self) -> dict[str, Any]:
        roles = self._roles({**self._ways(), **self.given["quantize"]})
        quantized = {role: own for role, own in roles.items() if own["format"] != FLOAT32}
        layers = self._layers(quantized)
        if not quantized and not layers:
            return {}
        there = {"quantize": quantized} | ({LAYERS: layers} if layers else {})
        view = Settings(there)
        if "master" in roles and view.rounds_stored:  # float32 master weights of float32 weights are none
            quantized["master"] = roles["master"]
        read = [QUANTIZE_INIT] if view.kept_roles else []
        if {"error", "gradient"} & {*view.quantized_roles}:
            read.append(LOSS_SCALE)
        as_qtorch = {QUANTIZE_INIT.name: False} if self.given.get(COMPAT.name) == "qtorch" else {}
        return there | self._read(tuple(read), {**as_qtorch, **self.given})

    def _ways(self) -> dict[str, dict[str, Any]]:
        """The roles that `forward` and `backward` set."""
        found: dict[str, dict[str, Any]] = {}
        for way, roles in WAYS.items():
            if way in self.given:
                self.columns[way] = self.given[way]
                family = FIXED_POINT if self.given[way] == FIXED else FLOAT32
                found |= {role: {"format": family} for role in roles}
        return found

    def _roles(self, given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """All named roles, weights, and biases, which default to the weights' format."""
        weight = {"format": FLOAT32, **given.get("weight", {})}
        roles = {"weight": self._role("weight", weight)}
        if "bias" in given:
            like = {name: value for name, value in weight.items() if name != AT.name}
            roles["bias"] = self._role("bias", given["bias"] if "format" in given["bias"] else like | given["bias"])
        elif _is_operand(roles["weight"]):  # biases are not operands of a product
            roles["bias"] = self._role("bias", {"format": FLOAT32})
        else:
            roles["bias"], self.columns["quantize.bias"] = roles["weight"], self.columns["quantize.weight"]
        return roles | {role: self._role(role, given[role]) for role in ROLES[2:] if role in given}

    def _layers(self, quantized: Mapping[str, Any]) -> Any:
        """The exceptions by place, in one column."""
        given = self.given.get(LAYERS)
        if not given or (not quantized and given == FLOAT32_ENDS):
            return None
        self.columns[LAYERS] = describe_layers(given)
        if isinstance(given, str):
            return given
        layers = {place: FLOAT32 if own == FLOAT32 else self._layer(place, own) for place, own in given.items()}
        self.columns = {name: v for name, v in self.columns.items() if not name.startswith(f"{LAYERS}.")}
        return layers

    def _layer(self, place: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """The exceptions at one place: a bias that is not named anywhere is like its weight."""
        found = {role: self._role(role, own, f"{LAYERS}.{place}.{role}") for role, own in given.items()}
        if "weight" in given and not {"bias"} & (given.keys() | self.given["quantize"].keys()):
            found["bias"] = {"format": FLOAT32} if _is_operand(found["weight"]) else found["weight"]
        return found

    def _role(self, role: str, given: Mapping[str, Any], path: str = "") -> dict[str, Any]:
        """All parameters that a role uses."""
        family, path = given["format"], path or f"quantize.{role}"
        self.columns[path] = describe_role(given)
        if family == FLOAT32:
            return {"format": family}
        self.parts |= {OPERANDS} if role == "weight" and _is_operand(given) else set()
        return self._format(role_parameters(role, family), given, path)

    def _format(self, parameters: tuple[Parameter, ...], given: Mapping[str, Any], path: str) -> dict[str, Any]:
        """A format's parameters: its own, then those set for the whole trial."""
        family = given["format"]
        reached: list[Parameter] = []
        own: list[Parameter] = []
        for p in parameters:
            (reached if p.name in REACHING and p.name not in given else own).append(p)
        for p in (*reached, *own):
            if p.default is REQUIRED and p.name not in given and p.name not in self.given:
                raise TrialError(path, f"{family} needs {a(p.name)}: {_remedy(family, p.name, path)}")
        settings = {
            "format": family,
            **self._read(tuple(own), given, f"{path}."),
            **self._read(tuple(reached), self.given),
        }
        self.parts |= _made(settings, path, {p.name for p in reached}).parts
        return settings


def _is_operand(role: Mapping[str, Any]) -> bool:
    """Whether a role, checked or resolved, is only rounded as an operand."""
    return role.get(AT.name) == OPERANDS


def _remedy(family: str, name: str, path: str) -> str:
    """How to give a format a parameter that it needs."""
    if path.startswith(STAGES):
        sized = name in (BITWIDTH.name, CLUSTERS.name)
        return example_of(family) + (f", or {BITWIDTH.name} in trial or grid" if sized else "")
    return f"{example_of(family)}, or {name if name in REACHING else f'{path}.{name}'} in trial or grid"


@cache  # the same few lists are read for every point of a grid
def _with_columns(parameters: tuple[Parameter, ...], prefix: str) -> list[tuple[Parameter, str, str]]:
    return [(p, p.name, prefix + p.name) for p in parameters]


def _made(settings: Mapping[str, Any], path: str, reached: Collection[str]) -> Format:
    """The format of a role or a compression.

    A trial's bitwidth may be out of range for a role's family, and valid parameters may not be valid together.

    Args:
        reached: the parameters that were set for the whole trial.
    """
    family = settings["format"]
    at = path
    try:
        for p in parameters_of(family):
            if p.name in REACHING and p is not PLAIN[p.name]:
                at = p.name if p.name in reached else path
                p.check(settings[p.name])
        at = path
        fmt = make(family, settings)
        check_rounding(fmt, settings.get(ROUNDING.name, ROUNDING.default))
    except BadValueError as error:
        word = spell(family, {p.name: settings[p.name] for p in parameters_of(family) if p.default is REQUIRED})
        raise TrialError(at, f"{word}: {error}") from None
    return fmt
