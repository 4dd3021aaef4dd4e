"""A sample of the kills: 60 moments, one of every kind; and whether the trials can fail."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.campaign.kills import SAMPLE, campaign, kind_of
from tests.campaign.operations import Operations
from tests.campaign.same import differences

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="trials are forked")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_same_command_goes_on_from_a_moment_of_every_kind(tmp_path: Path) -> None:
    rows = list(campaign(0, 10.0, False, tmp_path / "kills"))
    assert [example for row in rows for example in row.examples] == []
    assert sum(row.failed for row in rows) == 0
    assert sum(row.tried for row in rows) >= SAMPLE
    assert {row.what.partition(":")[0] for row in rows} >= {"train", "train --fold all", "evaluate", "predict"}


def _dies(root: Path, last: int | None) -> tuple[int, list[str]]:
    """A child that writes two files; how it ended, and what it was about to do."""
    log = root.parent / "log"
    child = os.fork()
    if child == 0:
        lines = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        Operations(root, lambda what, path: os.write(lines, f"{what} {path}\n".encode()), last).begin()
        (root / "text").write_text("0123456789")
        with (root / "bytes").open("wb") as file:
            file.write(b"01")
            os.fsync(file)
        (root / "folder").mkdir(exist_ok=True)
        (root / "folder").mkdir(exist_ok=True)
        os.replace(root / "text", root / "other")
        (root.parent / "elsewhere").write_text("")
        os.link(root / "other", root / "third")
        os.utime(root / "other", (0, 0))
        (root / "other").unlink()
        os.rmdir("folder", dir_fd=os.open(root, os.O_RDONLY))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), log.read_text().splitlines()


WRITTEN = [
    *("open text", "write text", "half text", "close text"),
    *("open bytes", "fsync bytes", "write bytes", "half bytes", "close bytes"),
    *("mkdir folder", "rename other", "link third", "utime other", "unlink other", "rmdir folder"),
]


def test_every_change_of_the_disk_is_seen_and_the_process_dies_before_it(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    assert _dies(root, None) == (0, WRITTEN)
    for number in range(1, len(WRITTEN) + 1):
        for file in root.iterdir():
            file.rmdir() if file.is_dir() else file.unlink()
        assert _dies(root, number) == (-9, WRITTEN[:number])
        text = root / "text"
        if number <= 10:
            assert (text.read_text() if text.exists() else None) == (None, "", "01234", *["0123456789"] * 7)[number - 1]
        assert (root / "folder").exists() == (number > 10)
        assert (root / "other").exists() == (11 < number <= 14)


def test_what_differs_is_found(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        (folder / "models").mkdir(parents=True)
        (folder / "models" / "model.pt").write_bytes(b"1")
        (folder / "history.csv").write_text("epoch,minutes,train/loss\n1,0.5,0.25\n")
    (other / "history.csv").write_text("epoch,minutes,train/loss\n1,0.7,0.25\n")
    assert differences(one, other) == []
    (other / "history.csv").write_text("epoch,minutes,train/loss\n1,0.7,0.26\n")
    (other / "models" / "model.pt").write_bytes(b"2")
    (other / ".writing-1").touch()
    (one / "gone").touch()
    found = differences(one, other)
    assert found[:2] == ["gone is missing", ".writing-1 is left over"]
    assert [line.partition(":")[0] for line in found[2:]] == ["history.csv", "models/model.pt"]


def test_a_kind_is_what_happens_to_which_file() -> None:
    assert kind_of("half run/fold_1/cache/.writing-5bce98-1-2-3-x.json") == "write UNFINISHED"
    assert kind_of(f"rename run/fold_0/cache/{'a' * 32}.label.npy") == "rename ARRAY"
    assert kind_of("rename run/eval/masks/medseg/tiny_03.json") == "rename CASE.json"
