"""The confusion matrix that trials leave beside their weights, as the report shows it."""

import json

import numpy as np
import pytest
from experiments_on_disk import write

from kdsweep.reporting import figures, load
from kdsweep.reporting.figures.confusion import confusion_figures
from kdsweep.reporting.trial_files import confusions

CLASSES = ["road", "car", "<b>pole"]
STUDENT = [[90, 10, 0], [4, 16, 0], [0, 0, 0]]
TEACHER = [[95, 5, 0], [2, 18, 0], [0, 0, 0]]
CONTROL = [[80, 20, 0], [10, 10, 0], [0, 0, 0]]


def leave(experiment, number, epoch=2, classes=CLASSES, **matrices):
    folder = experiment.trial(number).create()
    folder.best.mkdir(exist_ok=True)
    folder.confusion.write_text(json.dumps({"epoch": epoch, "classes": classes, **matrices}))
    return folder


@pytest.fixture
def experiment(mixed, tmp_path):
    """The mixed sweep, whose best trial is 1 and whose control is 0."""
    experiment = write(tmp_path, mixed)
    leave(experiment, 1, student=STUDENT, teacher=TEACHER)
    leave(experiment, 0, student=CONTROL)
    return experiment


def test_cells_hold_pixels_and_shares_of_each_label(experiment):
    cells = figures.confusion_cells(load(experiment.path))
    assert len(cells) == 9
    assert cells["student_pixels"].tolist() == np.array(STUDENT).reshape(-1).tolist()
    assert cells["teacher_pixels"].tolist() == np.array(TEACHER).reshape(-1).tolist()
    assert cells["control_pixels"].tolist() == np.array(CONTROL).reshape(-1).tolist()
    row = cells[(cells["truth"] == "car") & (cells["prediction"] == "road")].iloc[0]
    assert (row["truth_id"], row["prediction_id"]) == (1, 0)
    assert (row["student_share"], row["control_share"], row["teacher_share"]) == (0.2, 0.5, 0.1)
    assert row["difference"] == pytest.approx(-0.3)
    assert cells.loc[cells["truth"] == "<b>pole", "student_share"].isna().all()


def test_figures_show_the_matrix_and_what_the_teacher_changed(experiment):
    own, gain = confusion_figures(load(experiment.path))
    (trace,) = own.traces
    assert trace["z"][0] == pytest.approx([0.9**0.5, 0.1**0.5, 0.0], abs=1e-4)
    assert trace["z"][2] == [None, None, None]
    assert trace["text"][:2] == [["90", "10", ""], ["20", "80", ""]]
    assert trace["hovertext"][1][0] == (
        "label car, predicted as road<br>student: 20.00 % (4 pixels)<br>"
        "control: 50.00 % (10 pixels)<br>teacher: 10.00 % (2 pixels)<br>difference -30.00 points"
    )
    assert "no pixel has this label" in trace["hovertext"][2][0]
    assert own.layout["xaxis"]["ticktext"] == ["road", "car", "&lt;b&gt;pole"]
    assert "trial 1, epoch 2" in own.caption
    # Less confusion is as good as more that is right.
    (trace,) = gain.traces
    assert trace["z"][0] == pytest.approx([10, 10, 0])
    assert trace["z"][1] == pytest.approx([30, 30, 0])
    assert trace["text"][1] == ["-30", "+30", ""]
    assert (trace["zmin"], trace["zmax"]) == (pytest.approx(-30), pytest.approx(30))


def test_without_a_control_there_is_one_figure(experiment):
    experiment.trial(0).confusion.unlink()
    assert [figure.name for figure in confusion_figures(load(experiment.path))] == ["confusion"]
    leave(experiment, 0, student=CONTROL, classes=["other", "classes", "here"])
    assert [figure.name for figure in confusion_figures(load(experiment.path))] == ["confusion"]


@pytest.mark.parametrize(
    "text",
    ["torn {", "[]", "{}", '{"epoch": 1, "classes": ["a", "b"], "student": [[1, 2]]}',
     '{"epoch": 1, "classes": ["a"], "student": [[-1]]}',
     '{"epoch": 1, "classes": ["a"], "student": [[0.5]]}',
     '{"epoch": 1, "classes": ["a", "b"], "student": [[1, 2], [3]]}',
     '{"epoch": null, "classes": ["a"], "student": [[1]]}',
     '{"epoch": 1, "classes": "a", "student": [[1]]}'],
)  # fmt: skip
def test_files_that_are_not_whole_are_not_there(text, experiment):
    experiment.trial(1).confusion.write_text(text)
    results = load(experiment.path)
    assert confusions(results, 1) is None
    assert confusion_figures(results) == []
    assert list(figures.confusion_cells(results).columns)[-1] == "difference"


def test_of_many_classes_the_commonest_are_drawn(experiment):
    size = 60
    counts = np.diag(np.arange(size)).tolist()
    leave(experiment, 1, classes=[f"c{index}" for index in range(size)], student=counts)
    own, *_ = confusion_figures(load(experiment.path))
    assert own.layout["yaxis"]["ticktext"] == [f"c{index}" for index in range(30, 60)]
    assert "The 30 rarest classes are left out" in own.caption
    assert "texttemplate" not in own.traces[0]
    assert len(own.tables["confusion"]) == size**2
