"""The order of the wings, and the modules that import no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from paths import CONFIGS

import qsweep
from qsweep.results.tables import trials_csv
from qsweep.spec.file import read
from qsweep.spec.plan import expand

PACKAGE = Path(qsweep.__file__).parent

WINGS = (
    *("hints", "errors", "files", "parameter", "kernels", "data", "models", "formats", "rounding"),
    *("trial", "spec", "training", "results", "plots", "runner", "cli"),
)
"""Each file or folder of qsweep/ imports only those before it."""

ENTRY_POINTS = ("__init__", "__main__")
"""Run rather than imported."""

NEVER = (("training", "results"), ("rounding", "trial"), ("formats", "trial"), ("results", "training"))
"""Pairs of which the first does not import the second, even indirectly."""

WITHOUT_TORCH = ("hints", "errors", "files", "parameter", "formats", "trial", "spec", "results", "plots")
AND = (
    "data.catalog",
    "models.catalog",
    "models.imports",
    "cli.columns",
    "cli.energy",
    "cli.format_pages",
    "cli.main",
    "cli.status",
    "cli.table",
    "cli.terminal",
    "cli.why",
)
"""What loads no torch: whole wings, and modules of other wings."""


def name_of(path: Path) -> str:
    """The module of a file: `trial.key`, `plots` for its `__init__`."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(path: Path) -> Iterator[str]:
    """The modules of qsweep that a file imports, also in functions and for type checking: `trial.key`, `files`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("qsweep.") for alias in node.names if alias.name.startswith("qsweep."))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are written in full"
            if node.module == "qsweep" or f"{node.module}".startswith("qsweep."):
                prefix = f"{node.module}.".removeprefix("qsweep.")
                inner = [f"{prefix}{alias.name}" for alias in node.names if f"{prefix}{alias.name}" in MODULES]
                yield from inner or ([prefix[:-1]] if prefix else [])


IMPORTS = {name: set(imported(path)) for name, path in MODULES.items()}


def wing(module: str) -> str:
    return module.split(".")[0]


def test_every_wing_is_listed_once_and_there_are_few() -> None:
    assert sorted(WINGS) == sorted({wing(name) for name in MODULES} - {*ENTRY_POINTS})
    assert len(WINGS) <= 16


@pytest.mark.parametrize("own", WINGS)
def test_wing_imports_only_wings_before_it(own: str) -> None:
    used = {wing(name) for module, names in IMPORTS.items() if wing(module) == own for name in names}
    assert used <= {*WINGS[: WINGS.index(own)], own}


def test_imports_have_no_cycles() -> None:
    """A wing's `__init__` may re-export names; importing them inside the wing is a cycle too."""
    assert list(TopologicalSorter(IMPORTS).static_order())


@pytest.mark.parametrize(("own", "other"), NEVER)
def test_wing_never_reaches_another(own: str, other: str) -> None:
    reached: set[str] = set()
    ahead = {name for name in MODULES if wing(name) == own}
    while ahead:
        reached |= ahead
        ahead = {used for name in ahead for used in IMPORTS.get(name, ())} - reached
    assert other not in {wing(name) for name in reached}


# --- no torch, in fresh interpreters ----------------------------------------------------------------------------------


def loads_no_torch(lines: list[str], cwd: Path) -> None:
    """Run the lines in a fresh interpreter; fail at the first one after which torch is loaded."""
    check = "assert not {'torch', 'torchvision'} & sys.modules.keys(), "
    program = "import sys\n" + "".join(f"{line}\n{check}{line!r}\n" for line in lines)
    done = subprocess.run([sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_modules_that_do_not_train_load_no_torch(tmp_path: Path) -> None:
    names = [name for name in MODULES if wing(name) in WITHOUT_TORCH]
    loads_no_torch([f"import qsweep.{name}" for name in (*names, *AND)], tmp_path)


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
    library = (
        "import qsweep",
        "assert not {'numpy', 'pandas', 'click'} & sys.modules.keys()",
        "from qsweep.cli.main import cli",
        "qsweep.load('quickstart'), qsweep.parse('e4m3'), qsweep.list_formats(), qsweep.load_weights",
    )
    loads_no_torch([*library, *calls], tmp_path)
