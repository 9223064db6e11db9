"""Masks and overlays of pictures, folders and videos; what cannot be read is named and skipped."""

from __future__ import annotations

import json
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from kdsweep import deploy
from kdsweep.cli import main
from kdsweep.deploy.card import Card
from kdsweep.deploy.inputs import find_inputs
from kdsweep.deploy.model import DeployedModel
from kdsweep.deploy.predicting import overlaid, predict
from kdsweep.errors import ConfigError

PALETTE = ((200, 0, 0), (0, 200, 0), (0, 0, 200))


class Brightest(DeployedModel):
    """Says which channel of a pixel is the brightest; needs no training."""

    def class_ids(self, images_NHWC: np.ndarray) -> np.ndarray:
        return images_NHWC.argmax(-1).astype(np.uint8)

    def logits(self, images_NHWC: np.ndarray) -> np.ndarray:
        return np.moveaxis(images_NHWC, -1, 1).astype(np.float32)


@pytest.fixture
def model() -> DeployedModel:
    card = Card.model_validate(
        {
            "classes": ("red", "green", "blue"),
            "palette": PALETTE,
            "image_size": (32, 48),
            "mean": (0.5,) * 3,
            "std": (0.5,) * 3,
            "model": {},
        }
    )
    return Brightest(card)


def picture(index: int, size: tuple[int, int] = (32, 48)) -> np.ndarray:
    """Left half of one class, right half of another."""
    image = np.full((*size, 3), 30, np.uint8)
    image[:, : size[1] // 2, index % 3] = 220
    image[:, size[1] // 2 :, (index + 1) % 3] = 220
    return image


def save(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def save_video(path: Path, num_frames: int) -> Path:
    codec = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), codec, 10, (96, 64))
    assert writer.isOpened()
    for index in range(num_frames):
        writer.write(picture(index, (64, 96))[..., ::-1])
    writer.release()
    return path


def test_masks_have_the_pictures_size_and_the_palette(model: DeployedModel, tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.png", picture(0, (100, 150)))
    save(tmp_path / "in" / "deep" / "b.png", picture(1, (64, 96)))
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    done = predict(model, [tmp_path / "in"], tmp_path / "out", overlay=True)
    assert (done.num_frames, done.problems) == (2, ())
    with Image.open(tmp_path / "out" / "masks" / "a.png") as mask:
        assert mask.mode == "P"
        assert np.array(mask.getpalette()).reshape(-1, 3)[:3].tolist() == [list(c) for c in PALETTE]
        ids = np.asarray(mask)
    assert ids.shape == (100, 150)
    assert (ids[:, :75] == 0).all()
    assert (ids[:, 75:] == 1).all()
    with Image.open(tmp_path / "out" / "masks" / "deep" / "b.png") as mask:
        assert mask.size == (96, 64)
    with Image.open(tmp_path / "out" / "overlays" / "a.jpg") as shown:
        wanted = overlaid(picture(0, (100, 150)), ids, np.array(PALETTE, np.uint8))
        assert np.abs(np.asarray(shown).astype(int) - wanted).mean() < 5
    listed = json.loads((tmp_path / "out" / "classes.json").read_text())
    assert listed[2] == {"id": 2, "name": "blue", "colour": [0, 0, 200]}


def test_bad_inputs_are_named_and_skipped(model: DeployedModel, tmp_path: Path) -> None:
    good = save(tmp_path / "good.png", picture(0))
    cut = tmp_path / "cut.png"
    cut.write_bytes(good.read_bytes()[:60])
    text = tmp_path / "text.txt"
    text.write_text("hello")
    video = tmp_path / "no.mp4"
    video.write_bytes(b"no video")
    (tmp_path / "empty").mkdir()
    given = [cut, text, tmp_path / "gone.png", video, tmp_path / "empty", good]
    done = predict(model, given, tmp_path / "out")
    assert done.num_frames == 1
    assert len(done.problems) == 5
    for path in given[:-1]:
        assert sum(str(path) in problem for problem in done.problems) == 1
    assert [p.name for p in (tmp_path / "out" / "masks").iterdir()] == ["good.png"]


def test_videos(model: DeployedModel, tmp_path: Path) -> None:
    video = save_video(tmp_path / "drive.mp4", 12)
    done = predict(model, [video], tmp_path / "out", overlay=True)
    assert (done.num_frames, done.problems) == (12, ())
    masks = sorted((tmp_path / "out" / "masks" / "drive").iterdir())
    assert [mask.name for mask in masks] == [f"{i:06d}.png" for i in range(12)]
    for index, mask in enumerate(masks):
        with Image.open(mask) as opened:
            ids = np.asarray(opened)
        assert ids.shape == (64, 96)
        # Video codecs blur the edge between the halves.
        assert (ids[:, :40] == index % 3).mean() > 0.95
    shown = cv2.VideoCapture(str(tmp_path / "out" / "overlays" / "drive.mp4"))
    assert int(shown.get(cv2.CAP_PROP_FRAME_COUNT)) == 12
    assert shown.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    shown.release()


def test_every_input_has_a_name_of_its_own(tmp_path: Path) -> None:
    for name in ("one/a.png", "one/a.jpg", "two/a.png", ".hidden/a.png", "one/.a.png"):
        save(tmp_path / name, picture(0))
    found, problems = find_inputs([tmp_path / "one", tmp_path / "two", tmp_path / "one" / "a.png"])
    assert problems == []
    assert [given.name for given in found] == ["one/a", "one/a-png", "two/a", "a"]
    assert [given.name for given in find_inputs([tmp_path])[0]] == [
        "one/a",
        "one/a-png",
        "two/a",
    ]


def test_pictures_lie_as_they_are_shown_and_links_are_followed(
    model: DeployedModel, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by a quarter
    store = tmp_path / "store"
    store.mkdir()
    Image.fromarray(picture(0, (60, 100))).save(store / "a.jpg", exif=exif)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "day").symlink_to(store)
    done = predict(model, [tmp_path / "in"], tmp_path / "out")
    assert done.num_frames == 1
    with Image.open(tmp_path / "out" / "masks" / "day" / "a.png") as mask:
        assert mask.size == (60, 100)
        shown = np.asarray(mask)
    # Left is red and right is green in the file, so shown it is red above and green below.
    assert (shown[:40] == 0).mean() > 0.95
    assert (shown[60:] == 1).mean() > 0.95


def test_deep_pictures_are_read_as_in_training(model: DeployedModel, tmp_path: Path) -> None:
    deep = (picture(0).astype(np.uint16) << 4) | 3
    assert cv2.imwrite(str(tmp_path / "deep.png"), deep[..., ::-1])
    refused = predict(model, [tmp_path / "deep.png"], tmp_path / "refused")
    assert "image_bits: 12" in refused.problems[0]
    model.card = model.card.model_copy(update={"image_bits": 12})
    save(tmp_path / "plain.png", picture(0))
    assert predict(model, [tmp_path], tmp_path / "out").problems == ()
    masks = [Image.open(tmp_path / "out" / "masks" / f"{name}.png") for name in ("deep", "plain")]
    assert (np.asarray(masks[0]) == np.asarray(masks[1])).all()


def test_nothing_is_mixed_into_a_folder(model: DeployedModel, tmp_path: Path) -> None:
    good = save(tmp_path / "in" / "a.png", picture(0))
    with pytest.raises(ConfigError, match="new or empty"):
        predict(model, [good], tmp_path / "in")
    with pytest.raises(ConfigError, match="is not there"):
        predict(model, [tmp_path / "gone.png"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_memory_is_flat_over_many_frames(model: DeployedModel, tmp_path: Path) -> None:
    frame = picture(0, (128, 192))
    for index in range(200):
        save(tmp_path / "in" / f"{index:03d}.png", frame)
    held: list[int] = []
    tracemalloc.start()
    try:
        predict(
            model,
            [tmp_path / "in"],
            tmp_path / "out",
            advance=lambda given: held.append(tracemalloc.get_traced_memory()[0]),
        )
    finally:
        tracemalloc.stop()
    assert len(held) == 200
    # 180 frames later it holds less than two frames more, of 74 kB each: names, but no pixels.
    assert held[-1] - held[19] < 2 * frame.nbytes


@pytest.fixture
def kdsweep(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Runs a command in an empty folder; gives its exit code."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["kdsweep", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    return run


def test_from_the_command_line(
    kdsweep: Callable[..., int],
    trained: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert kdsweep("export", trained("unet"), "--format", "torch", "--out", "shipped") == 0
    assert "Exported: shipped/student.safetensors" in capsys.readouterr().out
    assert kdsweep("export", trained("unet"), "--format", "torch", "--out", "shipped") == 2
    assert "never overwritten" in capsys.readouterr().err
    assert kdsweep("export", trained("unet"), "--format", "tflite") == 2
    assert "allowed: onnx, torch, int8" in capsys.readouterr().err

    good = save(tmp_path / "good.png", picture(0, (50, 60)))
    assert kdsweep("predict", "shipped", good, "--out", "one") == 0
    assert "1 frame predicted: one" in capsys.readouterr().out
    assert kdsweep("predict", "shipped", good, "gone.png", "--out", "two") == 3
    assert "warning: skipped gone.png: is not there" in capsys.readouterr().err
    with Image.open("two/masks/good.png") as mask:
        ids = np.asarray(mask)
    with Image.open(good) as opened:
        assert (ids == deploy.load("shipped")(np.asarray(opened))).all()
    assert kdsweep("predict", "gone.onnx", good, "--out", "three") == 2
