"""One job from its config to a trained student, on a tiny data set on disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_job import SMALL, make_job

from kdsweep.config import load_job
from kdsweep.config.job import Job
from kdsweep.config.model import PixelsConfig
from kdsweep.errors import CheckpointError, ConfigError, DataError
from kdsweep.ledger import TrialFolder
from kdsweep.models import build_network
from kdsweep.models.inference_cost import measure_inference
from kdsweep.training.report import EpochReport
from kdsweep.trial import build_cohort, check_job, fingerprint, prepare, prepare_one, run_job
from kdsweep.trial.inference import measure_costs

pytestmark = pytest.mark.usefixtures("few_timed_runs")


@pytest.fixture
def job(tiny_data: Path, tmp_path: Path) -> Job:
    return make_job(tiny_data, tmp_path)


def timeless(report: EpochReport) -> dict[str, float]:
    """All that depends on nothing but the job: no times."""
    return {
        k: v for k, v in report.metrics.items() if not k.startswith("time/") and "latency" not in k
    }


def label_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_a_job_leaves_a_student_that_can_be_used(job: Job, tmp_path: Path) -> None:
    check_job(job)
    facts = prepare([job])
    assert facts["classes"] == ["red", "green", "blue"]
    assert (facts["source"], facts["embedded"]) == ("folder", False)
    folder = TrialFolder(tmp_path / "trial")
    reports = list(run_job(job, folder, device="cpu", num_threads=1))
    assert [report.epoch for report in reports] == [1, 2, 3]
    assert reports[-1].metrics["student/loss"] < reports[0].metrics["student/loss"]

    assert load_job(folder.job_yaml) == job
    card = json.loads((folder.best / "student.json").read_text())
    best = max(reports, key=lambda report: report.metrics["student/miou"])
    assert card["epoch"] == best.epoch
    assert card["miou"] == pytest.approx(best.metrics["student/miou"])
    assert card["mean"] == pytest.approx([0.485, 0.456, 0.406])
    network = build_network("unet", "mobilenet_v2", 3, options=SMALL)
    network.load_state_dict(load_file(folder.best / "student.safetensors"))
    sheet = cv2.imread(str(folder.samples))
    assert sheet.shape[0] > 4 * 32
    assert sheet.shape[1] == 5 * 32 + 4 * 4
    pictures = folder.frame_pictures()
    assert len(pictures) == 4
    for files in pictures.values():
        assert files.keys() == {"image", "truth", "student", "teacher"}
        assert np.asarray(Image.open(files["image"])).shape == (32, 32, 3)
        for what in ("truth", "student", "teacher"):
            labels = np.asarray(Image.open(files[what]))
            assert labels.shape == (32, 32)
            assert set(np.unique(labels)) <= {0, 1, 2, 255}
            assert (labels == 255).any() == (what == "truth")
    assert sorted(p.name for p in folder.checkpoint.iterdir()) == ["epoch-0002", "epoch-0003"]


@pytest.mark.parametrize(("select", "kept"), [("best", 1), ("last", 3)])
def test_the_epoch_that_is_selected_is_the_one_that_is_kept(
    tiny_data: Path, tmp_path: Path, select: str, kept: int
) -> None:
    """Judged by its size, which is the same in all epochs: the earliest is the best."""
    train = {"epochs": 3, "batch_size": 4, "lr": 3e-3, "select": select}
    job = make_job(tiny_data, tmp_path, train=train)
    folder = TrialFolder(tmp_path / "trial")
    metric = "student/params_m"
    reports = list(
        run_job(job, folder, device="cpu", num_threads=1, metric=metric, keep_checkpoints=1)
    )
    assert len({report.metrics[metric] for report in reports}) == 1
    card = json.loads((folder.best / "student.json").read_text())
    assert card["epoch"] == json.loads(folder.confusion.read_text())["epoch"] == kept
    assert card["miou"] == pytest.approx(reports[kept - 1].metrics["student/miou"])


def test_a_student_leaves_what_it_costs_and_what_it_confuses(job: Job, tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path / "trial")
    reports = list(run_job(job, folder, device="cpu", num_threads=1))
    kept = json.loads(folder.inference.read_text())
    network = build_network("unet", "mobilenet_v2", 3, options=SMALL)
    alone = measure_inference(network.to(memory_format=torch.channels_last), (32, 32))
    for report in reports:
        for key in ("macs_g", "latency_ms", "latency_p95_ms", "inference_mb"):
            assert report.metrics[f"student/{key}"] == kept["student"][key] > 0
        assert report.metrics["student/macs_g"] == alone.macs_g
        assert report.metrics["student/inference_mb"] == pytest.approx(alone.inference_mb, rel=1e-3)
        assert report.metrics["teacher/macs_g"] == kept["teacher"]["macs_g"]
        assert report.metrics["teacher/latency_ms"] == kept["teacher"]["latency_ms"]
    assert kept["student"]["model"]["encoder"] == "mobilenet_v2"
    assert (kept["student"]["precision"], kept["student"]["num_threads"]) == ("float32", 1)
    assert kept["student"]["image_size"] == [32, 32]

    best = max(reports, key=lambda report: report.metrics["student/miou"])
    confusion = json.loads(folder.confusion.read_text())
    assert (confusion["epoch"], confusion["classes"]) == (best.epoch, ["red", "green", "blue"])
    labelled = sum(
        (label_of(files["truth"]) != 255).sum() for files in folder.frame_pictures().values()
    )
    for role in ("student", "teacher"):
        counts = np.array(confusion[role], np.int64)
        assert counts.sum() == labelled  # all validation frames are among the pictures
        hits = counts.diagonal()
        ious = hits / (counts.sum(0) + counts.sum(1) - hits)
        assert best.classes[role] == pytest.approx(ious.tolist())
        assert best.metrics[f"{role}/miou"] == pytest.approx(ious.mean())
        by_hand = np.zeros((3, 3), np.int64)
        for files in folder.frame_pictures().values():
            truth, predicted = label_of(files["truth"]), label_of(files[role])
            np.add.at(by_hand, (truth[truth != 255], predicted[truth != 255]), 1)
        assert counts.tolist() == by_hand.tolist()


def test_costs_are_measured_once_as_long_as_nothing_changes(job: Job, tmp_path: Path) -> None:
    from kdsweep.data import open_data

    folder = TrialFolder(tmp_path / "trial").create()
    cohort = build_cohort([job], open_data(job.data))
    measure_costs(cohort, [job], [folder])
    (student,) = cohort.engine.students
    kept = json.loads(folder.inference.read_text())
    kept["student"]["latency_ms"] = 1234.5
    folder.inference.write_text(json.dumps(kept))
    measure_costs(cohort, [job], [folder])
    assert student.costs["latency_ms"] == 1234.5
    for changed in ({"num_threads": 99}, {"device": "another"}, {"precision": "bfloat16"}):
        kept["student"] |= changed
        folder.inference.write_text(json.dumps(kept))
        measure_costs(cohort, [job], [folder])
        assert student.costs["latency_ms"] < 1000
    folder.inference.write_text("torn {")
    measure_costs(cohort, [job], [folder])
    assert json.loads(folder.inference.read_text())["student"].keys() == kept["student"].keys()
    cohort.close()


def test_a_job_ended_after_any_epoch_goes_on_as_if_nothing_had_happened(
    job: Job, tmp_path: Path
) -> None:
    expected = list(run_job(job, TrialFolder(tmp_path / "whole"), device="cpu", num_threads=1))
    folder = TrialFolder(tmp_path / "cut")
    first = run_job(job, folder, device="cpu", num_threads=1)
    next(first)
    first.close()
    second = run_job(job, folder, device="cpu", num_threads=1)
    again = next(second)  # the stored report of epoch 1
    assert again.to_json() == EpochReport.from_json(again.to_json()).to_json()
    assert timeless(again) == timeless(expected[0])
    assert timeless(next(second)) == timeless(expected[1])
    second.close()
    rest = list(run_job(job, folder, device="cpu", num_threads=1))
    assert [timeless(report) for report in rest] == [timeless(r) for r in expected[1:]]
    (only,) = run_job(job, folder, device="cpu", num_threads=1)
    assert timeless(only) == timeless(expected[2])
    whole = load_file(tmp_path / "whole" / "best" / "student.safetensors")
    cut = load_file(tmp_path / "cut" / "best" / "student.safetensors")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(job: Job, tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path / "trial")
    training = run_job(job, folder, device="cpu", num_threads=1)
    next(training), next(training)
    training.close()
    (folder.checkpoint / "epoch-0002" / "tensors.safetensors").write_bytes(b"torn")
    resumed = run_job(job, folder, device="cpu", num_threads=1)
    assert next(resumed).epoch == 1
    assert next(resumed).epoch == 2
    resumed.close()


def test_only_what_another_epoch_needs_is_kept(job: Job, tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path / "trial")
    list(run_job(job, folder, device="cpu", num_threads=1))

    def size(part: Path, epoch: int) -> int:
        return (part / f"epoch-{epoch:04d}" / "tensors.safetensors").stat().st_size

    weights = (folder.best / "student.safetensors").stat().st_size
    assert size(folder.checkpoint, 2) > 2.9 * weights  # and two moments of each weight
    assert size(folder.checkpoint, 3) < 100
    # The teacher's weights stay: post-processing can use them.
    assert 2.9 < size(folder.cohort, 2) / size(folder.cohort, 3) < 3.1


def test_checkpoints_of_another_job_are_refused(job: Job, tiny_data: Path, tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path / "trial")
    training = run_job(job, folder, device="cpu", num_threads=1)
    next(training)
    training.close()
    other = make_job(tiny_data, tmp_path, train={"epochs": 3, "batch_size": 4, "lr": 1e-3})
    with pytest.raises(CheckpointError, match="another job"):
        next(run_job(other, folder, device="cpu", num_threads=1))
    smaller = make_job(
        tiny_data, tmp_path, train={"epochs": 3, "batch_size": 2, "accumulate": 2, "lr": 3e-3}
    )
    native = job.model_copy(
        update={"train": job.train.model_copy(update={"validate_at": "native"})}
    )
    assert fingerprint(native) != fingerprint(job)
    assert fingerprint(smaller) == fingerprint(job)  # how a trial out of memory goes on


def test_checkpoints_of_before_keys_came_are_of_the_same_job(job: Job) -> None:
    first = "f75d9f8ea1afb3293fe28825d4242a47b0923412e773901a34fb9de40f58e3b4"
    assert fingerprint(job) == first
    grey = PixelsConfig(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    other = job.student.model_copy(update={"encoder_pixels": grey})
    assert fingerprint(job.model_copy(update={"student": other})) != first


def test_data_that_nothing_new_should_be_trained_on(tiny_data: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(tiny_data, tmp_path / "mine")
    (mine / "classes.yaml").write_text("names: [red, green, blue, grey]\n")
    job = make_job(mine, tmp_path)
    folder = TrialFolder(tmp_path / "trial")
    with pytest.raises(DataError, match=r"no labelled pixel .*: grey"):
        prepare_one(job, folder)
    accepted = job.model_copy(
        update={"data": job.data.model_copy(update={"accept": ("empty_class",)})}
    )
    assert any("grey" in text for text in prepare_one(accepted, folder)["caveats"])
    # A training that has begun goes on, and is told.
    folder.checkpoint.mkdir(parents=True)
    assert "grey" in prepare_one(job, folder)["remarks"][-1]


def test_a_control_is_the_zero_weight_student(job: Job, tiny_data: Path, tmp_path: Path) -> None:
    zero = make_job(tiny_data, tmp_path, distill={"pixel_kl": {"weight": 0.0}})
    first = list(
        run_job(job.as_control(), TrialFolder(tmp_path / "a"), device="cpu", num_threads=1)
    )
    second = list(run_job(zero, TrialFolder(tmp_path / "b"), device="cpu", num_threads=1))
    for control, weightless in zip(first, second, strict=True):
        for key in ("student/loss", "student/miou", "student/seed_compat_iou"):
            assert control.metrics[key] == weightless.metrics[key]
        assert "teacher" not in control.classes
        assert not any(key.startswith("teacher/") for key in control.metrics)


def test_jobs_that_share_a_teacher_train_in_one_cohort_as_they_would_alone(
    job: Job, tiny_data: Path, tmp_path: Path
) -> None:
    from kdsweep.data import open_data

    jobs = [
        job,
        make_job(tiny_data, tmp_path, student={"encoder": "resnet18", "options": SMALL}),
        job.as_control(),
    ]
    cohort = build_cohort(jobs, open_data(job.data))
    folders = [TrialFolder(tmp_path / f"together-{index}").create() for index in range(3)]
    measure_costs(cohort, jobs, folders)
    together = list(zip(*cohort.engine.epochs(), strict=True))
    cohort.close()
    for index, own in enumerate(jobs):
        alone = run_job(own, TrialFolder(tmp_path / str(index)), device="cpu", num_threads=1)
        for mine, theirs in zip(together[index], alone, strict=True):
            own_keys = [k for k in timeless(theirs) if k.startswith("student/")]
            assert {k: mine.metrics[k] for k in own_keys} == {
                k: theirs.metrics[k] for k in own_keys
            }


def test_a_cohort_must_agree(job: Job, tiny_data: Path, tmp_path: Path) -> None:
    from kdsweep.data import open_data

    other = make_job(tiny_data, tmp_path, teacher={"encoder": "mobilenet_v2", "options": SMALL})
    with pytest.raises(ConfigError, match="must agree"):
        build_cohort([job, other], open_data(job.data))


@pytest.mark.parametrize(
    ("changes", "path", "part"),
    [
        ({"student": {"encoder": "resnet81"}}, ("student", "encoder"), "resnet18"),
        ({"teacher": {"arch": "unett"}}, ("teacher", "arch"), "unet"),
        (
            {"distill": {"hint": {"taps": ["encoder.7"]}}},
            ("distill", "hint", "taps", 0),
            "the teacher has no such tap",
        ),
        (
            {"student": {"arch": "fpn", "encoder": "resnet18"}, "size": [48, 64]},
            ("data", "image_size"),
            "image_size: [64, 64]",
        ),
        (
            {"student": {"arch": "deeplabv3"}, "train": {"epochs": 1, "batch_size": 1}},
            ("data", "image_size"),
            "batches of 1 images",
        ),
    ],
)
def test_what_does_not_fit_is_said_before_anything_starts(
    tiny_data: Path, tmp_path: Path, changes: dict[str, Any], path: tuple, part: str
) -> None:
    size = changes.pop("size", None)
    bad = make_job(tiny_data, tmp_path, **changes)
    if size:
        bad = bad.model_copy(
            update={"data": bad.data.model_copy(update={"image_size": tuple(size)})}
        )
    with pytest.raises(ConfigError) as caught:
        check_job(bad)
    assert caught.value.path == path
    assert part in str(caught.value)


def test_class_weights_must_match_the_classes(tiny_data: Path, tmp_path: Path) -> None:
    train = {"epochs": 1, "supervised": {"ce": {}, "class_weights": [1.0, 2.0]}}
    with pytest.raises(ConfigError, match="2 class weights for 3 classes") as caught:
        prepare([make_job(tiny_data, tmp_path, train=train)])
    assert "red, green, blue" in str(caught.value)


def test_all_supervised_losses_and_options_train_together(tiny_data: Path, tmp_path: Path) -> None:
    train = {
        "epochs": 1,
        "batch_size": 2,
        "accumulate": 2,
        "optimizer": "sgd",
        "schedule": "cyclic",
        "warmup_epochs": 0.5,
        "precision": "bf16",
        "supervised": {"ce": {}, "dice": {}, "focal": {}, "class_weights": "inverse_log"},
        "student": {"lr": 1e-2, "optimizer": "adam"},
    }
    job = make_job(tiny_data, tmp_path, train=train)
    (report,) = run_job(job, TrialFolder(tmp_path / "t"), device="cpu", num_threads=1)
    assert np.isfinite(list(report.metrics.values())).all()
    assert report.metrics["student/lr"] > report.metrics["teacher/lr"]
