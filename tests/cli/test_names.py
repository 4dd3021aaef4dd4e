"""Names that are no UTF-8 are refused where a folder is looked at, pipes where a file would be read: at the start."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medseg.core.errors import DataError
from medseg.core.files import check_name, readable
from medseg.data.cases.case import Case
from medseg.data.files.frames import list_frames
from tests.test_layers import MODULES, name_of

LATIN = os.fsdecode(b"caf\xe9")


def test_names(tmp_path: Path) -> None:
    for name in ("café", "日本", "a b", "$x"):
        check_name(tmp_path / name)
    with pytest.raises(DataError, match=r"caf\\udce9.nii: the name is not UTF-8\n    -> rename it"):
        check_name(f"{LATIN}.nii")
    for case in ({"image": f"{LATIN}.nii"}, {"image": "a.nii", "label": f"{LATIN}.nii"}, {"image": f"{LATIN}/a.nii"}):
        with pytest.raises(DataError, match="is not UTF-8"):
            Case.from_entry(case)


CARD = ("--dataset", "voc2012")


def out(data: Path) -> list[Path | str]:
    return ["--output", data.parent / "out"]


VERBS: dict[str, Callable[[Path, Path], list[Path | str]]] = {
    "check": lambda run, data: ["check", data],
    "train": lambda run, data: ["train", "--config", "demo", "--set", f"data.root={data}"],
    "plan": lambda run, data: ["plan", data, "--output", data.parent / "plan.yaml"],
    "predict": lambda run, data: [
        "predict",
        "--run",
        run,
        "--input",
        data / "imagesTr",
        "--output",
        data.parent / "out",
    ],
    "evaluate": lambda run, data: ["evaluate", "--run", run, "--data", data],
    "score": lambda run, data: ["score", "--truth", data / "labelsTr", "--prediction", data / "labelsTr", *CARD],
    "submission": lambda run, data: ["submission", "--prediction", data / "labelsTr", *CARD, *out(data)],
}


@pytest.fixture
def latin(trained: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A run, and its data set with a case of such a name."""
    data = shutil.copytree(trained[1], tmp_path / "data")
    for folder in ("imagesTr", "labelsTr"):
        first = min((data / folder).iterdir())
        first.rename(first.with_name(f"{LATIN}.nii.gz"))
    text = (data / "dataset.json").read_text()
    (data / "dataset.json").write_text(text.replace("tiny_00", "caf\\udce9"))
    return trained[0], data


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_refuses_such_a_file_at_the_start(verb: str, latin: tuple[Path, Path], medseg: Any) -> None:
    code, out, err = medseg(*map(str, VERBS[verb](*latin)))
    assert code == 2, (out, err)
    assert "is not UTF-8" in err
    assert "caf\\udce9" in err
    assert "Traceback" not in err
    assert not (latin[1].parent / "out").exists()


def test_a_frame(tmp_path: Path) -> None:
    (tmp_path / f"{LATIN}.png").touch()
    with pytest.raises(DataError, match="is not UTF-8"):
        list_frames(tmp_path)


@pytest.mark.parametrize("option", ["--run", "--output", "--input", "--config"])
def test_such_an_argument_is_refused(option: str, medseg: Any) -> None:
    code, _, err = medseg("predict", option, LATIN)
    assert (code, err.splitlines()[0]) == (2, "error: caf\\udce9: the name is not UTF-8")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    assert readable(tmp_path / "file") == tmp_path / "file"
    assert readable(tmp_path / "absent") == tmp_path / "absent"  # whose reader says so
    for place in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="no file but a pipe or a device"):
            readable(place)
    descriptor, other = os.pipe()
    readable(Path(f"/dev/fd/{descriptor}"))
    os.close(descriptor)
    os.close(other)


READS = re.compile(r"""\.read_text\(|\.open\((newline="", enc|enc|"rb"\))""")
OWN = re.compile(r"/proc|/sys|resource_file|files\(\"medseg|spec\.origin|memory\.stat|folder / file|status\.")
CHECKED = {
    f"medseg.{name}" for name in ("cli.parts", "core.lock", "data.phantom", "data.files.formats", "networks.tensors")
}
"""They read what medseg itself has made, or come behind a look at the file."""


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_who_reads_a_users_file_asks_first(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    reads = [one for one in lines if READS.search(one) and "readable(" not in one and not OWN.search(one)]
    assert name_of(file) in CHECKED or not reads, reads
