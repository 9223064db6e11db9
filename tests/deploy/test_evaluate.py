"""From a trained job to its scores and its post-processing, in Python and on the command line."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from sklearn.metrics import accuracy_score, jaccard_score
from tiny_job import make_job

from kdsweep import api
from kdsweep.deploy.choosing import choose_student
from kdsweep.deploy.evaluation import evaluate_student
from kdsweep.deploy.evaluation_display import show_evaluation, show_search
from kdsweep.deploy.search import read_choice, search_postprocessing
from kdsweep.deploy.steps import parse_steps
from kdsweep.deploy.trained_student import TrainedStudent, open_student, open_teacher
from kdsweep.deploy.tta import FramePredictor, Views
from kdsweep.errors import ConfigError, ExperimentError, KdsweepError
from kdsweep.ledger import Experiment, Ledger, TrialFolder
from kdsweep.ledger.events import EpochEvent, TrialEvent
from kdsweep.trial import run_job


@pytest.fixture(scope="module")
def trained(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrialFolder:
    """A job of two epochs, with a test split; its checkpoints stay."""
    home = tmp_path_factory.mktemp("trained")
    job = make_job(tiny_data, home)
    data = job.data.model_copy(update={"split": job.data.split.model_copy(update={"test": 0.17})})
    job = job.model_copy(update={"data": data, "train": job.train.model_copy(update={"epochs": 2})})
    folder = TrialFolder(home / "trial")
    assert len(list(run_job(job, folder, device="cpu", num_threads=1))) == 2
    return folder


@pytest.fixture(scope="module")
def student(trained: TrialFolder) -> TrainedStudent:
    return open_student(choose_student(trained.path), device="cpu")


def test_validation_scores_are_those_of_the_training(
    trained: TrialFolder, student: TrainedStudent
) -> None:
    found = evaluate_student(student, num_resamples=200)
    reported = json.loads(trained.confusion.read_text())
    assert found.confusion.tolist() == reported["student"]
    assert found.scores["miou"].value == pytest.approx(student.card.miou, abs=1e-12)
    assert found.scores["miou"].low <= found.scores["miou"].value <= found.scores["miou"].high


def test_scores_are_scikit_learns(student: TrainedStudent) -> None:
    found = evaluate_student(student, "test", num_resamples=20)
    split = student.split("test")
    with torch.inference_mode():
        logits = student.network(torch.from_numpy(np.array(split.images_NHWC))).logits_BKHW
    probabilities = logits.softmax(1).numpy()
    known = split.labels_NHW != 255
    labels, predicted = split.labels_NHW[known], probabilities.argmax(1)[known]
    ious = jaccard_score(labels, predicted, average=None, labels=[0, 1, 2])
    assert found.scores["miou"].value == pytest.approx(ious.mean())
    assert found.scores["iou/green"].value == pytest.approx(ious[1])
    assert found.scores["pixel_accuracy"].value == pytest.approx(accuracy_score(labels, predicted))
    sure = probabilities.max(1)[known]
    bins = np.ceil(sure * 15)
    gaps = [
        (bins == b).sum() * abs(sure[bins == b].mean() - (labels == predicted)[bins == b].mean())
        for b in np.unique(bins)
    ]
    assert found.scores["ece"].value == pytest.approx(sum(gaps) / len(sure), abs=1e-5)


def test_both_definitions_of_miou_are_told_where_they_differ(student: TrainedStudent) -> None:
    def text(of: TrainedStudent) -> str:
        console = Console(width=100, record=True, file=io.StringIO())
        found = evaluate_student(of, num_resamples=10)
        assert {"miou", "miou_seen"} <= set(found.to_json()["scores"])
        show_evaluation(found, console)
        return console.export_text()

    assert "mmseg" not in text(student)
    labels = student.data.val.labels_NHW
    known = replace(student.data.val, labels_NHW=np.where(labels == 1, 255, labels))
    blind = replace(student, data=replace(student.data, val=known))
    assert (evaluate_student(blind, num_resamples=2).confusion.sum(1) == 0)[1]
    shown = text(blind)
    assert "over all seen" in shown
    assert "mmseg" in shown
    assert "1 classes have no label" in shown


def test_with_post_processing_both_are_scored_on_the_same_frames(student: TrainedStudent) -> None:
    plain = evaluate_student(student, num_resamples=100)
    found = evaluate_student(student, steps=parse_steps("majority:2"), num_resamples=100)
    assert found.without is not None
    assert found.differences is not None
    assert found.without["miou"].value == pytest.approx(plain.scores["miou"].value, abs=1e-3)
    for name in ("miou", "boundary_f"):
        change = found.scores[name].value - found.without[name].value
        assert found.differences[name].value == pytest.approx(change)
    assert found.facts["ms"] > 0


def test_mirrored_views_do_not_know_left_from_right(student: TrainedStudent) -> None:
    predictor = FramePredictor(student)
    image = np.asarray(student.split("val").images_NHWC[0])
    for views in (Views(flip=True), Views(flip=True, scale=1.5)):
        one, ms = predictor.probabilities(image, views)
        other, _ = predictor.probabilities(image[:, ::-1], views)
        assert np.abs(one - other[:, ::-1]).max() < 1e-4
        assert np.abs(one.sum(2) - 1).max() < 1e-5
        assert ms > 0
    alone, _ = predictor.probabilities(image, Views())
    assert np.abs(alone - one).max() > 1e-3


def test_the_teacher_is_that_of_the_training_and_has_its_weight(
    trained: TrialFolder, student: TrainedStudent
) -> None:
    teacher, about = open_teacher(student)
    assert teacher is not None
    assert "after epoch 2" in about
    image = np.asarray(student.split("val").images_NHWC[0])
    ours, _ = FramePredictor(student).probabilities(image, Views())
    mixed, _ = FramePredictor(student, teacher).probabilities(image, Views(teacher=0.25))
    with torch.inference_mode():
        logits = teacher(torch.from_numpy(image.copy())[None]).logits_BKHW
    theirs = logits.softmax(1)[0].permute(1, 2, 0).numpy()
    assert np.abs(mixed - (0.75 * ours + 0.25 * theirs)).max() < 1e-5
    # The best epoch was the last one: the teacher's matrix is that of the validation too.
    reported = json.loads(trained.confusion.read_text())
    if reported["epoch"] == 2:
        found = evaluate_student(replace(student, network=teacher), num_resamples=10)
        assert found.confusion.tolist() == reported["teacher"]


def test_where_no_teacher_was_kept_it_is_said_and_another_can_be_named(
    trained: TrialFolder, student: TrainedStudent, tmp_path: Path
) -> None:
    lonely = replace(student, folder=TrialFolder(tmp_path / "elsewhere"))
    teacher, about = open_teacher(lonely)
    assert teacher is None
    assert "a sweep keeps its students only" in about
    assert "--teacher" in about
    named, _ = open_teacher(lonely, trained.path)
    assert named is not None
    with pytest.raises(ConfigError, match="no trained network"):
        open_teacher(lonely, tmp_path)
    found = search_postprocessing(lonely, None, about, num_resamples=20)
    assert found.not_tried["teacher"] == about
    assert all("teacher" not in str(step) for one in found.tried for step in one.steps)


def test_a_search_keeps_only_what_pays(student: TrainedStudent) -> None:
    told: list[tuple[int, int]] = []
    found = search_postprocessing(
        student, None, "none here", num_resamples=100, say=lambda *seen: told.append(seen)
    )
    assert told[-1] == (len(found.tried), len(found.tried))
    chosen: tuple = ()
    for stage in dict.fromkeys(one.stage for one in found.tried):
        options = [one for one in found.tried if one.stage == stage]
        assert all(one.builds_on == chosen for one in options)
        paying = [one for one in options if one.added.low > 0]
        best = max(paying, key=lambda one: one.scores["miou"], default=None)
        assert [one for one in options if one.chosen] == ([best] if best else [])
        chosen = best.steps if best else chosen
        for one in options:
            change = one.scores["miou"] - found.baseline["miou"]
            assert one.against_none.value == pytest.approx(change, abs=1e-9)
    assert found.chosen == chosen


def test_a_network_of_one_size_is_not_asked_to_take_another(student: TrainedStudent) -> None:
    class OneSize(torch.nn.Module):
        stride = 1

        def forward(self, images: torch.Tensor) -> object:
            assert images.shape[1:3] == (32, 32)
            return student.network(images)

    rigid = replace(student, network=OneSize())  # type: ignore[arg-type]
    found = search_postprocessing(rigid, None, "none here", num_resamples=10)
    assert "one size only" in found.not_tried["scale"]
    assert [str(step) for one in found.tried if one.stage == "views" for step in one.steps] == [
        "flip"
    ]


def test_the_test_split_is_scored_knowingly(trained: TrialFolder, tmp_path: Path) -> None:
    record = trained.evaluation.test_scorings
    record.unlink(missing_ok=True)
    api.evaluate(trained.path, split="test", out=tmp_path)
    assert json.loads(record.read_text())["times"] == 1
    with pytest.warns(UserWarning, match="scored once before"):
        api.evaluate(trained.path, split="test", postprocess="majority:1", out=tmp_path)
    with pytest.warns(UserWarning, match="scored 2 times before"):
        api.evaluate(trained.path / "best", split="test", out=tmp_path)
    entries = json.loads(record.read_text())["scorings"]
    assert [entry["postprocess"] for entry in entries] == ["none", "majority:1", "none"]
    record.write_text("{")
    with pytest.raises(ExperimentError, match="test-scorings"):
        api.evaluate(trained.path, split="test", out=tmp_path)
    record.unlink()


def test_a_test_score_of_the_training_is_a_look_at_the_test_split(
    trained: TrialFolder, tmp_path: Path
) -> None:
    experiment = Experiment.create(tmp_path, "confirmation")
    shutil.copytree(trained.path, experiment.trial(0).path)
    with Ledger.open(experiment.ledger) as ledger:
        ledger.append(TrialEvent(trial=0, kind="search", label="x", student="x"))
        ledger.append(EpochEvent(trial=0, epoch=1, value=0.1, metrics={"test/miou": 0.125}))
    with pytest.warns(UserWarning, match=r"end of this training \(mIoU 0\.1250\)"):
        api.evaluate(experiment.path, split="test")


def test_on_the_command_line(
    trained: TrialFolder, command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, out, err = command("evaluate", trained.path, "--out", tmp_path / "scores")
    assert code == 0, err
    assert "mIoU" in out
    assert "flatter" in out
    tree = json.loads((tmp_path / "scores" / "student-val.json").read_text())
    with (tmp_path / "scores" / "student-val.csv").open() as file:
        rows = {(row["score"], row["class"]): row for row in csv.DictReader(file)}
    assert float(rows["miou", ""]["value"]) == tree["scores"]["miou"]["value"]
    assert float(rows["iou", "red"]["high"]) == tree["scores"]["iou/red"]["high"]

    code, _, err = command("evaluate", trained.path, "--postprocess", "auto")
    assert code == 2
    assert "kdsweep postprocess" in err
    code, out, err = command("postprocess", trained.path, "--device", "cpu")
    assert code == 0, err
    assert "chains tried" in out
    choice = trained.evaluation.postprocess
    assert choice.is_file()
    assert choice.with_suffix(".csv").is_file()
    card = json.loads((trained.best / "student.json").read_text())
    assert read_choice(choice).epoch == card["epoch"]
    tree = json.loads(choice.read_text()) | {"chosen": "flip,regions:0.001"}
    choice.write_text(json.dumps(tree))
    code, out, err = command("evaluate", trained.path, "--postprocess", "auto", "--json")
    assert code == 0, err
    tree = json.loads(out)
    assert tree["postprocess"] == "flip,regions:0.001"
    assert tree["difference"]["miou"]["low"] <= tree["difference"]["miou"]["high"]
    assert trained.evaluation.scores("val", postprocessed=True).is_file()
    assert "searched" not in err
    choice.write_text(json.dumps(tree | {"chosen": "none", "epoch": 7}))
    code, _, err = command("evaluate", trained.path, "--postprocess", "auto", "--json")
    assert code == 0
    assert "no post-processing that pays" in err
    assert "searched for the weights of epoch 7" in err


def test_of_an_experiment_the_best_trial_is_scored_and_counted_in_it(
    trained: TrialFolder, command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    experiment = Experiment.create(tmp_path / "experiments", "made")
    with Ledger.open(experiment.ledger) as ledger:
        for number, value in enumerate((0.1, 0.9, 0.5)):
            shutil.copytree(trained.path, experiment.trial(number).path)
            ledger.append(TrialEvent(trial=number, kind="search", label="x", student="x"))
            ledger.append(EpochEvent(trial=number, epoch=1, value=value))
    latest = tmp_path / "experiments" / "latest"
    assert command("evaluate", latest, "--split", "test")[0] == 0
    assert (experiment.evaluation / "trial-0001-test.json").is_file()
    code, out, err = command("evaluate", experiment.trial(2).path, "--split", "test")
    assert code == 0
    assert "score it once" in out
    assert "scored once before" in err
    assert "trial-0001" in err
    record = json.loads((experiment.evaluation / "test-scorings.json").read_text())
    assert [one["student"] for one in record["scorings"]] == ["trial-0001", "trial-0002"]
    export = experiment.exports / "0001-torch"
    shutil.copytree(experiment.trial(1).best, export)
    shutil.copy(trained.job_yaml, export)
    code, _, err = command("evaluate", export, "--split", "test")
    assert code == 0
    assert "scored 2 times before" in err
    assert (experiment.evaluation / "export-0001-torch-test.json").is_file()
    code, _, err = command("evaluate", latest, "--trial", 7)
    assert code == 2
    assert "there is no trial 7" in err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--trial", "3"), "--trial"),
        (("--split", "tset"), "allowed: test"),
        (("--postprocess", "flop"), "flip"),
        (("--postprocess", "teacher:0.5", "--teacher", "nowhere"), "no trained network"),
        (("--data", "camvid=nowhere"), "camvid"),
    ],
)
def test_bad_input_is_refused(
    trained: TrialFolder,
    command: Callable[..., tuple[int, str, str]],
    more: tuple[str, ...],
    said: str,
) -> None:
    code, _, err = command("evaluate", trained.path, *more)
    assert code == 2
    assert said in err


def test_a_split_that_the_data_do_not_have_is_refused(student: TrainedStudent) -> None:
    without = replace(student, data=replace(student.data, test=None))
    with pytest.raises(ConfigError, match="no test split"):
        evaluate_student(without, "test")


def test_damaged_weights_are_refused(trained: TrialFolder, tmp_path: Path) -> None:
    copy = TrialFolder(tmp_path / "copy")
    shutil.copytree(trained.best, copy.best)
    shutil.copy(trained.job_yaml, copy.job_yaml)
    (copy.best / "student.safetensors").write_bytes(b"\x80\x04N.")
    with pytest.raises(KdsweepError, match=r"student\.safetensors"):
        api.evaluate(copy.path)


@pytest.mark.parametrize("width", [80, 200])
def test_tables_fit_the_terminal(student: TrainedStudent, width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    steps = parse_steps("flip,scale:1.25,majority:1,regions:0.001")
    show_evaluation(evaluate_student(student, steps=steps, num_resamples=20), console)
    show_search(search_postprocessing(student, None, "none", num_resamples=20), console)
    text = console.export_text()
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    assert "…" not in text
    assert ("mean confidence" in text) == (width == 200)
