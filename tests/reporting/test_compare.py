"""Experiments side by side: right numbers, and refused where they cannot be compared."""

import json
import re

import pytest
from experiments_on_disk import shown, write
from rich.cells import cell_len

from kdsweep.errors import ExperimentError
from kdsweep.reporting import compare, load, render_comparison
from kdsweep.reporting.caveats import notes

DATA = {"source": "roadscenes", "embedded": True, "notice": None, "image_size": None,
        "classes": ["road", "car", "pole"], "num_train": 96, "num_val": 48}  # fmt: skip


@pytest.fixture
def small(new_story):
    """Tells of a sweep with a control and one gain of -0.1 against it, at another rate."""

    def tell(**header):
        story = new_story().sweep(num_controls=1, trials=2, **header).session(gpus=0)
        story.trial(0, teacher=None).run(0, [0.5])
        story.trial(1, student="mobilenet_v2", control=0, train={"lr": 0.1})
        return story.run(1, [0.4])

    return tell


def test_the_best_of_each_stands_side_by_side(tmp_path, mixed, small, new_story):
    worse, better = write(tmp_path, small(), "worse"), write(tmp_path, mixed, "better")
    begun = write(tmp_path, new_story().sweep(), "begun")
    found = compare([worse.path, begun.path, better.path, tmp_path / "latest"])
    assert [one.path for one in found] == [str(e.path) for e in (better, worse, begun)]
    first, second, third = found
    assert (first.trial, first.student, first.teacher) == (1, "resnet18", "resnet34")
    assert (first.value, first.gain_matched) == (0.55, True)
    assert first.gain == pytest.approx(0.05)
    assert (first.num_ended, first.num_planned, first.num_seeds) == (3, 4, 2)
    assert first.hours == pytest.approx(9 * 36 / 3600)
    assert first.gpu_hours == pytest.approx(9 * 18 / 3600)
    assert (second.value, second.teacher, second.gain) == (0.5, None, None)
    assert (second.best_epochs, second.planned_epochs) == (1, 1)
    assert (third.value, third.student, third.gain_matched, third.num_ended) == (None,) * 3 + (0,)
    json.dumps([one.to_json() for one in found], allow_nan=False)


@pytest.mark.parametrize("width", [80, 200])
def test_a_comparison_fits_and_says_what_to_keep_in_mind(tmp_path, mixed, small, width):
    data = {**DATA, "num_train": 12}
    experiments = [
        write(tmp_path, small(epochs=9, data=data), "worse"), write(tmp_path, mixed, "better")
    ]  # fmt: skip
    text = shown(render_comparison, compare([e.path for e in experiments]), width=width)
    assert all(cell_len(line) <= width for line in text.split("\n"))
    rows = [re.split(r"\s{2,}", line.strip()) for line in text.split("\n")]
    better = next(row for row in rows if row[0].endswith("better"))
    assert {"resnet18", "0.550", "+0.050", "11.2"} <= set(better)
    assert "3/4" in better
    assert ("2" in better) == (width == 200)  # seeds
    flat = " ".join(text.split())
    assert "2 experiments on roadscenes" in flat
    assert "Not the same number of training frames" in flat
    assert "validation frames" not in flat
    assert "Not the same number of epochs" in flat
    worse = next(row for row in rows if row[0].endswith("worse"))
    assert "none" in worse


def test_an_old_experiment_is_marked_wherever_its_numbers_stand(tmp_path, mixed, small):
    new, old = write(tmp_path, mixed, "new"), write(tmp_path, small(miou_over=""), "old")
    said = "classes in labels or predictions"
    assert said in " ".join(notes(load(old.path), brief=True))
    assert said not in " ".join(notes(load(new.path)))
    text = " ".join(shown(render_comparison, compare([new.path, old.path])).split())
    assert "Not the same classes count in mIoU: until 29 November 2026" in text
    assert f"({old.path.name})" in text


@pytest.mark.parametrize(
    ("header", "what"),
    [
        ({"metric": "student/pixel_accuracy"}, "the metric differs"),
        ({"data": {**DATA, "source": "camvid"}}, "the data set differs"),
        ({"data": {**DATA, "image_size": [64, 96]}}, "the image size differs"),
        ({"data": {**DATA, "classes": ["road", "car"]}}, "the classes differ"),
        ({"protocol": "native"}, "one is scored at the labels' own size, another at its images'"),
    ],
)
def test_other_scores_are_not_compared(tmp_path, mixed, small, header, what):
    one, other = write(tmp_path, mixed, "one"), write(tmp_path, small(**header), "other")
    with pytest.raises(ExperimentError) as caught:
        compare([one.path, other.path])
    message = str(caught.value)
    assert message.startswith(f"these experiments cannot be compared: {what}\n")
    assert f": {one.path.name}\n" in message
    assert f": {other.path.name}\n" in message
    assert caught.value.exit_code == 2


def test_what_is_not_there_or_has_not_begun_is_an_error(tmp_path, new_story, mixed):
    one = write(tmp_path, mixed)
    with pytest.raises(ExperimentError, match="no such experiment"):
        compare([one.path, tmp_path / "nowhere"])
    empty = write(tmp_path, new_story(), "empty")
    with pytest.raises(ExperimentError, match=r"empty: this experiment has not begun"):
        compare([one.path, empty.path])
