"""results/<name>/: the complete, self-contained results of one sweep. The folder belongs to one spec file."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from qsweep import files
from qsweep.errors import UserError
from qsweep.models import imports
from qsweep.results import current, tables
from qsweep.results.records import Record
from qsweep.spec.blocks import BLOCK_KEYS, Block
from qsweep.spec.file import RESOLVED, Spec, is_reserved
from qsweep.spec.plan import Plan
from qsweep.spec.reader import plain_scalar, read_text


@dataclass(frozen=True)
class Change:
    """How a plan differs from the previous one in its folder."""

    added: int
    removed: int

    def __str__(self) -> str:
        return f"+{self.added} −{self.removed} trials since the last run"


def owner(spec_path: Path, packaged: Path, root: Path) -> str:
    """A spec file's identity, never a full path: relative to `root`, or `packaged:`, or its name and a digest.

    Args:
        root: the folder that paths are relative to: the parent of the results folder, wherever `qsweep` is called.
    """
    spec_path, root = spec_path.resolve(), root.resolve()
    if spec_path.is_relative_to(root):
        return _printable(spec_path.relative_to(root).as_posix())
    if spec_path.is_relative_to(packaged.resolve()):
        return f"packaged:{spec_path.name}"
    place = hashlib.sha256(os.fsencode(spec_path.parent)).hexdigest()[:12]
    return _printable(f"{place}/{spec_path.name}")


def _printable(text: str) -> str:
    """A file name without line breaks and undecodable bytes."""
    return "".join(c if c.isprintable() else "?" for c in text)


def claim(folder: Path, spec_owner: str, plan: Plan) -> str | None:
    """Make sure that a folder belongs to this spec, to none, or to a spec with the same trials (which was moved).

    Returns:
        A note about a folder that is taken over.

    Raises:
        UserError: it belongs to another file of the same name, or its name is reserved.
    """
    if is_reserved(folder.name):
        raise UserError(
            f"{folder} can't be a sweep's folder: give the spec another name, or name the folder with --name"
        )
    for place in (folder, folder / "figures"):
        if place.is_symlink():
            raise UserError(
                f"{place} is a symbolic link, which qsweep does not write through: replace it with a folder"
            )
    other = _recorded(folder, "spec", "path")
    if other is None or other == spec_owner:
        return None
    before, now = set(_recorded(folder, "plan", "keys") or ()), {trial.key for trial in plan.trials}
    if before and (before <= now or before >= now):
        return f"{folder} was made by {other}, with the same trials: {spec_owner} takes it over"
    raise UserError(
        f"{folder} belongs to {other}, not to {spec_owner}: give one of them another name, or use --name or --results "
        f"DIR; if {other} is gone, remove {folder} (its records stay in the store)"
    )


def owner_of(target: Path, spec_path: Path, packaged: Path, root: Path) -> str:
    """The owner of a folder after a run of a spec; running a folder's own spec does not change it."""
    recorded = _recorded(target, "spec", "path")
    if spec_path.name == f"{RESOLVED}.yaml" and spec_path.parent.resolve() == target.resolve() and recorded:
        return str(recorded)
    return owner(spec_path, packaged, root)


def change(folder: Path, plan: Plan) -> Change | None:
    """The change from the plan in the folder; None if there is no plan or the same one."""
    before = _recorded(folder, "plan", "keys")
    if not isinstance(before, list):
        return None
    old, new = set(before), {trial.key for trial in plan.trials}
    return Change(len(new - old), len(old - new)) if old != new else None


def write(folder: Path, plan: Plan, spec_owner: str, records: Mapping[str, Record], origin: Mapping[str, Any]) -> None:
    """Write the tables, the resolved spec and the provenance; each file is replaced whole.

    Raises:
        UserError: the folder can't be written.
    """
    source, recorded = current.source_of(plan, records), read_provenance(folder)
    is_current = "records" in recorded and current.are_current(folder, recorded.get("tables"), source)
    if not is_current:
        _write_tables(folder, plan, records)
    _write_sources(folder, plan)
    files.write(folder / f"{RESOLVED}.yaml", _spec_text(plan, spec_owner, folder.name))
    content = {
        "spec": {"name": plan.spec.name, "path": spec_owner, "overrides": dict(plan.spec.overrides)},
        "plan": {"digest": plan.digest, "rows": len(plan.rows), "keys": [trial.key for trial in plan.trials]},
        "sources": plan.spec.digests,
        **({"data": plan.spec.data_identities} if plan.spec.data else {}),
        "records": recorded["records"] if is_current else _summary(plan, records),
        "tables": {"source": source, "files": current.digests(folder)},
        "run": dict(origin),
    }
    files.write(folder / "provenance.json", json.dumps(content, indent=1) + "\n")


def _write_tables(folder: Path, plan: Plan, records: Mapping[str, Record]) -> None:
    files.write(folder / "trials.csv", tables.trials_csv(plan, records))
    files.write(folder / "history.csv", tables.history_csv(plan, records))
    files.write(folder / "timings.csv", tables.timings_csv(plan, records))
    _write_or_remove(folder / "histograms.csv", tables.histograms_csv(plan, records))
    _write_or_remove(folder / "tensors.csv", tables.tensors_csv(plan, records))


def set_aside(folder: Path) -> Path | None:
    """Copy tables that came from elsewhere before a run replaces them; return the folder, or None if there are none.

    Raises:
        UserError: the folder can't be read or written.
    """
    try:
        content = (folder / "trials.csv").read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{folder / 'trials.csv'}: {error.strerror}") from None
    kept = folder / f"earlier-{hashlib.sha256(content).hexdigest()[:8]}"
    for path in sorted(folder.iterdir()):
        if path.suffix in (".csv", ".yaml", ".json") and files.is_regular(path):
            files.write(kept / path.name, path.read_bytes())
    return kept


def _write_sources(folder: Path, plan: Plan) -> None:
    """Store the users' files that trials of the plan use, and remove others."""
    kept = imports.keep(folder, plan.spec.sources)
    for path, text in kept.items():
        files.write(path, text)
    for path in set((folder / imports.KEPT).glob("*.py")) - kept.keys():
        files.remove(path)
    if not kept:
        files.remove(folder / imports.KEPT / imports.INDEX)


def _write_or_remove(path: Path, content: str) -> None:
    """Write a file that only some sweeps have; if there is no content, remove that of an earlier plan."""
    if content:
        files.write(path, content)
    else:
        files.remove(path)


def _summary(plan: Plan, records: Mapping[str, Record]) -> dict[str, Any]:
    found = [records[trial.key] for trial in plan.trials if trial.key in records]
    return {
        "statuses": Counter(record.status for record in found),
        "environments": Counter(record.environment for record in found),
        "threads": sorted({record.run.get("threads", 1) for record in found}),
    }


def _spec_text(plan: Plan, spec_owner: str, name: str) -> str:
    """A runnable spec with the same rows, without overrides."""
    spec = plan.spec
    head = [f"# {spec_owner}, as it was run", f"# plan: {plan.digest}"]
    head += [f"# -S {name}={json.dumps(value)}" for name, value in spec.overrides.items()]
    content = _resolved(spec) if spec.overrides else spec.document.value
    return "\n".join(head) + "\n" + _dumped({"name": name, **{k: v for k, v in content.items() if k != "name"}})


def _resolved(spec: Spec) -> dict[str, Any]:
    """The content of a spec with its overrides applied."""
    first, *others = (_block(block) for block in spec.blocks)
    rest = {name: own for name, own in spec.document.value.items() if name not in (*BLOCK_KEYS, "also", "seeds")}
    more = {"also": others} if others else {}
    return {**rest, **first, **more, "seeds": list(spec.seeds)}


def _block(block: Block) -> dict[str, Any]:
    axes: dict[str, dict[str, Any]] = {}
    for group in block.groups:
        columns = zip(group.names, zip(*group.points, strict=True), strict=True)
        kind = "zip" if "zip" in group.place else "grid"
        axes.setdefault(kind, {}).update({name: list(values) for name, values in columns})
    parts: dict[str, Any] = {
        "trial": dict(block.trial),
        **axes,
        "variants": {name: dict(own) for name, own in block.variants.items()},
        "exclude": [dict(entry) for entry in block.exclude],
        "only": [dict(entry) for entry in block.only],
    }
    return {name: own for name, own in parts.items() if own}


def _dumped(value: Any) -> str:
    """YAML that `read_text` reads as this value."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


class _Dumper(yaml.SafeDumper):
    """Quotes strings that qsweep would read as something else (`1e-3` is a number here, a string for PyYAML)."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if _is_plain(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _is_plain(text: str) -> bool:
    """Whether a string without double quotes is read as itself: some characters are line breaks in YAML, and some are
    refused because they look like others."""
    try:
        return plain_scalar(text) == text and text.isascii() and text.replace("\n", "").isprintable()
    except ValueError:
        return False


_Dumper.add_representer(str, _represent_text)


# --- reading ----------------------------------------------------------------------------------------------------------


def read_provenance(folder: Path) -> dict[str, Any]:
    """The content of provenance.json; {} if there is none.

    Raises:
        UserError: it is damaged.
    """
    path = folder / "provenance.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read: {error}; remove it, and `qsweep run` will write it again") from None
    return content if isinstance(content, dict) else {}


def _recorded(folder: Path, part: str, name: str) -> Any:
    """An entry of provenance.json, or None."""
    content = read_provenance(folder).get(part)
    return content.get(name) if isinstance(content, dict) else None


def read_spec(folder: Path) -> dict[str, Any]:
    """The resolved spec of a sweep's folder, mostly for its title and plots.

    Raises:
        UserError: it is missing or damaged.
    """
    path = folder / f"{RESOLVED}.yaml"
    try:
        value = read_text(path.read_text(encoding="utf-8"), str(path)).value
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; create it with `qsweep run`") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is damaged: {error}; `qsweep run` will write it again") from None
    return value if isinstance(value, dict) else {}


def sweep_folders(path: Path) -> list[Path]:
    """The sweep folders at a path: itself, or those in it (not the committed reference).

    Raises:
        UserError: there are none.
    """
    if (path / "trials.csv").is_file():
        return [path]
    if path.is_file():
        raise UserError(f"{path} is a file, expected the folder of a sweep, which has a trials.csv")
    found = sorted(p.parent for p in path.glob("*/trials.csv") if not is_reserved(p.parent.name))
    if not found:
        raise UserError(f"no results in {path}: create some with `qsweep run SPEC`")
    return found
