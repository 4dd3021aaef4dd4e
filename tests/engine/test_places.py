"""Which places are refused, over drawn names."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medseg.core.errors import DataError
from medseg.core.files import WRITING
from medseg.core.lock import LOCK
from medseg.data.cases.case import Case
from medseg.engine.outputs import pending_cases
from medseg.engine.places import Place, check_places

WORDS = st.text(st.sampled_from("ab./\\~ $*\0\n\u00e9"), min_size=0, max_size=12)
NAMES = st.one_of(WORDS, WORDS.map("../".__add__), WORDS.map("/tmp/".__add__), WORDS.map(WRITING.__add__))


@given(NAMES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    safe = name not in ("", ".", "..") and not {"/", "\\", "\0"} & set(name) and not name.startswith(WRITING)
    case = Case(name, (str(tmp_path / "image.nii.gz"),))
    if safe:
        assert pending_cases([case], tmp_path / "out", maps=["entropy"]) == [case]
        return
    with pytest.raises(DataError) as caught:
        pending_cases([case], tmp_path / "out", maps=["entropy"])
    assert all(problem.remedy for problem in caught.value.problems)
    place = Place(tmp_path / "out" / name, tmp_path / "out", name)
    if place.path.parent != place.folder:
        with pytest.raises(DataError, match="would not be a file in"):
            check_places([place])


@given(st.lists(st.sampled_from(["a", "b", "c", "a_entropy", "b_entropy"]), max_size=6), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_two_cases_of_one_name_are_refused(tmp_path: Path, names: list[str], overwrite: bool) -> None:
    cases = [Case(name, (f"site{number}/{name}.nii",)) for number, name in enumerate(names)]
    if len(set(names)) == len(names):
        assert pending_cases(cases, tmp_path, overwrite, ["entropy"]) == cases
        return
    with pytest.raises(DataError, match="would be the name of two"):
        pending_cases(cases, tmp_path, overwrite, ["entropy"])


@pytest.mark.parametrize("name", ["a/b", "../b", "/b", "b\0"])
def test_no_name_of_a_map_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="would not be a file in"):
        pending_cases([Case("a", (str(tmp_path / "a.nii.gz"),))], tmp_path / "out", maps=[name])


def test_a_folder_of_medsegs_own_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "medseg").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="is a link: results would be written elsewhere"):
        pending_cases([Case("a", (str(tmp_path / "a.nii.gz"),))], tmp_path / "out")
    (tmp_path / "named").symlink_to(tmp_path / "elsewhere")
    assert pending_cases([Case("a", (str(tmp_path / "a.nii.gz"),))], tmp_path / "named"), "the user's own may be one"


def test_many_problems_are_one_screen(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"{number}.nii.gz").write_bytes(b"scan")
    with pytest.raises(DataError, match="and 95 more") as caught:
        pending_cases([Case(str(n), (str(tmp_path / "in.nii.gz"),)) for n in range(100)], tmp_path)
    assert len(str(caught.value).splitlines()) < 20


@given(
    st.lists(st.sampled_from(["a", "A", "b", "\u00e9", "e\u0301", "\u00c9", "\u00df", "SS"]), max_size=5, unique=True)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_names_that_a_disk_takes_for_one_are_refused_there_alone(tmp_path: Path, names: list[str]) -> None:
    places = [Place(tmp_path / name, tmp_path, name) for name in names]
    check_places(places)
    lock, folded = tmp_path / LOCK, tmp_path / LOCK.upper()
    lock.touch()
    folded.touch()  # as such a disk answers
    try:
        alike = {unicodedata.normalize("NFC", name).casefold() for name in names}
        if len(alike) == len(names):
            check_places(places)
        else:
            with pytest.raises(DataError, match="takes large and small letters for the same"):
                check_places(places)
    finally:
        lock.unlink()
        folded.unlink()
