"""The folder of a sweep: its owner and its content, which identifies no person or machine."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nobody import assert_names_nobody
from paths import CONFIGS

from qsweep.errors import SpecError, UserError
from qsweep.results import current, folder
from qsweep.results.folder import Change
from qsweep.results.provenance import provenance
from qsweep.results.records import Record
from qsweep.spec.file import RESERVED_NAMES, read
from qsweep.spec.plan import Plan, expand
from qsweep.spec.reader import UNPRINTABLE, read_text
from qsweep.trial.key import canonical

pytestmark = pytest.mark.slow

SPEC = """
title: |
  Two lines,
  größer: "quoted" # no comment
trial: {data: digits, model: softmax}
variants: {"1e-3": {}, "on": {lr: 0.5}, "010": {lr: 0.25}, "null": {lr: 0.125}, "~": {lr: 1.0e-9}, "=": {lr: 1}}
grid: {batch_size: [32, 64]}
"""
PACKAGED = Path("/nonexistent")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tiny.yaml").write_text(SPEC, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan_of(project: Path, *overrides: str) -> Plan:
    return expand(read(project / "configs" / "tiny.yaml", overrides))


def written(project: Path, plan: Plan | None = None, records: dict[str, Record] | None = None) -> Path:
    target = project / "results" / "tiny"
    plan = plan or plan_of(project)
    folder.write(
        target, plan, folder.owner(project / "configs" / "tiny.yaml", PACKAGED, Path()), records or {}, provenance()
    )
    return target


SPEC_OF_TWO = """
trial: {data: digits, model: softmax}
grid: {batch_size: [64, 128]}
"""


# --- whose it is ------------------------------------------------------------------------------------------------------


def test_owner_is_relative_to_the_current_folder_or_to_a_root(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = Path("configs/tiny.yaml")
    assert folder.owner(spec, PACKAGED, Path()) == "configs/tiny.yaml"
    assert folder.owner(project / spec, PACKAGED, Path()) == "configs/tiny.yaml"
    monkeypatch.chdir(project / "configs")
    assert folder.owner(Path("tiny.yaml"), PACKAGED, Path()) == "tiny.yaml"
    assert folder.owner(Path("tiny.yaml"), PACKAGED, Path("..")) == "configs/tiny.yaml"


def test_owner_elsewhere_is_a_digest_that_distinguishes_folders_without_naming_them(project: Path) -> None:
    first, second = (folder.owner(Path(f"/home/{name}/tiny.yaml"), PACKAGED, Path()) for name in ("alice", "bob"))
    assert first != second
    assert first.endswith("/tiny.yaml")
    assert "alice" not in first
    assert "home" not in first


def test_owner_of_a_packaged_spec_is_the_same_everywhere(tmp_path: Path) -> None:
    assert folder.owner(tmp_path / "configs" / "tiny.yaml", tmp_path / "configs", Path()) == "packaged:tiny.yaml"


def test_owner_of_an_unprintable_path_is_one_line_of_text(project: Path) -> None:
    assert folder.owner(project / "a\nb" / "tiny.yaml", PACKAGED, Path()) == "a?b/tiny.yaml"
    assert folder.owner(project / os.fsdecode(b"\xff") / "tiny.yaml", PACKAGED, Path()) == "?/tiny.yaml"


def test_claim_refuses_another_file_of_the_same_name(project: Path) -> None:
    target = written(project)
    assert folder.claim(target, "configs/tiny.yaml", plan_of(project)) is None
    for other in (["epochs=3"], ["batch_size=[64, 8]"]):  # no trial is the same; some are
        with pytest.raises(UserError, match=r"belongs to configs/tiny.yaml, not to other/tiny.yaml: .*remove .*tiny"):
            folder.claim(target, "other/tiny.yaml", plan_of(project, *other))


@pytest.mark.parametrize("overrides", [(), ("batch_size=[64]",), ("batch_size=[64, 128, 256, 512]",)])
def test_claim_takes_over_a_folder_with_the_same_trials_more_or_fewer(
    project: Path, overrides: tuple[str, ...]
) -> None:
    (project / "configs" / "tiny.yaml").write_text(SPEC_OF_TWO)
    target = written(project)
    note = folder.claim(target, "other/tiny.yaml", plan_of(project, *overrides))
    assert note is not None
    assert note.endswith("was made by configs/tiny.yaml, with the same trials: other/tiny.yaml takes it over")


def test_claim_of_a_new_folder_is_granted(project: Path) -> None:
    before = list(project.iterdir())
    assert folder.claim(project / "new", "tiny.yaml", plan_of(project)) is None
    assert list(project.iterdir()) == before


def test_claim_of_the_folder_of_committed_results_is_refused(project: Path) -> None:
    with pytest.raises(UserError, match="can't be a sweep's folder"):
        folder.claim(project / RESERVED_NAMES[0], "reference.yaml", plan_of(project))


@pytest.mark.parametrize("content", [b"{", b"\xff"])
def test_claim_of_a_folder_with_damaged_provenance_is_refused(project: Path, content: bytes) -> None:
    (project / "provenance.json").write_bytes(content)
    with pytest.raises(UserError, match=r"provenance.json can't be read"):
        folder.claim(project, "tiny.yaml", plan_of(project))


@pytest.mark.parametrize("content", ["[]", "{}", '{"spec": 1, "plan": []}', '{"plan": {"keys": null}}'])
def test_folder_with_empty_provenance_has_no_owner(project: Path, content: str) -> None:
    (project / "provenance.json").write_text(content)
    assert folder.claim(project, "tiny.yaml", plan_of(project)) is None
    assert folder.change(project, plan_of(project)) is None


# --- what changed -----------------------------------------------------------------------------------------------------


def test_change_counts_added_and_removed_trials(project: Path) -> None:
    target = written(project)
    changed = folder.change(target, plan_of(project, "batch_size=[64, 128, 256]"))
    assert changed == Change(added=12, removed=6)
    assert str(changed) == "+12 −6 trials since the last run"


def test_change_without_a_difference_is_none(project: Path) -> None:
    assert folder.change(project / "results" / "tiny", plan_of(project)) is None
    assert folder.change(written(project), plan_of(project)) is None


# --- the resolved spec ------------------------------------------------------------------------------------------------


def test_spec_is_read_back_to_the_same_values(project: Path) -> None:
    plan = plan_of(project)
    back = folder.read_spec(written(project, plan))
    assert back == {"name": "tiny", **plan.spec.document.value}
    assert list(back["variants"]) == ["1e-3", "on", "010", "null", "~", "="]
    assert back["title"] == 'Two lines,\ngrößer: "quoted" # no comment\n'
    assert list(back) == ["name", "title", "trial", "variants", "grid"]


def test_spec_names_its_origin_plan_and_overrides(project: Path) -> None:
    plan = plan_of(project, "batch_size=[64]", "lr=1e-3")
    head = (written(project, plan) / "spec.yaml").read_text(encoding="utf-8").splitlines()[:4]
    assert head[0] == "# configs/tiny.yaml, as it was run"
    assert head[1] == f"# plan: {plan.digest}"
    assert head[2:] == ["# -S batch_size=[64]", "# -S lr=0.001"]


OVERRIDES = [
    (),
    ("seeds=[3, 5]",),
    ("lr=[0.5, 0.25]",),
    ("lr=0.3", "seeds=2"),
    ("model=softmax",),
    ("quantize={}",),
    ("quantize.weight=range4", "init=he"),
    ("optimizer=adam", "betas=[0.5, 0.9]"),
    ("batch_size=[32, 64]", "epochs=2"),
    ("bitwidth=[3]", "zero=true"),
]


@pytest.mark.parametrize("overrides", OVERRIDES, ids=" ".join)
def test_spec_of_a_folder_can_be_run_and_has_the_same_rows(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    taken = 0
    for path in sorted(CONFIGS.glob("*.yaml")):
        with suppress(SpecError):
            plan = expand(read(path, overrides))
            target = tmp_path / f"{path.stem}@123abc"
            folder.write(target, plan, "x", {}, {})
            back = expand(read(target / "spec.yaml"))
            assert (back.digest, back.spec.plots) == (plan.digest, plan.spec.plots), path
            assert (back.spec.folder, back.spec.overrides) == (target.name, {})
            taken += 1
    assert taken


def test_only_the_spec_of_a_folder_may_have_another_name_than_its_file(tmp_path: Path) -> None:
    for file, name, is_good in (("spec", "a", True), ("spec", "a@123abc", True), ("spec", "a@x", False),
                                ("spec", "reference", False), ("other", "a", False)):  # fmt: skip
        (tmp_path / f"{file}.yaml").write_text(f"name: {name}\ntrial: {{data: digits, model: softmax}}\n")
        if is_good:
            assert read(tmp_path / f"{file}.yaml").name == name
        else:
            with pytest.raises(SpecError, match="name"):
                read(tmp_path / f"{file}.yaml")


TEXTS = [
    "1e-3",
    "on",
    "010",
    "0x10",
    "1_000",
    "2024-01-01",
    "1:30",
    "=",
    "<<",
    "null",
    "~",
    "",
    " ",
    "a: b",
    "- a",
    "#a",
]
TEXTS += [
    "'",
    '"',
    "\n",
    "a\n\nb ",
    "\ta",
    "größer",
    "🙂",
    "\r",
    "\x85",
    "\u2028",
    "\ufeff",
    "!tag",
    "&a",
    "*a",
    "%",
    "@",
    "`",
]
TEXTS += [
    "x " * 200,
    "true",
    "True",
    ".5",
    "1.",
    "+1",
    "1e999",
    ".inf",
    ".nan",
    "nan",
    "?",
    ":",
    "---",
    "...",
    "{}",
    "[]",
    "\\",
    "a #b",
]
CHARACTERS = st.text(st.characters(codec="utf-8").filter(lambda c: not UNPRINTABLE.search(c)), max_size=10)
VALUES = st.recursive(
    st.sampled_from(TEXTS)
    | CHARACTERS
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(TEXTS) | CHARACTERS, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_any_value_is_read_back_unchanged_with_its_type(value: Any) -> None:
    text = folder._dumped({"value": value})
    assert typed(read_text(text, "spec.yaml").value) == typed({"value": value})


def typed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: typed(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [typed(inner) for inner in value]
    return (type(value), repr(value))


@pytest.mark.parametrize("text", TEXTS)
def test_difficult_text_is_read_back_as_name_and_as_value(text: str) -> None:
    value = {text: [text, {text: text}]}
    assert read_text(folder._dumped(value), "spec.yaml").value == value


def test_missing_or_damaged_spec_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"spec.yaml: No such file"):
        folder.read_spec(tmp_path)
    (tmp_path / "spec.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="damaged"):
        folder.read_spec(tmp_path)
    (tmp_path / "spec.yaml").write_text("a: [")
    with pytest.raises(UserError, match="invalid YAML"):
        folder.read_spec(tmp_path)


# --- provenance -------------------------------------------------------------------------------------------------------


def record_of(plan: Plan, index: int, **changed: Any) -> dict[str, Record]:
    trial = plan.trials[index]
    values: dict[str, Any] = {"status": "done", "reason": "", "result": {}, "epochs": "{}", "run": {"threads": 1}}
    found = Record(
        trial.key,
        "a machine",
        settings=canonical(trial.settings),
        run_id=1,
        seconds=1.0,
        **{**values, "checksum": str(changed), **changed},
    )
    return {trial.key: found}


def test_provenance_shows_where_the_numbers_come_from(project: Path) -> None:
    plan = plan_of(project, "batch_size=[32, 64]")
    records = record_of(plan, 0) | record_of(plan, 1) | record_of(plan, 2, status="failed")
    content = folder.read_provenance(written(project, plan, records))
    assert content["spec"] == {"name": "tiny", "path": "configs/tiny.yaml", "overrides": {"batch_size": [32, 64]}}
    assert content["plan"] == {"digest": plan.digest, "rows": 12, "keys": [t.key for t in plan.trials]}
    assert content["records"] == {
        "statuses": {"done": 2, "failed": 1},
        "environments": {"a machine": 3},
        "threads": [1],
    }
    assert content["run"]["qsweep"]


def test_folder_contains_no_host_user_or_path(project: Path) -> None:
    target = written(project)
    assert_names_nobody("\n".join(file.read_text(encoding="utf-8") for file in target.iterdir()))


def test_write_creates_these_files_and_the_same_bytes_each_time(project: Path) -> None:
    target = written(project)
    before = {file.name: file.read_bytes() for file in target.iterdir()}
    assert set(before) == {"trials.csv", "history.csv", "timings.csv", "spec.yaml", "provenance.json"}
    (target / "provenance.json").unlink()  # which would say that the tables are as they should be
    written(project)
    assert {file.name: file.read_bytes() for file in target.iterdir()} == before
    assert json.loads(before["provenance.json"])


def tables_of(target: Path) -> dict[str, tuple[int, bytes]]:
    """The tables in a folder: their inodes and contents."""
    return {path.name: (path.stat().st_ino, path.read_bytes()) for path in target.glob("*.csv")}


def test_tables_of_the_same_records_are_not_rewritten(project: Path) -> None:
    plan = plan_of(project)
    target = written(project, plan, record_of(plan, 0))
    before = tables_of(target)
    summary = folder.read_provenance(target)["records"]
    written(project, plan, record_of(plan, 0))
    assert tables_of(target) == before
    assert folder.read_provenance(target)["records"] == summary


def test_tables_are_rewritten_if_rows_records_code_or_files_have_changed(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(project)
    target = written(project, plan, record_of(plan, 0))
    given = {name: content for name, (_, content) in tables_of(target).items()}

    def is_written_again(plan: Plan, records: dict[str, Record]) -> bool:
        before = tables_of(target)["trials.csv"][0]
        (target / "trials.csv").touch()
        written(project, plan, records)
        return tables_of(target)["trials.csv"][0] != before

    assert not is_written_again(plan, record_of(plan, 0))
    (target / "trials.csv").write_text("edited\n")
    assert is_written_again(plan, record_of(plan, 0))
    (target / "history.csv").unlink()
    assert is_written_again(plan, record_of(plan, 0))
    assert {name: content for name, (_, content) in tables_of(target).items()} == given
    (target / "histograms.csv").write_text("of an earlier run\n")
    assert is_written_again(plan, record_of(plan, 0))
    assert not (target / "histograms.csv").exists()
    assert is_written_again(plan, record_of(plan, 0, status="failed"))
    assert is_written_again(plan, record_of(plan, 1))
    assert is_written_again(plan_of(project, "batch_size=[32]"), record_of(plan, 1))
    monkeypatch.setattr(current, "_code", lambda: "another")
    assert is_written_again(plan_of(project, "batch_size=[32]"), record_of(plan, 1))


COUNTED = {"linear1.weight": {"role": "weight", "low": -0.5, "high": 0.25, "counts": [1, 0, 2]}}


def test_histograms_are_written_if_there_are_any_and_removed_otherwise(project: Path) -> None:
    plan = plan_of(project)
    target = written(project, plan, record_of(plan, 0, result={"histograms": COUNTED}))
    text = (target / "histograms.csv").read_text()
    assert text.splitlines()[1:] == [f"{plan.trials[0].key},0,linear1.weight,weight,-0.5,0.25,1 0 2"]
    assert not (written(project, plan) / "histograms.csv").exists()


# --- finding folders --------------------------------------------------------------------------------------------------


def test_sweep_folders_are_the_folder_itself_or_those_in_it_except_the_reference(tmp_path: Path) -> None:
    for name in ("b", "a", RESERVED_NAMES[0], f"{RESERVED_NAMES[0]}/c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "trials.csv").touch()
    (tmp_path / "empty").mkdir()
    assert folder.sweep_folders(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert folder.sweep_folders(tmp_path / "a") == [tmp_path / "a"]
    (tmp_path / RESERVED_NAMES[0] / "trials.csv").unlink()
    assert folder.sweep_folders(tmp_path / RESERVED_NAMES[0]) == [tmp_path / RESERVED_NAMES[0] / "c"]


def test_sweep_folders_of_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "mailed.csv").touch()
    with pytest.raises(UserError, match=r"mailed\.csv is a file, expected the folder of a sweep"):
        folder.sweep_folders(tmp_path / "mailed.csv")


@pytest.mark.parametrize("place", ["empty", "missing"])
def test_sweep_folders_without_any_is_an_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no results in"):
        folder.sweep_folders(tmp_path / place)
