"""Scores at the labels' own size, against a computation that knows nothing of kdsweep's.

The two sizes in one split: every other frame of the tiny data set is written larger.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_job import make_job

from kdsweep import api
from kdsweep.config.job import Job
from kdsweep.deploy.choosing import choose_student
from kdsweep.deploy.evaluation import evaluate_student
from kdsweep.deploy.loading import load
from kdsweep.deploy.steps import parse_steps
from kdsweep.deploy.trained_student import open_student
from kdsweep.deploy.windows import (
    Windows,
    make_windows,
    parse_windows,
    require_size,
    sliding_logits,
    starts,
)
from kdsweep.errors import ConfigError, DataError
from kdsweep.ledger import TrialFolder
from kdsweep.trial import run_job

SIZES = {0: (72, 100), 1: (40, 56)}
NAMES = ("red", "green", "blue")
REAL = Path(__file__).parents[3] / "shared" / "data" / "camvid"


@pytest.fixture(scope="module")
def two_sizes(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data set with frames of two sizes; neither is that of the training."""
    root = tmp_path_factory.mktemp("sizes")
    (root / "classes.yaml").write_text((tiny_data / "classes.yaml").read_text())
    for kind, how in (("images", Image.Resampling.BICUBIC), ("masks", Image.Resampling.NEAREST)):
        (root / kind).mkdir()
        for path in sorted((tiny_data / kind).iterdir()):
            height, width = SIZES[int(path.stem) % 2]
            Image.open(path).resize((width, height), how).save(root / kind / path.name)
    return root


def trained_on(data: Path, home: Path, **train: object) -> TrialFolder:
    job = make_job(data, home, train={"epochs": 3, "batch_size": 4, "lr": 3e-3, **train})
    split = job.data.split.model_copy(update={"test": 0.34})
    job = job.model_copy(update={"data": job.data.model_copy(update={"split": split})})
    folder = TrialFolder(home / "trial")
    list(run_job(job, folder, device="cpu", num_threads=1))
    return folder


@pytest.fixture(scope="module")
def trained(two_sizes: Path, tmp_path_factory: pytest.TempPathFactory) -> TrialFolder:
    return trained_on(two_sizes, tmp_path_factory.mktemp("trained"))


def miou_of_files(masks: list[Path], truths: list[Path], void: int) -> float:
    """The mean IoU over labelled classes, from files and with nothing but sets of pixels."""
    pixels = [
        (np.asarray(Image.open(mask)).ravel(), np.asarray(Image.open(truth)).ravel())
        for mask, truth in zip(masks, truths, strict=True)
    ]
    predicted, true = (np.concatenate([pair[i] for pair in pixels]) for i in (0, 1))
    predicted, true = predicted[true != void], true[true != void]
    ious = []
    for k in np.unique(true):
        both, either = (predicted == k) & (true == k), (predicted == k) | (true == k)
        ious.append(both.sum() / either.sum())
    return float(np.mean(ious))


@pytest.mark.parametrize(
    "windows", [(), ("--window", "64,64"), ("--window", "64,64", "--stride", "32,48")]
)
def test_native_miou_is_that_of_predicted_files_and_label_files(
    trained: TrialFolder, two_sizes: Path, command, tmp_path: Path, windows: tuple[str, ...]
) -> None:
    code, out, err = command("evaluate", trained.path, "--protocol", "native", *windows, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["protocol"], found["scored_size"]) == ("native", None)
    names = open_student(choose_student(trained.path), device="cpu").data.val.names
    assert {int(Path(name).stem) % 2 for name in names} == {0, 1}
    images = [two_sizes / "images" / f"{Path(name).stem}.png" for name in names]
    code, _, err = command("predict", trained.path, *images, "--out", "masks", *windows)
    assert code == 0, err
    masks = [tmp_path / "masks" / "masks" / image.name for image in images]
    expected = miou_of_files(masks, [two_sizes / "masks" / image.name for image in images], 255)
    assert found["scores"]["miou"]["value"] == pytest.approx(expected, abs=1e-6)
    assert 0.2 < expected < 0.999


def test_the_two_protocols_are_two_numbers_in_two_files(trained: TrialFolder, command) -> None:
    native, resized = (
        json.loads(command("evaluate", trained.path, "--protocol", protocol, "--json")[1])
        for protocol in ("native", "resized")
    )
    assert json.loads(command("evaluate", trained.path, "--json")[1]) == resized
    assert native["scores"]["miou"] != resized["scores"]["miou"]
    assert resized["scores"]["miou"]["value"] == pytest.approx(
        json.loads((trained.best / "student.json").read_text())["miou"], abs=1e-12
    )
    home = trained.evaluation
    assert home.scores("val").name == "student-val.json"
    assert json.loads(home.scores("val").read_text())["protocol"] == "resized"
    assert json.loads(home.scores("val", native=True).read_text())["protocol"] == "native"
    said = command("evaluate", trained.path, "--protocol", "native", "--window", "64,64")[1]
    assert "Windows of 64×64 every 43×43" in said
    assert "(protocol native)" in said


def test_a_training_validates_at_the_labels_own_size(two_sizes: Path, tmp_path: Path) -> None:
    folder = trained_on(two_sizes, tmp_path, validate_at="native")
    card = json.loads((folder.best / "student.json").read_text())
    assert (card["protocol"], card["miou_over"]) == ("native", "labelled")
    student = open_student(choose_student(folder.path), device="cpu")
    found = evaluate_student(student, num_resamples=5)
    assert found.facts["protocol"] == "native"
    assert found.scores["miou"].value == pytest.approx(card["miou"], abs=1e-12)
    assert found.confusion.tolist() == json.loads(folder.confusion.read_text())["student"]
    small = evaluate_student(student, num_resamples=5, protocol="resized")
    assert small.confusion.sum() < found.confusion.sum()
    # Post-processing stays at the student's own size.
    steps = evaluate_student(student, steps=parse_steps("majority:1"), num_resamples=5)
    assert steps.facts["protocol"] == "resized"


def test_a_test_score_says_how_it_came_to_be(trained: TrialFolder, tmp_path: Path) -> None:
    trained.evaluation.test_scorings.unlink(missing_ok=True)
    api.evaluate(trained.path, split="test", protocol="native", window=(64, 64))
    exported = api.export(trained.path, format="torch", out=tmp_path / "export")
    text = (exported.folder / "MODEL_CARD.md").read_text()
    assert "in PyTorch, windows of 64×64 every 43×43, scored at the labels' own size" in text
    scored = json.loads(trained.evaluation.test_scorings.read_text())["scorings"]
    assert ["windows of" in one["scored"] for one in scored] == [True]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--protocol", "paper"), "allowed: resized, native"),
        (("--window", "64"), "512,1024"),
        (("--window", "64,64", "--stride", "65,64"), "at most the window"),
        (("--stride", "65,64"), "stride without a window"),
        (("--window", "64,64", "--protocol", "resized"), "not resized"),
        (("--protocol", "native", "--postprocess", "flip"), "post-processing"),
    ],
)
def test_what_does_not_go_together_is_refused(trained, command, more, said) -> None:
    code, _, err = command("evaluate", trained.path, *more)
    assert code == 2
    assert said in err


@pytest.mark.parametrize("shape", [(1, 5, 32, 32), None])
def test_windows_that_a_network_does_not_take_are_refused(shape: tuple[int, ...] | None) -> None:
    def logits(images_NHWC: np.ndarray) -> np.ndarray:
        if shape is None:
            raise RuntimeError("sizes must match\nand more")
        return np.zeros(shape, np.float32)

    require_size(lambda images: np.zeros((1, 5, 63, 64)), Windows((63, 64), (1, 1)))
    with pytest.raises(ConfigError, match="does not take images of 63×64"):
        require_size(logits, Windows((63, 64), (1, 1)))


def test_windows_cover_everything_and_end_at_the_border() -> None:
    assert starts(10, 4, 3) == [0, 3, 6]
    assert starts(11, 4, 3) == [0, 3, 6, 7]
    assert starts(4, 4, 3) == [0]
    assert make_windows((512, 1024)) == Windows((512, 1024), (342, 683))
    assert parse_windows("8x12", "4,4") == Windows((8, 12), (4, 4))


@pytest.mark.parametrize("size", [(7, 9), (3, 9), (2, 2), (4, 4), (4, 11)])
def test_logits_of_windows_are_averaged_pixel_by_pixel(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    weights = rng.normal(size=(4, 4, 5)).astype(np.float32)  # depends on the place in a window

    def logits(images_NHWC: np.ndarray) -> np.ndarray:
        assert images_NHWC.shape == (1, 4, 4, 3)
        scores = images_NHWC[0, ..., :1].astype(np.float32) * weights
        return scores.transpose(2, 0, 1)[None]

    found = sliding_logits(logits, image, Windows((4, 4), (3, 2)))
    assert found.shape == (5, *size)
    high, wide = max(size[0], 4), max(size[1], 4)
    padded = np.zeros((high, wide, 3), np.uint8)
    padded[: size[0], : size[1]] = image
    tops = sorted({min(t, high - 4) for t in range(0, high - 4 + 3, 3)})
    lefts = sorted({min(x, wide - 4) for x in range(0, wide - 4 + 2, 2)})
    for row in range(size[0]):
        for column in range(size[1]):
            seen = [
                padded[row, column, 0] * weights[row - top, column - left]
                for top in tops
                for left in lefts
                if 0 <= row - top < 4 and 0 <= column - left < 4
            ]
            assert found[:, row, column] == pytest.approx(np.mean(seen, axis=0), rel=1e-4, abs=1e-3)


def test_a_picture_of_the_models_size_is_predicted_as_ever(trained: TrialFolder) -> None:
    model = load(trained.path, device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    assert (model(image) == model.class_ids(image[None])[0]).all()
    large = np.kron(image, np.ones((3, 2, 1), np.uint8))
    found = model(large)
    assert found.shape == (96, 64)
    frame = torch.from_numpy(
        np.array(Image.fromarray(large).resize((32, 32), Image.Resampling.BOX))
    )
    with torch.inference_mode():
        logits = model.network(frame[None]).logits_BKHW  # type: ignore[attr-defined]
        wide = torch.nn.functional.interpolate(logits, (96, 64), mode="bilinear")
    assert (found == wide.argmax(1)[0].numpy()).mean() > 0.999


def test_a_label_file_that_is_gone_is_named(two_sizes: Path, tmp_path: Path) -> None:
    folder = trained_on(two_sizes, tmp_path)
    student = open_student(choose_student(folder.path), device="cpu")
    native = student.data.native["val"].labels
    lost = native.frames[0]._replace(mask=two_sizes / "masks" / "gone.png")
    broken = type(native)(native.source, [lost, *native.frames[1:]])
    with pytest.raises(DataError, match=r"gone\.png"):
        next(iter(broken))
    assert [one.shape for one in native] == [one.shape for one in native]


@pytest.mark.real_data
@pytest.mark.skipif(
    not REAL.is_dir(), reason="the photographs of CamVid are not beside this folder"
)
def test_native_miou_of_photographs_is_that_of_files(tmp_path: Path, command) -> None:
    job = make_job(REAL, tmp_path).model_dump(mode="json")
    job["data"] = {
        "source": "camvid", "path": str(REAL), "image_size": [96, 128], "num_train": 12,
        "num_val": 5, "cache": str(tmp_path / "cache"),
    }  # fmt: skip
    job["train"] |= {"epochs": 2, "validate_at": "native"}
    folder = TrialFolder(tmp_path / "trial")
    list(run_job(Job.model_validate_json(json.dumps(job)), folder, device="cpu", num_threads=1))
    code, out, err = command("evaluate", folder.path, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["protocol"], found["scored_size"]) == ("native", [360, 480])
    names = open_student(choose_student(folder.path), device="cpu").data.val.names
    images = [REAL / "val" / f"{Path(name).stem}.png" for name in names]
    assert command("predict", folder.path, *images, "--out", "masks", "--quiet")[0] == 0
    masks = [tmp_path / "masks" / "masks" / image.name for image in images]
    expected = miou_of_files(masks, [REAL / "valannot" / image.name for image in images], 11)
    assert found["scores"]["miou"]["value"] == pytest.approx(expected, abs=1e-6)
