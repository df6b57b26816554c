"""The order of the modules, and which of them do without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import qsweep
from qsweep.plan import expand
from qsweep.spec import read
from qsweep.tables import trials_csv

PACKAGE = Path(qsweep.__file__).parent
CONFIGS = PACKAGE.parent / "configs"

WITHOUT_TORCH = (
    *(
        "hints",
        "errors",
        "files",
        "terminal",
        "parameters",
        "columns",
        "formats",
        "catalog",
        "reference",
        "architectures",
        "datasets",
    ),
    *(
        "cost",
        "vocabulary",
        "online",
        "checks",
        "quantized",
        "trial",
        "describe",
        "resolve",
        "reach",
        "reader",
        "axes",
        "extends",
        "imports",
        "blocks",
        "matching",
        "find",
        "spec",
        "figures",
        "plan",
        "schema",
        "environment",
    ),
    *(
        "provenance",
        "packing",
        "store",
        "keys",
        "weights",
        "lineage",
        "tables",
        "aggregate",
        "lowest",
        "explain",
        "folder",
        "plots",
    ),
)
WITH_TORCH = (
    *(
        "kernels",
        "streams",
        "rounding",
        "sources",
        "data",
        "layers",
        "loading",
        "models",
        "training",
        "apart",
        "jobs",
        "inspection",
        "backends",
        "schedule",
        "pace",
        "search",
    ),
    *("outlook", "lock", "sweep", "study", "progress", "show", "report", "export", "forget", "cli"),
)
ORDER = (*WITHOUT_TORCH, *WITH_TORCH)
"""Each module, or package, imports only what stands before it."""

ENTRY_POINTS = ("__init__", "__main__", "preflight")
"""Run rather than imported."""


def files_of(module: str) -> list[Path]:
    return sorted((PACKAGE / module).rglob("*.py")) if (PACKAGE / module).is_dir() else [PACKAGE / f"{module}.py"]


def imported(path: Path) -> Iterator[str]:
    """What a file imports of qsweep anywhere in it, in functions and for type checking too: `trial`, `plots.entry`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("qsweep.") for alias in node.names if alias.name.startswith("qsweep."))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are written in full"
            if node.module == "qsweep" or f"{node.module}".startswith("qsweep."):
                prefix = f"{node.module}.".removeprefix("qsweep.")
                inner = [f"{prefix}{alias.name}" for alias in node.names if is_module(f"{prefix}{alias.name}")]
                yield from inner or ([prefix[:-1]] if prefix else [])


def is_module(name: str) -> bool:
    path = PACKAGE / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def test_order_has_every_module_once() -> None:
    there = {p.stem for p in PACKAGE.glob("*.py")} | {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    assert sorted(ORDER) == sorted(there - set(ENTRY_POINTS))


@pytest.mark.parametrize("module", ORDER)
def test_module_imports_only_what_stands_before_it(module: str) -> None:
    used = {name.split(".")[0] for path in files_of(module) for name in imported(path)}
    assert used <= {*ORDER[: ORDER.index(module)], module}


@pytest.mark.parametrize("package", [name for name in ORDER if (PACKAGE / name).is_dir()])
def test_package_has_no_circle_inside(package: str) -> None:
    graph = {f"{package}.{path.stem}": set(imported(path)) for path in files_of(package)}
    assert list(TopologicalSorter(graph).static_order())


# --- no torch, in fresh interpreters ----------------------------------------------------------------------------------


def loads_no_torch(lines: list[str], cwd: Path) -> None:
    """Run each line in one fresh interpreter; fail at the first one after which torch is loaded."""
    check = "assert not {'torch', 'torchvision'} & sys.modules.keys(), "
    program = "import sys\n" + "".join(f"{line}\n{check}{line!r}\n" for line in lines)
    done = subprocess.run([sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_modules_above_the_bar_load_no_torch(tmp_path: Path) -> None:
    inner = [f"{p.parent.name}.{p.stem}" for name in WITHOUT_TORCH for p in files_of(name) if p.parent.name == name]
    loads_no_torch([f"import qsweep.{name}" for name in (*WITHOUT_TORCH, *inner)], tmp_path)


def test_commands_that_do_not_train_load_no_torch(tmp_path: Path) -> None:
    plan = expand(read(CONFIGS / "quickstart.yaml"))
    (tmp_path / "results" / "quickstart").mkdir(parents=True)
    (tmp_path / "results" / "quickstart" / "trials.csv").write_text(trials_csv(plan, {}), encoding="utf-8")
    commands = (
        ["--help"],
        ["run", "-n", str(CONFIGS / "quickstart.yaml")],
        ["run", "-n", str(CONFIGS / "quickstart.yaml"), "-S", "quantize.activation=fixed8f4"],
        ["table"],
        ["table", "--aggregate"],
        ["status"],
        ["formats", "range3"],
        ["formats", "e2m1", "--plot"],
    )
    calls = [f"assert not cli({command!r}, standalone_mode=False)" for command in commands]
    loads_no_torch(["from qsweep.cli import cli", *calls], tmp_path)
