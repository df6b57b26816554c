"""Studies: reading them, and errors for invalid files."""

from __future__ import annotations

from pathlib import Path

import pytest
from paths import ROOT

from qsweep.errors import SpecError
from qsweep.spec.study import all_studies, read_study


def written(folder: Path, text: str) -> Path:
    """A study in a project with one config, `tiny`."""
    for name in ("sweeps", "configs"):
        (folder / name).mkdir()
    (folder / "configs" / "tiny.yaml").write_text("")
    (folder / "sweeps" / "mine.yaml").write_text(text)
    return folder / "sweeps" / "mine.yaml"


def test_every_study_of_the_project_names_existing_configs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    studies = [read_study(path) for path in all_studies()]
    assert studies
    assert all(config.is_file() for study in studies for config in study.configs)


def test_all_studies_without_an_own_folder_are_the_packaged_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert {path.name for path in all_studies()} == {path.name for path in (ROOT / "sweeps").glob("*.yaml")}


def test_read_study_title_document_and_configs(tmp_path: Path) -> None:
    study = read_study(written(tmp_path, "title: T\ndocument: D\nconfigs: [tiny]\n"))
    assert (study.title, study.document) == ("T", "D")
    assert [path.name for path in study.configs] == ["tiny.yaml"]


def test_read_study_reports_every_mistake_at_once_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        read_study(written(tmp_path, "titel: T\ndocument: 3\nconfigs: [tinny, tiny, 4]\n"))
    message = str(caught.value)
    for part in (
        "mine.yaml:1",
        "'titel'",
        "did you mean 'title'",
        "'title' is missing",
        "mine.yaml:2",
        "expected a string",
    ):
        assert part in message
    assert "did you mean 'tiny'" in message
    assert "unknown config '4'" in message


@pytest.mark.parametrize(
    "text", ["[]", "3", "title: T\ndocument: D\nconfigs: []", "title: T\ndocument: D\nconfigs: tiny"]
)
def test_read_study_refuses_a_file_that_is_not_a_study(tmp_path: Path, text: str) -> None:
    with pytest.raises(SpecError):
        read_study(written(tmp_path, text))
