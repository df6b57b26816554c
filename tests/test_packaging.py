"""The wheel: built from the source, installed elsewhere and used there."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from paths import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (found,) = folder.glob("*.whl")
    return found


def test_wheel_contains_configs_sweeps_and_types_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "qsweep/configs/lr_bitwidth.yaml" in names
    assert "qsweep/sweeps/quantized_weights.yaml" in names
    assert "qsweep/py.typed" in names
    assert {name.split("/")[0] for name in names} == {"qsweep", *(n.split("/")[0] for n in names if "dist-info" in n)}


def test_wheel_installed_elsewhere_runs_quickstart(wheel: Path, tmp_path: Path, data_folder: Path) -> None:
    """In a separate folder, with the packages of this environment but without this source tree."""
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(site), "QSWEEP_DATA": str(data_folder), "QSWEEP_OFFLINE": "1"}
    where = "import qsweep; print(qsweep.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where], cwd=work, env=environment, check=True, capture_output=True, text=True
    )
    assert found.stdout.strip() == str(site / "qsweep" / "__init__.py")
    command = [sys.executable, "-m", "qsweep", "run", "quickstart", "-S", "epochs=1", "-S", "lr=[0.5]", "--name", "q"]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len((work / "results" / "q" / "trials.csv").read_text().splitlines()) == 1 + 3 * 8
    assert (work / "results" / "q" / "figures" / "heatmap-test_accuracy.png").is_file()
    assert '"path": "packaged:quickstart.yaml"' in (work / "results" / "q" / "provenance.json").read_text()
