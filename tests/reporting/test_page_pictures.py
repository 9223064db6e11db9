"""Frames as students see them, from the PNGs in the trials' folders."""

import base64
import io
import shutil

import numpy as np
import pytest
from experiments_on_disk import results_of, write
from PIL import Image

from kdsweep.reporting import load
from kdsweep.reporting.page import pictures as pictures_module
from kdsweep.reporting.page.pictures import COLUMNS, gallery

PALETTE = [10, 20, 30, 40, 50, 60, 70, 80, 90] + [0] * 759
TRUTH = np.array([[0, 0, 1, 1], [2, 2, 255, 255]], np.uint8)
STUDENT = np.array([[0, 1, 1, 1], [2, 0, 0, 0]], np.uint8)  # wrong at two of six pixels


def put(folder, index, image=None, **labels):
    folder.create().frames.mkdir(exist_ok=True)
    if image is not None:
        Image.fromarray(image).save(folder.frame(index, "image"))
    for what, ids in labels.items():
        picture = Image.fromarray(ids)
        picture.putpalette(PALETTE)
        picture.save(folder.frame(index, what))


def pixels(picture):
    data = base64.b64decode(picture.address.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.fixture
def experiment(mixed, tmp_path):
    """The mixed sweep, whose best trial is 1, of a resnet18, and whose control is 0."""
    return write(tmp_path, mixed)


def grey(shape=(2, 4)):
    return np.full((*shape, 3), 100, np.uint8)


def test_a_frame_from_image_to_errors(experiment):
    put(experiment.trial(1), 3, grey(), truth=TRUTH, student=STUDENT, teacher=TRUTH)
    put(experiment.trial(0), 3, grey(), truth=TRUTH, student=np.zeros_like(TRUTH))
    found = gallery(load(experiment.path))
    (sheet,) = found.sheets
    assert sheet.title == "Trial 1, resnet34→resnet18: 0.550"
    assert sheet.columns == COLUMNS
    pictures = {picture.what: picture for picture in sheet.frames[3]}
    notes = {what: picture.note for what, picture in pictures.items() if picture.note}
    assert notes == {
        "teacher": "100 % right",
        "student": "67 % right",
        "control": "33 % right",
        "errors": "of the student",
    }
    assert pixels(pictures["truth"])[1].tolist() == [[70, 80, 90]] * 2 + [[0, 0, 0]] * 2
    # Void in the labels is void in every prediction.
    assert pixels(pictures["student"])[1].tolist() == [[70, 80, 90], [10, 20, 30]] + [[0, 0, 0]] * 2
    right, wrong, void = [160, 160, 160], [214, 39, 40], [0, 0, 0]
    assert pixels(pictures["errors"]).tolist() == [
        [right, wrong, right, right],
        [right, wrong, void, void],
    ]
    assert found.legend == [
        ("road", "rgb(10, 20, 30)"),
        ("car", "rgb(40, 50, 60)"),
        ("pole", "rgb(70, 80, 90)"),
        ("void, not scored", "rgb(0, 0, 0)"),
    ]


def test_what_is_missing_leaves_a_gap_or_no_column(experiment):
    trial = experiment.trial(1)
    put(trial, 0, grey(), truth=TRUTH, student=STUDENT, teacher=TRUTH)
    put(trial, 1, grey(), truth=TRUTH, student=STUDENT)
    (sheet,) = gallery(load(experiment.path)).sheets
    assert sheet.columns == ("image", "truth", "teacher", "student", "errors")
    assert [picture.address != "" for picture in sheet.frames[1]] == [True, True, False, True, True]


def test_frames_that_are_damaged_or_do_not_fit_are_left_out(experiment):
    trial = experiment.trial(1)
    put(trial, 0, grey(), truth=TRUTH, student=STUDENT)
    trial.frame(0, "student").write_bytes(trial.frame(0, "student").read_bytes()[:60])
    put(trial, 1, grey((3, 3)), truth=TRUTH, student=STUDENT)
    put(trial, 2, grey(), truth=TRUTH, student=np.zeros((9, 9), np.uint8))
    put(trial, 3, grey(), student=STUDENT)
    put(trial, 4, truth=TRUTH, student=STUDENT)
    Image.fromarray(grey()).save(trial.frame(5, "truth"))
    put(trial, 5, grey(), student=STUDENT)
    assert gallery(load(experiment.path)).sheets == []


def test_one_sheet_for_each_of_the_best_students(story, tmp_path):
    story.sweep().session()
    names = ["a", "a", "b", "c", "d"]
    for number, name in enumerate(names):
        story.trial(number, student=name).run(number, [0.9 - number / 10])
    experiment = write(tmp_path, story)
    for number in (0, 1, 3, 4):
        put(experiment.trial(number), 0, grey(), truth=TRUTH, student=STUDENT)
    titles = [sheet.title for sheet in gallery(load(experiment.path)).sheets]
    assert titles == [f"Trial {n}, resnet34→{names[n]}: {0.9 - n / 10:.3f}" for n in (0, 3, 4)]


def test_large_frames_stay_small(experiment, monkeypatch):
    monkeypatch.setattr(pictures_module, "_MOST_BYTES", 500_000)
    noise = np.random.default_rng(0).integers(0, 256, (240, 480, 3), dtype=np.uint8)
    ids = np.random.default_rng(1).integers(0, 3, (240, 480), dtype=np.uint8)
    trial = experiment.trial(1)
    put(trial, 0, noise, truth=ids, student=ids)
    for what in ("image", "truth", "student"):
        for index in range(1, 8):
            shutil.copy(trial.frame(0, what), trial.frame(index, what))
    found = gallery(load(experiment.path))
    (sheet,) = found.sheets
    pictures = [picture for frame in sheet.frames.values() for picture in frame]
    assert {(picture.width, picture.height) for picture in pictures} == {(400, 200)}
    assert found.cut
    assert 250_000 < sum(len(picture.address) for picture in pictures) <= 500_000
    assert {tuple(colour) for colour in pixels(pictures[1]).reshape(-1, 3)} == {
        (10, 20, 30), (40, 50, 60), (70, 80, 90),
    }  # fmt: skip


def test_without_a_folder_there_are_no_pictures(mixed):

    assert gallery(results_of(mixed.events)).sheets == []
