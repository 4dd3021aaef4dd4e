"""`medseg composite` on small real pictures, with a run that has learnt to find a red disc on blue noise."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from medseg.cli import main
from medseg.config.load import load_config
from medseg.core.errors import ConfigError, DataError, PartialFailure, RunError
from medseg.core.labels import Labels
from medseg.workflows.composite import choose_targets, composite
from medseg.workflows.train import train

ROWS, COLUMNS, RADIUS = 48, 64, 14
GREEN = (0, 255, 0)
LIGHT = {
    "data.card": "null",
    "data.classes": "{background: 0, person: 1}",
    "data.ignore_index": "255",
    "network.name": "unet",
    "network.encoder": "null",
    "network.pretrained": "null",
    "network.widths": "[8, 16]",
    "loss.class_weights": "null",
    "augmentation.crop_scale": "[1, 1]",
    "augmentation.photometric": "null",
    "augmentation.category_cap": "1",
    "training.patch_size": "[32, 32]",
    "training.batch_size": "4",
    "training.max_minutes": "null",
    "training.max_iterations": "40",
    "training.iterations_per_epoch": "40",
    "training.weight_average": "0",
    "training.optimizer": "{name: adamw, learning_rate: 1e-2}",
}


def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The picture and how far each of its pixels is from the rim of the disc, above 0 outside."""
    random = np.random.default_rng(seed)
    centre = np.array([ROWS / 2, COLUMNS / 2]) + random.uniform(-6, 6, 2)
    distance = np.hypot(*(np.indices((ROWS, COLUMNS)) - centre[:, None, None])) - RADIUS
    picture = np.where(distance[..., None] < 0, [200, 40, 30], [20, 60, 190]) + random.integers(
        -15, 16, (ROWS, COLUMNS, 3)
    )
    return picture.clip(0, 255).astype(np.uint8), distance


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("composite")
    for split, count in (("train", 4), ("val", 1)):
        for number in range(count):
            picture, distance = draw(number + 100 * (split == "val"))
            for kind, pixels in (("images", picture), ("masks", (distance < 0).astype(np.uint8))):
                path = folder / "data" / kind / split / f"{split}{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Pillow.fromarray(pixels).save(path)
    overrides = [f"{key}={value}" for key, value in {**LIGHT, "data.root": str(folder / "data")}.items()]
    return train(load_config("camvid_cpu", overrides), run=folder / "run")


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Three pictures that the network has not seen."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(3):
        Pillow.fromarray(draw(10 + number)[0]).save(folder / f"frame{number}.png")
    return folder


def pixels(path: Path) -> np.ndarray:
    with Pillow.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.mode == "RGB"
        assert not picture.getexif()
        return np.asarray(picture)


def threads_of_others() -> int:
    """How many threads torch gives to a thread that has not asked for another number."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


def test_the_disc_stays_and_the_rest_is_new_with_a_soft_border(run: Path, frames: Path, tmp_path: Path) -> None:
    threads = threads_of_others()
    done = composite(run, input=frames, background="lime", output=tmp_path / "out")
    assert [path.name for path in done.pictures] == ["frame0.png", "frame1.png", "frame2.png"]
    assert "3 frames" in done.text()
    assert 0 < done.as_dict()["seconds_a_frame"] < 60
    assert threads_of_others() == threads, "frames are computed on few threads each, and then it is as before"
    for number, path in enumerate(done.pictures):
        frame, distance = draw(10 + number)
        result = pixels(path)
        assert (result[distance < -8] == frame[distance < -8]).all()
        assert (result[distance > 8] == GREEN).all()
        alpha = (result[..., 1] - 255.0) / (frame[..., 1] - 255.0)  # of the green, where frame and background differ
        between = (alpha > 0.05) & (alpha < 0.95)
        assert between.any(), "a border that is neither"
        assert (np.abs(distance[between]) <= 8).all()


def test_a_picture_behind_one_picture(run: Path, frames: Path, tmp_path: Path) -> None:
    behind = np.zeros((30, 90, 3), np.uint8)
    behind[:, :45], behind[:, 45:] = (250, 250, 0), (0, 250, 250)
    Pillow.fromarray(behind).save(tmp_path / "behind.png")
    place = tmp_path / "new" / "one.png"
    done = composite(run, input=frames / "frame0.png", background=str(tmp_path / "behind.png"), output=place)
    assert done.pictures == [place]
    _, distance = draw(10)
    result = pixels(place)
    outside = distance > 8
    left, right = np.indices(outside.shape)[1] < 28, np.indices(outside.shape)[1] > 35
    assert (result[outside & left] == (250, 250, 0)).all(), "its halves meet in the middle: scaled, then cropped"
    assert (result[outside & right] == (0, 250, 250)).all()


def test_files_of_every_kind_are_one_picture(run: Path, tmp_path: Path) -> None:
    frame, _ = draw(10)
    folder = tmp_path / "kinds"
    folder.mkdir()
    exif = Pillow.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"  # to be turned clockwise to be seen upright
    Pillow.fromarray(np.rot90(frame).copy()).save(folder / "turned.png", exif=exif)
    Pillow.fromarray(frame).save(folder / "tiff.tif")
    Pillow.fromarray(np.dstack([frame, np.full((ROWS, COLUMNS), 77, np.uint8)])).save(folder / "transparent.png")
    done = composite(run, input=folder, background="#00ff00", output=tmp_path / "out")
    tiff, transparent, turned = (pixels(path) for path in done.pictures)
    assert (tiff == turned).all()
    assert (tiff == transparent).all()
    assert tiff.shape == frame.shape


def test_a_broken_frame_stops_no_other(run: Path, frames: Path, tmp_path: Path) -> None:
    whole = (frames / "frame0.png").read_bytes()
    (frames / "frame0.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PartialFailure) as caught:
        composite(run, input=frames, background="white", output=tmp_path / "out")
    assert caught.value.exit_code == 1
    assert "frame0.png" in str(caught.value)
    assert "1 of 3 frames failed" in str(caught.value)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["frame1.png", "frame2.png"]
    for file in frames.iterdir():
        file.write_bytes(b"no picture")
    with pytest.raises(DataError, match="frame2"):
        composite(run, input=frames, background="white", output=tmp_path / "other")


def test_mistakes_say_what_to_do(run: Path, frames: Path, tmp_path: Path, trained: tuple[Path, Path]) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="did you mean 'person'"):
        composite(run, input=frames, background="white", output=out, target=["persn"])
    with pytest.raises(ConfigError, match="neither a file nor a colour"):
        composite(run, input=frames, background="whitish", output=out)
    with pytest.raises(ConfigError, match="would be overwritten"):
        composite(run, input=frames, background="white", output=frames)
    with pytest.raises(ConfigError, match="is no PNG"):
        composite(run, input=frames / "frame0.png", background="white", output=tmp_path / "one.jpg")
    with pytest.raises(DataError, match="no such file"):
        composite(run, input=tmp_path / "nowhere", background="white", output=out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no picture is in this folder"):
        composite(run, input=tmp_path / "empty", background="white", output=out)
    Pillow.open(frames / "frame1.png").save(frames / "frame1.jpg")
    with pytest.raises(DataError, match="rename one of them"):
        composite(run, input=frames, background="white", output=out)
    with pytest.raises(RunError, match="not for colour pictures"):
        composite(trained[0], input=frames, background="white", output=out)
    assert not out.exists()


def test_what_is_kept_where_none_is_named() -> None:
    assert choose_targets(Labels({"background": 0, "cat": 1, "person": 2}, background=None)) == [2]
    assert choose_targets(Labels({"background": 0, "cat": 1})) == [1]
    assert choose_targets(Labels({"none": 0, "cat": 1, "dog": 2}), ["dog", "cat", "dog"]) == [2, 1]
    assert choose_targets(Labels({"none": 0, "a": 1, "b": 2}, {"both": (1, 2)}, (1,))) == [0]
    with pytest.raises(ConfigError, match="cat, dog"):
        choose_targets(Labels({"background": 0, "cat": 1, "dog": 2}, background=None))


def test_the_verb(
    run: Path, frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def composite_verb(*more: str) -> tuple[int, str, str]:
        arguments = ["--run", run, "--input", frames, "--background", "white", "--output", tmp_path / "out", *more]
        monkeypatch.setattr("sys.argv", ["medseg", "composite", *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            main()
        return int(done.value.code or 0), *capsys.readouterr()

    code, out, _ = composite_verb()
    assert code == 0
    assert "3 frames" in out
    assert "frames per second" in out
    (frames / "frame2.png").write_bytes(b"no picture")
    code, out, err = composite_verb("--json", "--size", "32")
    assert code == 1
    assert "frame2.png" in err
    result = json.loads(out)
    assert [Path(path).name for path in result["pictures"]] == ["frame0.png", "frame1.png"]
    assert result["frames_per_second"] > 0
    code, _, err = composite_verb("--target", "horse")
    assert code == 2
    assert "known: background, person" in err
