"""Jobs with teachers of all kinds, and with all losses, on a tiny data set on disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import load_file
from tiny_job import SMALL, make_job

from kdsweep.config.job import Job
from kdsweep.data import open_data
from kdsweep.errors import ConfigError
from kdsweep.ledger import TrialFolder
from kdsweep.training.report import EpochReport
from kdsweep.trial import build_cohort, check_job, prepare, run_job

pytestmark = pytest.mark.usefixtures("few_timed_runs")


@pytest.fixture
def job(tiny_data: Path, tmp_path: Path) -> Job:
    return make_job(tiny_data, tmp_path)


def timeless(report: EpochReport) -> dict[str, float]:
    """All that depends on nothing but the job: no times."""
    return {
        k: v for k, v in report.metrics.items() if not k.startswith("time/") and "latency" not in k
    }


def taught_by(job: Job, **distill: Any) -> Job:
    return job.model_copy(
        update={"distill": type(job.distill).model_validate({"pixel_kl": {}, **distill})}
    )


@pytest.fixture(scope="module")
def trained_teacher(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The best student of a job without a teacher, of the architecture of ``job``'s teacher."""
    folder = tmp_path_factory.mktemp("teacher")
    own = make_job(
        tiny_data,
        folder,
        teacher=None,
        student={"encoder": "resnet18", "options": SMALL},
        distill={},
    )
    list(run_job(own, TrialFolder(folder / "trial"), device="cpu", num_threads=1))
    return folder / "trial" / "best"


def test_a_checkpoint_teaches(job: Job, trained_teacher: Path, tmp_path: Path) -> None:
    frozen = taught_by(job, teacher="frozen", checkpoint=str(trained_teacher))
    check_job(frozen)
    prepare([frozen])
    card = json.loads((trained_teacher / "student.json").read_text())
    reports = list(run_job(frozen, TrialFolder(tmp_path / "t"), device="cpu", num_threads=1))
    assert len({r.metrics["teacher/miou"] for r in reports}) == 1
    assert reports[0].metrics["teacher/miou"] == pytest.approx(card["miou"])
    assert "teacher/lr" not in reports[0].metrics


def test_a_checkpoint_sees_pixels_as_it_was_trained(
    job: Job, trained_teacher: Path, tmp_path: Path
) -> None:
    mine = shutil.copytree(trained_teacher, tmp_path / "mine")
    card = json.loads((mine / "student.json").read_text())
    (mine / "student.json").write_text(json.dumps({**card, "mean": [0.5] * 3, "std": [0.25] * 3}))
    frozen = taught_by(job, teacher="frozen", checkpoint=str(mine))
    cohort = build_cohort([frozen], open_data(frozen.data), device="cpu")
    assert cohort.engine.teacher is not None
    teacher = cohort.engine.teacher.network
    assert teacher.shift_C11.flatten().tolist() == [127.5] * 3
    assert teacher.scale_C11.flatten().tolist() == pytest.approx([1 / 63.75] * 3)


def test_a_checkpoint_must_be_the_teachers(
    job: Job, trained_teacher: Path, tiny_data: Path, tmp_path: Path
) -> None:
    other = make_job(tiny_data, tmp_path, teacher={"encoder": "resnet34", "options": SMALL})
    with pytest.raises(ConfigError, match=r"its encoder is 'resnet18', the teacher's 'resnet34'"):
        check_job(taught_by(other, checkpoint=str(trained_teacher)))
    with pytest.raises(ConfigError, match=r"has no student.json") as caught:
        check_job(taught_by(job, checkpoint=str(tmp_path)))
    assert caught.value.path == ("distill", "checkpoint")
    renamed = tmp_path / "renamed"
    shutil.copytree(trained_teacher, renamed)
    card = json.loads((renamed / "student.json").read_text())
    (renamed / "student.json").write_text(json.dumps({**card, "classes": ["a", "b", "c"]}))
    with pytest.raises(ConfigError, match=r"knows other classes \(a, b, c\)"):
        check_job(taught_by(job, checkpoint=str(renamed)))
    (renamed / "student.json").write_text(json.dumps(card))
    (renamed / "student.safetensors").write_bytes(b"torn")
    with pytest.raises(ConfigError, match="the weights of this checkpoint cannot be used"):
        next(
            run_job(
                taught_by(job, checkpoint=str(renamed)),
                TrialFolder(tmp_path / "t"),
                device="cpu",
                num_threads=1,
            )
        )


@pytest.fixture(scope="module")
def saved_models(trained_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same teacher as segmentation-models-pytorch saves it, and as torch does."""
    folder = tmp_path_factory.mktemp("saved")
    model = smp.Unet("resnet18", encoder_weights=None, classes=3, **SMALL)
    weights = load_file(trained_teacher / "student.safetensors")
    model.load_state_dict({k.removeprefix("model."): t for k, t in weights.items()}, strict=False)
    model.save_pretrained(folder / "model")
    torch.save({"state_dict": model.state_dict()}, folder / "model.pth")
    return [folder / "model", folder / "model.pth"]


@pytest.mark.parametrize("which", [0, 1], ids=["folder", "file"])
def test_a_model_from_elsewhere_teaches(
    which: int, job: Job, trained_teacher: Path, saved_models: list[Path], tmp_path: Path
) -> None:
    frozen = taught_by(job, teacher="frozen", checkpoint=str(saved_models[which]))
    check_job(frozen)
    prepare([frozen])
    card = json.loads((trained_teacher / "student.json").read_text())
    first = next(run_job(frozen, TrialFolder(tmp_path / "t"), device="cpu", num_threads=1))
    # What it is worth stands in the first report: a frozen teacher is scored as it came.
    assert first.metrics["teacher/miou"] == pytest.approx(card["miou"])


def test_a_model_from_elsewhere_must_be_the_teachers(
    job: Job, saved_models: list[Path], tiny_data: Path, tmp_path: Path
) -> None:
    folder, file = map(str, saved_models)

    def refusal(checkpoint: str, teacher: dict[str, Any]) -> str:
        other = make_job(tiny_data, tmp_path, teacher=teacher)
        with pytest.raises(ConfigError) as caught:
            prepare([taught_by(other, teacher="frozen", checkpoint=checkpoint)])
        assert caught.value.path == ("distill", "checkpoint")
        return str(caught.value)

    def unet(encoder: str = "resnet18", **options: Any) -> dict[str, Any]:
        return {"encoder": encoder, "options": SMALL | options}

    assert "its encoder_name is 'resnet18', the teacher's 'resnet34'" in refusal(
        folder, unet("resnet34")
    )
    assert "its decoder_interpolation is 'nearest', the teacher's 'bilinear'" in refusal(
        folder, unet(decoder_interpolation="bilinear")
    )
    assert "its _model_class is 'Unet', the teacher's 'Linknet'" in refusal(
        folder, {"arch": "linknet", "encoder": "resnet18", "options": {"encoder_depth": 3}}
    )
    assert "do not fit network resnet34" in refusal(file, unet("resnet34"))
    model = smp.Unet("resnet18", encoder_weights=None, classes=5, **SMALL)
    model.save_pretrained(tmp_path / "five")
    assert "its classes is 5, the teacher's 3" in refusal(str(tmp_path / "five"), unet())
    said = refusal(str(tmp_path / "five" / "model.safetensors"), unet())
    assert "segmentation_head.0.weight 5×8×3×3 instead of 3×8×3×3" in said
    (tmp_path / "five" / "config.json").write_text("{")
    assert "config.json of this model cannot be read" in refusal(str(tmp_path / "five"), unet())
    assert "no such file" in refusal(str(tmp_path / "gone.pth"), unet())


def test_a_head_start_goes_on_where_it_was_cut(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = taught_by(job, head_start_epochs=2)
    expected = list(run_job(ahead, TrialFolder(tmp_path / "whole"), device="cpu", num_threads=1))
    folder = TrialFolder(tmp_path / "cut")
    with monkeypatch.context() as patched:
        patched.setattr("kdsweep.trial.running._head_start_line", interrupt)
        with pytest.raises(KeyboardInterrupt):
            next(run_job(ahead, folder, device="cpu", num_threads=1))
    assert [path.name for path in folder.checkpoint.iterdir()] == ["epoch-0000"]
    again = list(run_job(ahead, folder, device="cpu", num_threads=1))
    assert [timeless(report) for report in again] == [timeless(r) for r in expected]
    assert again[0].metrics["time/head_start_s"] > 0


def interrupt(*_: object) -> str:
    raise KeyboardInterrupt


def test_jobs_of_a_cohort_agree_on_the_kind_of_teacher(job: Job, tiny_data: Path) -> None:
    from kdsweep.data import open_data

    with pytest.raises(ConfigError, match="must agree"):
        build_cohort([job, taught_by(job, head_start_epochs=1)], open_data(job.data))
    mutual = taught_by(job, mutual={})
    with pytest.raises(ConfigError, match="one student only"):
        build_cohort([job, mutual], open_data(job.data))
    build_cohort([mutual, job.as_control()], open_data(job.data)).close()


def test_dkd_needs_three_classes(job: Job, tiny_data: Path, tmp_path: Path) -> None:
    """Known before the frames are looked at, where the classes are listed."""
    two = tmp_path / "two"
    shutil.copytree(tiny_data, two)
    (two / "classes.yaml").write_text("names: [road, rest]\n")
    bad = taught_by(job, dkd={}).model_copy(
        update={"data": job.data.model_copy(update={"path": str(two)})}
    )
    with pytest.raises(ConfigError, match=r"dkd needs 3 classes.*2 \(road, rest\)") as caught:
        check_job(bad)
    assert caught.value.path == ("distill", "dkd")
    check_job(taught_by(job, dkd={}))


def test_a_lopsided_term_is_said_once(
    job: Job, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weak = taught_by(job, pixel_kl={"weight": 1e-6}, hint={"weight": 1e4, "taps": ["encoder.2"]})
    with caplog.at_level("WARNING", logger="kdsweep"):
        training = run_job(weak, TrialFolder(tmp_path / "t"), device="cpu", num_threads=1)
        next(training)
        training.close()
        list(run_job(weak, TrialFolder(tmp_path / "t"), device="cpu", num_threads=1))
    said = [record.message for record in caplog.records]
    assert len(said) == 2
    assert any("pixel_kl is negligible" in text and "larger" in text for text in said)
    assert any("hint is dominant" in text and "smaller" in text for text in said)


def test_all_losses_work_together(job: Job, tmp_path: Path) -> None:
    from kdsweep.distill import LOSSES

    taps = {"taps": ["encoder.1", "encoder.2"]}
    at_features = ("hint", "attention", "pairwise", "ifvd", "cross_image", "correlation", "masked")
    every: dict[str, Any] = {name: {} for name in LOSSES.names()}
    every |= dict.fromkeys((*at_features, "review"), taps)
    (report, *_) = run_job(
        taught_by(job, **every), TrialFolder(tmp_path / "t"), device="cpu", num_threads=1
    )
    for name in every:
        assert np.isfinite(report.metrics[f"student/distill/{name}"])
        assert report.metrics[f"student/grad_share/{name}"] > 0
