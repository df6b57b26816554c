"""Users' files: their imports are found without running them, are covered by the key, and are all they can import."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from project import SERIAL, Project

from qsweep.models import imports
from qsweep.models.imports import Source, digest_of, imported, read_source
from qsweep.parameter import BadValueError
from qsweep.spec.file import read
from qsweep.spec.plan import expand

LINES = "from torch import nn\n\n\ndef net(shape, classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, {}), nn.ReLU(), nn.Linear({}, classes))\n"
NET = LINES.format(9, 9)
SPEC = "trial: {data: digits, epochs: 1, batch_size: 500, lr: 0.1, model: 'nets.py:net'}\n"


@pytest.fixture
def project(tmp_path: Path, data_folder: Path) -> Project:
    made = Project(tmp_path / "project", data_folder)
    made.folder.mkdir()
    made.write("own.yaml", SPEC)
    return made


def found(folder: Path, text: str) -> Source:
    (folder / "nets.py").write_text(text, encoding="utf-8")
    return read_source(folder / "nets.py", "nets.py")


# --- found without running --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "package", "names"),
    [
        ("import a, b.c as d", "", ["a", "b.c"]),
        ("from a import b, c", "", ["a.b", "a.c"]),
        ("from a.b import *", "", ["a.b.*"]),
        ("from . import x", "p.q", ["p.q.x"]),
        ("from .x import y", "p.q", ["p.q.x.y"]),
        ("from ..x import y", "p.q", ["p.x.y"]),
        ("from .. import x", "p", []),
        ("from . import x", "", []),
        ("def f():\n  import a\ntry:\n  import b\nexcept E: import c", "", ["b", "c", "a"]),
        (
            "import importlib\nimportlib.import_module('a.b')\n__import__('c')\nimport_module(n)",
            "",
            ["importlib", "a.b", "c"],
        ),
        ("def f(:", "", []),
        ("x = '" + "\0" + "'", "", []),
    ],
)
def test_imported_yields_everything_that_a_text_may_import(text: str, package: str, names: list[str]) -> None:
    assert sorted(imported(text, package)) == sorted(names)


def test_file_that_imports_only_torch_and_the_standard_library_is_identified_by_its_digest(tmp_path: Path) -> None:
    text = "import os.path, json\nfrom torch.nn import functional as F\nimport torch\nimport nowhere\n"
    source = found(tmp_path, text)
    assert source == Source(text)
    assert source.identity == digest_of(text)


def test_files_beside_the_model_are_followed_through_packages_and_folders_once_each(tmp_path: Path) -> None:
    (tmp_path / "pkg" / "deep").mkdir(parents=True)
    (tmp_path / "plain").mkdir()
    texts = {
        "pkg/__init__.py": "from .one import x",
        "pkg/one.py": "import side; import nets; x = 1",
        "pkg/deep/__init__.py": "",
        "pkg/deep/two.py": "from .. import one",
        "pkg/unused.py": "",
        "plain/inner.py": "raise SystemExit",
        "side.py": "import pkg",
        "unused.py": "",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    source = found(tmp_path, "import pkg.deep.two\nfrom plain import inner\n")
    texts["nets.py"] = "import pkg.deep.two\nfrom plain import inner\n"
    assert source.modules == {name: text for name, text in texts.items() if "unused" not in name}
    assert isinstance(source.identity, dict)
    assert set(source.texts) == {source.identity["file"], *source.identity["modules"].values()}


def test_long_chain_of_files_is_followed_without_recursion_and_limited(tmp_path: Path) -> None:
    for number in range(imports.MAX_FILES):
        (tmp_path / f"m{number}.py").write_text(f"import m{number + 1}")
    assert len(found(tmp_path, "import m0").modules) == imports.MAX_FILES
    (tmp_path / f"m{imports.MAX_FILES}.py").touch()
    with pytest.raises(BadValueError, match="imports more than 500 files: install them as a package"):
        found(tmp_path, "import m0")


def test_installed_packages_are_identified_by_name_and_version(tmp_path: Path) -> None:
    import numpy
    import torchvision

    source = found(tmp_path, "import numpy.linalg\nfrom torchvision import models\nimport yaml\n")
    assert source.modules == {}
    assert source.packages.keys() == {"numpy", "torchvision", "PyYAML"}
    assert source.packages["numpy"] == numpy.__version__
    assert torchvision.__version__.startswith(source.packages["torchvision"].partition("+")[0])


def test_package_on_the_path_is_identified_by_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lib" / "mine").mkdir(parents=True)
    (tmp_path / "lib" / "mine" / "__init__.py").write_text("x = 1")
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    (tmp_path / "project").mkdir()
    assert found(tmp_path / "project", "import mine").modules == {"mine/__init__.py": "x = 1"}


def test_folder_of_data_does_not_hide_an_installed_package(tmp_path: Path) -> None:
    (tmp_path / "yaml").mkdir()
    source = found(tmp_path, "import yaml")
    assert (source.modules, list(source.packages)) == ({}, ["PyYAML"])


def test_finding_imports_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "evil").mkdir()
    for name in ("evil/__init__.py", "evil/inner.py"):
        (tmp_path / name).write_text("raise SystemExit('ran')")
    assert len(found(tmp_path, "import evil.inner\nraise SystemExit('ran')").modules) == 2


def test_compiled_modules_beside_the_model_are_refused(tmp_path: Path) -> None:
    (tmp_path / "fast.so").touch()
    with pytest.raises(BadValueError, match=r"imports 'fast', which is not Python text \(fast.so\): install it"):
        found(tmp_path, "import fast")


@pytest.mark.parametrize("what", ["fifo", "folder", "huge", "device", "gone", "link", "name"])
@pytest.mark.parametrize("neighbour", [False, True])
def test_path_that_is_not_a_regular_file_is_refused_at_once(tmp_path: Path, what: str, neighbour: bool) -> None:
    path = tmp_path / ("side.py" if neighbour else "nets.py")
    if what == "name":
        path = tmp_path / ("x" * 300 + ".py")
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "huge":
        path.write_bytes(b"#" * (1024 * 1024 + 1))
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "link":
        path.symlink_to(path)
    if neighbour:
        try:
            source = found(tmp_path, "import side")
        except BadValueError:
            return
        assert source == Source("import side")  # not a module as Python sees it either
    else:
        with pytest.raises(BadValueError, match=r"is not a regular file|is larger than 1 MB|can't read"):
            read_source(path, "nets.py")


# --- run as Python would ----------------------------------------------------------------------------------------------


BODIES = {
    "a dataclass": "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass C:\n    width: int = 9\n",
    "pickle": "import pickle\nclass C: ...\nassert type(pickle.loads(pickle.dumps(C()))) is C\n",
    "a package that is not there": "try:\n    import nowhere_at_all\nexcept ImportError:\n    nowhere_at_all = None\n",
    "one by a computed name": "try:\n    __import__('nowhere' + '_else')\nexcept ImportError: ...\n",
    "its module": "import sys\nassert sys.modules[__name__].__dict__ is globals()\nassert __file__ and __name__\n",
    "its source": "import inspect\ndef f(): return 1\nassert inspect.getsource(f) == 'def f(): return 1\\n'\n",
    "a script": "import torch\n@torch.jit.script\ndef f(x: torch.Tensor) -> torch.Tensor:\n    return x + 1\n",
    "a named tuple": "from typing import NamedTuple, get_type_hints\nclass C(NamedTuple):\n    x: 'int'\nassert get_type_hints(C) == {'x': int}\n",
    "annotations of its own": "def f(x: int): ...\nassert f.__annotations__ == {'x': int}\n",
    "warnings": "import warnings\nwith warnings.catch_warnings(record=True) as seen:\n    warnings.warn('x')\n    assert len(seen) == 1\n",
    "a pickled net": "import copy, io, torch\nfrom torch import nn\nclass N(nn.Linear): ...\nb = io.BytesIO()\ntorch.save(N(2, 2), b); b.seek(0)\nassert type(torch.load(b, weights_only=False)) is N\ncopy.deepcopy(N(2, 2))\n",
    "an abstract class": "import abc\nclass C(abc.ABC): ...\nimport enum\nclass E(enum.Enum):\n    A = 1\n",
}
ENCODED = {
    "a byte order mark": b"\xef\xbb\xbf" + NET.encode(),
    "a cookie": "# -*- coding: latin-1 -*-\nWORD = 'é'\nassert WORD == chr(233)\n".encode("latin-1") + NET.encode(),
    "a cookie on line 2": "#!/usr/bin/python\n# vim: set fileencoding=cp1252 :\nassert len('€') == 1\n".encode("cp1252")
    + NET.encode(),
    "line ends of Windows": NET.replace("\n", "\r\n").encode(),
    "no last line end": NET.rstrip("\n").encode(),
    "tabs and form feeds": b"\x0c\n" + NET.replace("    ", "\t").encode(),
}


def own_models(project: Project, count: int) -> None:
    """A spec whose models are the nets of n0.py, n1.py …"""
    models = ", ".join(f"'n{number}.py:net'" for number in range(count))
    project.write("own.yaml", SPEC.replace("'nets.py:net'", "softmax") + f"grid: {{model: [{models}]}}\n")


def test_files_are_run_as_python_would_run_them(project: Project) -> None:
    files = {name: (body + NET).encode() for name, body in BODIES.items()} | ENCODED
    for number, content in enumerate(files.values()):
        (project.folder / f"n{number}.py").write_bytes(content)
    own_models(project, len(files))
    project.run("run", "own.yaml", *SERIAL)
    rows = project.rows("own")
    assert {name: row["reason"] for name, row in zip(files, rows, strict=True)} == dict.fromkeys(files, "")
    assert len({row["key"] for row in rows}) == len(files)


# --- several files ----------------------------------------------------------------------------------------------------


def trained(project: Project, *words: str, **environment: str) -> str:
    output = project.run("run", "own.yaml", *SERIAL, *words, **environment)
    return next(line for line in output.splitlines() if line.startswith("trained"))


def test_editing_any_file_of_a_net_makes_another_trial(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "library"
    files = {
        project.folder
        / "nets.py": "from blocks.body import body\ndef net(shape, classes):\n    import late\n    return body(classes)\n",
        project.folder / "blocks" / "__init__.py": "SIZE = 9\n",
        project.folder / "blocks" / "body.py": "from torch import nn\nfrom . import SIZE\nfrom shared import relu\n"
        "def body(classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, SIZE), relu(), nn.Linear(SIZE, classes))\n",
        project.folder / "late.py": "x = 1\n",
        library / "shared.py": "from torch.nn import ReLU as relu\n",
    }
    for path, text in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(library))

    def key() -> str:
        (trial,) = expand(read(project.folder / "own.yaml")).trials
        return trial.key

    keys = [key()]
    for path in files:
        path.write_text(path.read_text() + "# edited\n")
        keys.append(key())
    (project.folder / "beside.py").write_text("no one imports it\n")
    assert key() == keys[-1]
    assert len(set(keys)) == 1 + len(files)

    on_path = {"PYTHONPATH": str(library)}
    assert trained(project, **on_path) == "trained 1, known 0"
    assert (project.rows("own")[0]["status"], project.rows("own")[0]["key"]) == ("done", key())
    (project.folder / "late.py").write_text("x = 2\n")
    assert trained(project, **on_path) == "trained 1, known 0"
    assert trained(project, **on_path) == "trained 0, known 1"


HIDDEN = {
    "a neighbour by a computed name": ("import importlib\nimportlib.import_module('si' + 'de')\n", "'side'"),
    "an installed package by a computed name": ("__import__('skl' + 'earn')\n", "'sklearn'"),
    "a file by its path": (
        "import importlib.util as u\ns = u.spec_from_file_location('x', 'HERE/side.py')\ns.loader.exec_module(u.module_from_spec(s))\n",
        "'side.py'",
    ),
    "a folder put on the path": ("import sys\nsys.path.append('HERE/lib')\nimport other\n", "'other'"),
    "a script that is run": ("import runpy\nrunpy.run_path('HERE/side.py')\n", "'side.py'"),
    "text that is compiled": ("exec(compile(open('HERE/side.py').read(), 'HERE/side.py', 'exec'))\n", "'side.py'"),
}


def test_imports_that_the_key_does_not_cover_are_refused_by_name(project: Project) -> None:
    (project.folder / "lib").mkdir()
    project.write("lib/other.py", "x = 1\n")
    project.write("side.py", "x = 1\n")
    for number, (text, _) in enumerate(HIDDEN.values()):
        project.write(f"n{number}.py", text.replace("HERE", str(project.folder)) + NET)
    own_models(project, len(HIDDEN))
    project.run("run", "own.yaml", *SERIAL, code=1)
    for row, (_, name) in zip(project.rows("own"), HIDDEN.values(), strict=True):
        assert row["status"] == "failed"
        assert row["reason"].startswith(f"the model imports {name}")
        assert "write a plain `import`" in row["reason"]


def test_imports_during_training_are_checked_too(project: Project) -> None:
    body = "import torch\nfrom torch import nn\nclass N(nn.Linear):\n    def forward(self, x):\n        if self.training: __import__('skl' + 'earn.tree')\n        return super().forward(x.flatten(1))\ndef net(shape, classes): return N(64, classes)\n"
    project.write("nets.py", body)
    assert "the model imports 'sklearn" in project.run("run", "own.yaml", *SERIAL, code=1)


def test_file_beside_the_model_with_a_name_that_torch_needs_is_refused(project: Project) -> None:
    project.write("numpy.py", "x = 1\n")
    project.write("nets.py", "import numpy\n" + NET)
    output = project.run("run", "own.yaml", *SERIAL, code=1)
    assert "the model imports the file 'numpy' beside it, but torch has a package of that name: rename it" in output


def test_installed_packages_may_import_anything(project: Project) -> None:
    project.write("nets.py", "from torchvision.ops import MLP\nimport sklearn.tree\n" + NET)
    assert trained(project) == "trained 1, known 0"
    with closing(sqlite3.connect(project.folder / "results" / "store.db")) as connection:
        source = json.loads(connection.execute("SELECT trial FROM records").fetchone()[0])["model"]["source"]
    assert source["packages"].keys() == {"torchvision", "scikit-learn"}


# --- kept sources -----------------------------------------------------------------------------------------------------

MANY = "trial: {data: digits, epochs: 1, batch_size: 500, lr: 0.1}\ngrid: {model: ['sub/nets.py:net', '../outside.py:net']}\n"


def with_sources(project: Project) -> None:
    (project.folder / "sub").mkdir()
    project.write("own.yaml", MANY)
    project.write("sub/nets.py", "from layer import body\ndef net(shape, classes): return body(classes)\n")
    project.write("sub/layer.py", NET + "def body(classes): return net(None, classes)\n")
    project.write("../outside.py", "# -*- coding: latin-1 -*-\n" + NET.replace("9", "8"))


def test_mailed_folder_can_be_run_and_produces_the_same_bytes(project: Project, tmp_path: Path) -> None:
    with_sources(project)
    project.run("run", "own.yaml", *SERIAL, "-S", "lr=0.2")
    (ran,) = (project.folder / "results").glob("own@*")
    mail = tmp_path / "elsewhere"
    shutil.copytree(ran, mail / "theirs")
    shutil.rmtree(project.folder / "sub")
    there = Project(mail, Path(project.environment["QSWEEP_DATA"]))
    there.run("run", "theirs/spec.yaml", *SERIAL)
    for name in ("trials.csv", "history.csv", "sources/index.json"):
        assert (mail / "results" / ran.name / name).read_bytes() == (ran / name).read_bytes()
    # and where it was made, in place: nothing is trained, and no byte changes
    before = {path: path.read_bytes() for path in ran.rglob("*") if path.suffix in (".csv", ".py")}
    output = project.run("run", str(ran.relative_to(project.folder) / "spec.yaml"), *SERIAL)
    assert "trained 0, known 2" in output
    assert {path: path.read_bytes() for path in before} == before


def test_stored_source_that_was_changed_is_refused(project: Project) -> None:
    with_sources(project)
    project.run("run", "own.yaml", *SERIAL)
    kept = project.folder / "results" / "own" / "sources"
    for path in kept.glob("*.py"):
        text = path.read_text()
        path.write_text(text + "# more\n")
        output = project.run("run", "results/own/spec.yaml", "-n", code=2)
        assert f"'sources/{path.name}' was changed" in output
        path.write_text(text)
    (kept / "index.json").write_text('{"sub/nets.py": {"file": "../../../etc/passwd"}}')
    assert "is damaged" in project.run("run", "results/own/spec.yaml", "-n", code=2)


def test_reading_stored_sources_does_not_run_them(project: Project) -> None:
    project.write("nets.py", f"open({str(project.folder / 'ran')!r}, 'a')\n" + NET)
    project.run("run", "own.yaml", *SERIAL)
    (project.folder / "ran").unlink()
    key = project.rows("own")[0]["key"]
    for words in (("table",), ("plot",), ("status",), ("why", key), ("store", "check"), ("plot", "own.yaml")):
        project.run(*words)
    assert not (project.folder / "ran").exists()


def test_weights_of_an_own_model_can_be_exported(project: Project) -> None:
    with_sources(project)
    project.run("run", "own.yaml", *SERIAL)
    shutil.rmtree(project.folder / "sub")
    for row in project.rows("own"):
        project.run("export", row["key"], "own.safetensors")
    for wrong in ("m.onnx", "m", "m.pt"):
        output = project.run("export", row["key"], wrong, code=2)
        assert f"{wrong}: weights can only be written as .safetensors" in output
        assert not (project.folder / wrong).exists()
