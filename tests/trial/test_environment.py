"""What decides the bits besides the trial, found without torch and without naming anybody."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from nobody import assert_names_nobody

from qsweep.errors import UserError
from qsweep.trial import environment

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    def forget() -> None:
        for function in (environment._described, environment._cpu_info, environment._gpu_model):
            function.cache_clear()

    forget()
    yield
    forget()


def gpu(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """An nvidia-smi that does what a script says, and no other."""
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


ASK = """
import sys
from qsweep.trial import environment
said = environment.describe("cpu")
assert "torch" not in sys.modules
import torch
print(environment._capability(), torch.backends.cpu.get_cpu_capability())
print(said)
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="elsewhere the CPU's model has to do")
@pytest.mark.parametrize("asked", [None, "avx2"])
def test_the_capability_is_the_one_that_torch_takes_and_is_found_without_torch(asked: str | None) -> None:
    given = {name: value for name, value in os.environ.items() if name != "ATEN_CPU_CAPABILITY"}
    given |= {"ATEN_CPU_CAPABILITY": asked} if asked else {}
    done = subprocess.run([sys.executable, "-c", ASK], env=given, capture_output=True, text=True, check=True)
    ours, torchs = done.stdout.splitlines()[0].split(maxsplit=1)
    assert ours == torchs.replace("NO AVX", "DEFAULT")
    assert f"; {ours}; torch " in done.stdout.splitlines()[1]


FLAGS = {
    "AVX512": "fma avx2 avx512f avx512vl avx512bw avx512dq",
    "AVX2": "fma avx2 avx512f avx512bw avx512dq",
    "DEFAULT": "avx2 sse4_2",
}


@pytest.mark.parametrize(("capability", "flags"), FLAGS.items())
def test_the_capability_follows_from_the_flags_of_the_cpu(
    monkeypatch: pytest.MonkeyPatch, capability: str, flags: str
) -> None:
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    monkeypatch.setattr(environment, "_cpu_info", lambda: {"flags": flags})
    assert environment._capability() == capability


@pytest.mark.parametrize(("asked", "capability"), [("default", "DEFAULT"), ("AVX2", "AVX512"), ("nonsense", "AVX512")])
def test_the_capability_that_is_asked_for_counts_only_as_torch_spells_it(
    monkeypatch: pytest.MonkeyPatch, asked: str, capability: str
) -> None:
    monkeypatch.setattr(environment, "_cpu_info", lambda: {"flags": FLAGS["AVX512"]})
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", asked)
    assert environment._capability() == capability


def test_describe_names_the_model_of_an_x86_and_of_an_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    x86 = {"model name": "A CPU @ 3 GHz", "cpu family": "25", "model": "17"}
    monkeypatch.setattr(environment, "_cpu_info", lambda: x86)
    assert environment.describe("cpu").startswith("A CPU @ 3 GHz (25-17); ")
    environment._described.cache_clear()
    monkeypatch.setattr(environment, "_cpu_info", lambda: {"CPU implementer": "0x41", "CPU part": "0xd4f"})
    assert " 0x41 0xd4f; " in environment.describe("cpu")


def test_describe_names_no_host_no_user_and_no_path() -> None:
    said = environment.describe("cpu")
    assert_names_nobody(said)
    assert "/" not in said


# --- MKL's mode -------------------------------------------------------------------------------------------------------

x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="torch has no MKL elsewhere")


def python(program: str, **variables: str) -> list[str]:
    """Lines that a fresh interpreter prints, whose environment has no mode but a given one."""
    given = {name: value for name, value in os.environ.items() if name != environment.MKL_MODE} | variables
    done = subprocess.run([sys.executable, "-c", program], env=given, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


SAY = """
from qsweep.trial import environment
environment.fix_products()
print(environment.describe("cpu").rpartition("; ")[2])
"""


@x86
def test_the_environment_names_mkls_mode_which_does_without_alignment() -> None:
    assert python(SAY) == ["MKL_CBWR=AUTO,STRICT"]


@x86
def test_a_mode_that_the_user_has_set_wins_and_makes_another_environment() -> None:
    assert python(SAY, MKL_CBWR="COMPATIBLE") == ["MKL_CBWR=COMPATIBLE"]
    assert python(SAY, MKL_CBWR="/home/me; x") == ["MKL_CBWR=?home?me??x"]


@x86
def test_a_process_that_loaded_torch_first_is_another_environment() -> None:
    assert python(f"import torch{SAY}") == ["MKL_CBWR="]


def test_job_fixes_the_mode_before_it_loads_torch() -> None:
    program = """
import os, sys
from pathlib import Path
from qsweep.training.job import Job
assert "torch" not in sys.modules
Job({}, Path("nowhere"), "cpu")([{"seed": 0, "data": {"name": "digits"}, "model": {"name": "mlp"}}])
assert "torch" in sys.modules
print(os.environ["MKL_CBWR"])
"""
    assert python(program) == ["AUTO,STRICT"]


def test_workers_have_the_mode_whoever_starts_them() -> None:
    program = """
from qsweep.runner import backends
print(backends.worker_environment()["MKL_CBWR"])
"""
    assert python(program) == ["AUTO,STRICT"]
    assert python(program, MKL_CBWR="AVX2") == ["AVX2"]


# --- GPUs -------------------------------------------------------------------------------------------------------------


def test_choose_takes_a_gpu_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(tmp_path, monkeypatch, "echo 'NVIDIA H200'")
    assert [environment.choose(device) for device in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]
    assert environment.describe("cuda").startswith("NVIDIA H200; torch ")


NONE = {"there is none": "exit 9", "no driver": "echo 'NVIDIA-SMI has failed'; exit 9", "it is not there": ""}


@pytest.mark.parametrize("script", NONE.values(), ids=NONE.keys())
def test_choose_cuda_without_a_gpu_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    gpu(tmp_path, monkeypatch, script)
    if not script:
        monkeypatch.setenv("PATH", "/nonexistent")
    assert environment.choose("auto") == "cpu"
    with pytest.raises(UserError, match=r"no NVIDIA GPU answers here .*--device cpu"):
        environment.choose("cuda")


@pytest.mark.parametrize("visible", ["", "-1"])
def test_choose_sees_no_gpu_that_is_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    gpu(tmp_path, monkeypatch, "echo 'NVIDIA H200'")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert environment.choose("auto") == "cpu"


def test_describe_is_of_the_first_gpu_that_is_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(tmp_path, monkeypatch, 'echo "$1"')
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert environment.describe("cuda").startswith("--id=3; ")


def test_choose_takes_no_gpu_that_this_torch_cant_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(tmp_path, monkeypatch, "echo 'NVIDIA H200'")
    monkeypatch.setattr(environment, "version", lambda name: "2.15.0+cpu")
    assert environment.choose("auto") == "cpu"
    with pytest.raises(UserError, match="built without CUDA"):
        environment.choose("cuda")


def test_choose_cpu_asks_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(tmp_path, monkeypatch, f"touch {tmp_path}/asked")
    assert environment.choose("cpu") == "cpu"
    assert not (tmp_path / "asked").exists()
