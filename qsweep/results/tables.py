"""Tables: trials.csv, history.csv and timings.csv, written from records and read by everything that shows results.

Rows are in the order of the plan. Numbers have their shortest form, booleans are true/false, missing values are empty;
files are UTF-8 with LF. The first two contain no times, so that equal records produce equal bytes.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsweep.errors import UserError
from qsweep.formats import name_of
from qsweep.results.records import STATUSES, Record
from qsweep.spec.plan import Plan
from qsweep.trial.measures import DRAWN, METRICS, MODEL_BITS, NOT_ROUNDED, SIZES, why_columns
from qsweep.trial.parameters import CLIP
from qsweep.trial.settings import Quantization, Settings

if TYPE_CHECKING:
    import pandas as pd

FORMULA_SIGNS = ("=", "+", "-", "@")
TEXT_COLUMNS = ("key", "status", "reason", NOT_ROUNDED, "variant", "place", "counts")
WRITTEN_ALIKE = {float, int, type(None)}
"""Types that the csv module writes like `cell`, but faster."""
SHOWN_CELLS = 5
"""How many wrong cells a message lists."""
HISTORY_COLUMNS = ("key", "stage", "epoch", *METRICS)
HISTOGRAM_COLUMNS = ("key", "stage", "place", "role", "low", "high", "counts")
NUMBERS = (*DRAWN, "low", "high")
"""Columns that must contain numbers."""
TENSOR_COLUMNS = (
    *("key", "stage", "tensor", "part", "format", "values", "distinct_before", "distinct", "bits_a_value", "bits"),
    *("entropy_bits", "sqnr"),
)
COUNTS = r"[0-9]+( [0-9]+)*"
SHOWN_TEXT = 40
"""How many characters of a wrong cell a message shows."""
TIMING_COLUMNS = ("key", "environment", "stack", "seconds")


def trials_csv(plan: Plan, records: Mapping[str, Record]) -> str:
    """One row per grid point: key, status, axes, seed, metrics, reason, constant parameters."""
    constants = [c for c in _parameters(plan) if c not in plan.axes]
    measures = (*_measures(plan), *_sizes(plan, records))
    lacking = [NOT_ROUNDED] if any(r.result.get(NOT_ROUNDED) for r in records.values()) else []
    header = ["key", "status", *plan.axes, "seed", *measures, "reason", *lacking, *constants]
    return _csv(header, list(_trial_rows(plan, records, measures, lacking, constants)))


def _measures(plan: Plan) -> tuple[str, ...]:
    """The metrics, then the why columns of each role that some trial quantizes."""
    return (*METRICS, *why_columns(plan.quantized_roles))


def _sizes(plan: Plan, records: Mapping[str, Record]) -> tuple[str, ...]:
    """The size columns of compressed models if some trial compresses, else the size of models rounded in training."""
    if any(trial.view.compresses for trial in plan.configurations):
        return SIZES
    return (MODEL_BITS,) if any(MODEL_BITS in record.run for record in records.values()) else ()


def _parameters(plan: Plan) -> list[str]:
    return list(dict.fromkeys(name for trial in plan.configurations for name in trial.columns))


def _trial_rows(
    plan: Plan,
    records: Mapping[str, Record],
    measures: Sequence[str],
    lacking: Sequence[str],
    constants: Sequence[str],
) -> Iterator[list[Any]]:
    for row in plan.rows:
        record = records.get(row.trial.key)
        result = _sized(record) if record else {}
        yield [
            row.trial.key,
            record.status if record else "missing",
            *row.axes,
            row.trial.seed,
            *map(result.get, measures),
            record.reason if record else "",
            *("; ".join(result.get(name, ())) for name in lacking),
            *map(row.trial.columns.get, constants),
        ]


def _sized(record: Record) -> Mapping[str, Any]:
    """The result of a trial with the size of its model, which a compression overrides."""
    own = record.run.get(MODEL_BITS)
    return record.result if own is None else {MODEL_BITS: own, **record.result}


def history_csv(plan: Plan, records: Mapping[str, Record]) -> str:
    """One row per trial, stage and epoch."""
    header = (*HISTORY_COLUMNS[:3], *_measures(plan))
    return _csv(header, list(_history_rows(plan, records, header)))


def _history_rows(plan: Plan, records: Mapping[str, Record], header: Sequence[str]) -> Iterator[list[Any]]:
    for trial in plan.trials:
        for stage in (*trial.bases, trial):
            history = records[stage.key].history if stage.key in records else {}
            count = len(history.get("epoch", ()))
            columns = [history.get(name) or [None] * count for name in header[1:]]
            for values in zip(*columns, strict=True):
                yield [trial.key, *values]


def timings_csv(plan: Plan, records: Mapping[str, Record]) -> str:
    """The environment, stack size and seconds of each trial; never compared."""
    found = [records[t.key] for t in plan.trials if t.key in records]
    return _csv(TIMING_COLUMNS, [[r.key, r.environment, r.run.get("stack"), round(r.seconds, 6)] for r in found])


def histograms_csv(plan: Plan, records: Mapping[str, Record]) -> str:
    """One row per trial and place with a histogram, its counts in one cell; empty if there are none."""
    rows = list(_histogram_rows(plan, records))
    return _csv(HISTOGRAM_COLUMNS, rows) if rows else ""


def _histogram_rows(plan: Plan, records: Mapping[str, Record]) -> Iterator[list[Any]]:
    for trial in plan.trials:
        result = records[trial.key].result if trial.key in records else {}
        for place, own in result.get("histograms", {}).items():
            counts = " ".join(map(str, own["counts"]))
            yield [trial.key, len(trial.bases), place, own["role"], own["low"], own["high"], counts]


def tensors_csv(plan: Plan, records: Mapping[str, Record]) -> str:
    """One row per compressed tensor of each trial and its bases; empty if nothing was compressed."""
    rows = list(_tensor_rows(plan, records))
    return _csv(TENSOR_COLUMNS, rows) if rows else ""


def _tensor_rows(plan: Plan, records: Mapping[str, Record]) -> Iterator[list[Any]]:
    for trial in plan.trials:
        for number, stage in enumerate((*trial.bases, trial)):
            result = records[stage.key].result if stage.key in records else {}
            for own in tensors(stage.view, result):
                yield [trial.key, number, *(own[name] for name in TENSOR_COLUMNS[2:])]


def tensors(settings: Settings, result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The compressed tensors of a trial, with formats as in a spec; records have only the names of their families."""
    found = result.get("tensors", ())
    names = {part: _compressed_to(own) for part, own in settings.compressed.items()} if found else {}
    return [{**own, "format": names[own["part"]]} for own in found]


def _compressed_to(own: Quantization) -> str:
    """The format that a part is compressed to: `block8 per=16`, `uniform4 clip=99.9`."""
    return name_of(own.format) + (f" {CLIP.name}={cell(own.clip)}" if own.clip != CLIP.default else "")


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(zip(*map(_cells, zip(*rows, strict=True)), strict=True))
    return stream.getvalue()


def _cells(column: Sequence[Any]) -> Sequence[Any]:
    """A column for the csv module. Most columns hold numbers, or the same object in every row."""
    if set(map(type, column)) <= WRITTEN_ALIKE:
        return column
    texts = {id(value): cell(value) for value in {id(value): value for value in column}.values()}
    return [texts[id(value)] for value in column]


def cell(value: Any) -> str:
    """A value as written in a table; text that a spreadsheet would evaluate gets an apostrophe."""
    if isinstance(value, str):
        return _text(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        return json.dumps(value, separators=(",", ":"))
    return repr(value)


def _text(text: str) -> str:
    """Text without characters that CSV readers treat differently: carriage returns, NUL, surrogates."""
    text = f"'{text}" if text.startswith(FORMULA_SIGNS) else text
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


# --- reading ----------------------------------------------------------------------------------------------------------


def read_trials(folder: Path) -> pd.DataFrame:
    """trials.csv of a sweep's folder as a DataFrame; text stays text, empty cells are missing.

    Raises:
        UserError: the file is missing or is not a valid table.
    """
    return _read(folder / "trials.csv", ("key", "status", "seed", *METRICS))


def read_history(folder: Path) -> pd.DataFrame:
    """history.csv of a sweep's folder as a DataFrame.

    Raises:
        UserError: the file is missing or is not a valid table.
    """
    return _read(folder / "history.csv", HISTORY_COLUMNS)


def read_timings(folder: Path) -> pd.DataFrame:
    """timings.csv of a sweep's folder as a DataFrame; without rows if the file is missing.

    Raises:
        UserError: the file is not a valid table.
    """
    return _read_if_there(folder / "timings.csv", TIMING_COLUMNS)


def read_histograms(folder: Path) -> pd.DataFrame:
    """histograms.csv of a sweep's folder as a DataFrame; without rows if the file is missing.

    Raises:
        UserError: the file is not a valid table.
    """
    return _read_if_there(folder / "histograms.csv", HISTOGRAM_COLUMNS)


def _read_if_there(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    return _read(path, columns) if path.is_file() else pd.DataFrame(columns=list(columns))


def _header(path: Path) -> list[str]:
    """The names of the columns; pandas would rename duplicates."""
    with path.open(encoding="utf-8", newline="") as stream:
        return next(csv.reader(stream), [])


def _read(path: Path, needed: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        raise UserError(f"no table at {path}: create it with `qsweep run SPEC`")
    try:
        table: pd.DataFrame = pd.read_csv(
            path,
            dtype=dict.fromkeys(TEXT_COLUMNS, "str"),
            keep_default_na=False,
            na_values=[""],
            low_memory=False,
            **_exact_floats(pd.__version__),
        )
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is not a table: {error}") from None
    if not isinstance(table.index, pd.RangeIndex):
        raise UserError(f"{path} is not a table: its rows have more cells than its header")
    if twice := [name for name, count in Counter(_header(path)).items() if count > 1]:
        raise UserError(f"{path} is not a table: it has the column {twice[0]} twice")
    if missing := [name for name in needed if name not in table.columns]:
        raise UserError(f"{path} is not a table of qsweep: it has no column {', '.join(missing)}")
    if wrong := list(_wrong_cells(table)):
        shown = [
            f"{path}:{row + 2}: {name}: found {found!r}, expected {expected}" for row, name, found, expected in wrong
        ]
        more = [f"and {len(shown) - SHOWN_CELLS} more"] if len(shown) > SHOWN_CELLS else []
        raise UserError("\n".join([*shown[:SHOWN_CELLS], *more, "`qsweep run` writes the table again"]))
    return table


def _wrong_cells(table: pd.DataFrame) -> Iterator[tuple[int, str, str, str]]:
    """Invalid cells: row, column, what was found, what was expected."""
    import pandas as pd

    for name in [name for name in NUMBERS if name in table]:
        numbers = pd.to_numeric(table[name], errors="coerce")
        for row in table.index[numbers.isna() & table[name].notna()]:
            yield int(row), name, str(table[name][row]), "a number or an empty cell"
    if "status" in table:
        for row in table.index[~table["status"].isin(STATUSES)]:
            yield (
                int(row),
                "status",
                "" if pd.isna(table["status"][row]) else str(table["status"][row]),
                f"one of {', '.join(STATUSES)}",
            )
    if "counts" in table:
        for row in table.index[~table["counts"].fillna("").str.fullmatch(COUNTS)]:
            yield int(row), "counts", str(table["counts"][row])[:SHOWN_TEXT], "integers separated by spaces"


def _exact_floats(version: str) -> dict[str, Any]:
    """Before 3.1, pandas reads some floats one bit off without this option; since 3.1 it does not accept it."""
    old = tuple(map(int, version.split(".")[:2])) < (3, 1)
    return {"float_precision": "round_trip"} if old else {}
