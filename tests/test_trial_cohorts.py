"""Several jobs in one cohort, each in its own folder, on a tiny data set on disk."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_job import make_job

from kdsweep.config.job import Job
from kdsweep.errors import CheckpointError, NonFiniteLossError, StepError
from kdsweep.ledger import TrialFolder
from kdsweep.training.report import EpochReport
from kdsweep.trial import Cohort, build_cohort, run_job, run_jobs

pytestmark = pytest.mark.usefixtures("few_timed_runs")

OPTIONS = {"device": "cpu", "num_threads": 1}


@pytest.fixture
def job(tiny_data: Path, tmp_path: Path) -> Job:
    return make_job(tiny_data, tmp_path)


def timeless(report: EpochReport) -> dict[str, float]:
    """All that depends on nothing but the job: no times."""
    return {
        k: v for k, v in report.metrics.items() if not k.startswith("time/") and "latency" not in k
    }


def with_student_lr(job: Job, lr: float) -> Job:
    student = job.train.student.model_copy(update={"lr": lr})
    return job.model_copy(update={"train": job.train.model_copy(update={"student": student})})


def folders(root: Path, jobs: list[Job]) -> list[TrialFolder]:
    return [TrialFolder(root / f"{number:04d}") for number in range(len(jobs))]


def losses(outcomes: list[dict], place: int) -> list[dict[str, float]]:
    return [timeless(found[place]) for found in outcomes if place in found]


def test_each_student_gets_what_it_would_get_alone(job: Job, tmp_path: Path) -> None:
    jobs = [job, job.as_control()]
    whole = list(run_jobs(jobs, folders(tmp_path / "whole", jobs), score_test=True, **OPTIONS))
    cut = run_jobs(jobs, folders(tmp_path / "cut", jobs), score_test=True, **OPTIONS)
    next(cut)
    cut.close()
    again = list(run_jobs(jobs, folders(tmp_path / "cut", jobs), score_test=True, **OPTIONS))
    assert [losses(again, place) for place in (0, 1)] == [losses(whole, p) for p in (0, 1)]
    alone = run_job(job.as_control(), TrialFolder(tmp_path / "alone"), **OPTIONS)
    for found, expected in zip(whole, alone, strict=True):
        assert found[1].metrics["student/loss"] == expected.metrics["student/loss"]
    for place, where in enumerate(folders(tmp_path / "cut", jobs)):
        card = json.loads((where.best / "student.json").read_text())
        assert card["miou"] == max(r[place].metrics["student/miou"] for r in whole)
        assert where.samples.exists()
        assert sorted(p.name for p in where.checkpoint.iterdir()) == ["epoch-0002", "epoch-0003"]
    assert not any("test/miou" in report.metrics for report in whole[-1].values())  # no test split


def test_students_leave_and_the_others_never_notice(job: Job, tmp_path: Path) -> None:
    jobs = [job, with_student_lr(job, 1e-2), job.as_control()]
    where = folders(tmp_path / "cohort", jobs)
    verdicts = iter([{0}, {1}, {2}])
    outcomes = list(run_jobs(jobs, where, leaving=lambda: next(verdicts), **OPTIONS))
    assert [list(found) for found in outcomes] == [[0, 1, 2], [1, 2], [2]]
    for place, own in enumerate(jobs):
        alone = run_job(own, TrialFolder(tmp_path / f"alone-{place}"), **OPTIONS)
        expected = [timeless(report) for report, _ in zip(alone, range(place + 1), strict=False)]
        for mine, theirs in zip(losses(outcomes, place), expected, strict=True):
            assert {k: mine[k] for k in theirs} == theirs


def test_what_is_left_of_a_cohort_goes_on_from_its_checkpoint(job: Job, tmp_path: Path) -> None:
    jobs = [job, with_student_lr(job, 1e-2), job.as_control()]
    whole = list(run_jobs(jobs, folders(tmp_path / "whole", jobs), **OPTIONS))
    where = folders(tmp_path / "cut", jobs)
    cut = run_jobs(jobs, where, **OPTIONS)
    next(cut), next(cut)
    cut.close()
    # The first one, in whose folder the shared part lies, has ended meanwhile.
    shutil.rmtree(where[0].checkpoint)
    verdicts = iter([{1}, (), ()])
    rest = run_jobs(
        jobs[1:], where[1:], cohort_dir=where[0], leaving=lambda: next(verdicts), **OPTIONS
    )
    outcomes = list(rest)
    assert [list(found) for found in outcomes] == [[0, 1], [0]]
    assert losses(outcomes, 0) == losses(whole, 1)[1:]
    assert losses(outcomes[:1], 1) == losses(whole, 2)[1:2]


def test_a_student_that_diverges_leaves_alone(
    job: Job, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [with_student_lr(job, 1e30), job]
    where = folders(tmp_path / "cohort", jobs)
    with caplog.at_level(logging.INFO, "kdsweep"):
        outcomes = list(run_jobs(jobs, where, **OPTIONS))
    first = outcomes[0][0]
    assert isinstance(first, NonFiniteLossError)
    assert "smaller train.lr" in str(first)
    assert [list(found) for found in outcomes] == [[0, 1], [1], [1]]
    alone = list(run_job(job, TrialFolder(tmp_path / "alone"), **OPTIONS))
    assert losses(outcomes, 1) == [timeless(report) for report in alone]
    assert any("0000  leaves: the student's loss" in line for line in caplog.messages)
    # Where the cohort's log is, and what concerns this student.
    own = where[1].log.read_text()
    assert "../0000/log.txt" in own
    assert own.count("student mIoU") == 3
    assert "leaves" not in own


def test_a_student_that_diverged_costs_the_others_nothing_when_they_go_on(
    job: Job, tmp_path: Path
) -> None:
    jobs = [with_student_lr(job, 1e30), job, job.as_control()]
    where = folders(tmp_path, jobs)
    cut = run_jobs(jobs, where, **OPTIONS)
    first = next(cut)
    cut.close()
    # The driver was killed before it had written that one's line, when the others had ended.
    with pytest.raises(NonFiniteLossError, match="student's loss"):
        next(run_jobs(jobs[:1], where[:1], cohort_dir=where[0], **OPTIONS))
    # Or before it had written any line of the first epoch.
    resumed = run_jobs(jobs, where, **OPTIONS)
    again, second = next(resumed), next(resumed)
    resumed.close()
    assert str(again[0]) == str(first[0])
    assert [losses([again], place) for place in (1, 2)] == [losses([first], p) for p in (1, 2)]
    assert list(second) == [1, 2]


@pytest.fixture
def break_loss(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Exception], None]:
    """Gives the loss of one student of the next cohort a bug that shows in the second epoch."""

    def put(place: int, error: Exception) -> None:
        def build(*args: Any, **options: Any) -> Cohort:
            cohort = build_cohort(*args, **options)
            objective = cohort.engine.students[place].objective
            assert objective is not None
            loss = objective.terms["pixel_kl"]
            whole, num_batches = loss.forward, len(cohort.loader)
            calls = iter(range(num_batches))

            def broken(*tensors: Any) -> torch.Tensor:
                if next(calls, None) is None:
                    raise error
                return whole(*tensors)

            monkeypatch.setattr(loss, "forward", broken)
            return cohort

        monkeypatch.setattr("kdsweep.trial.running.build_cohort", build)

    return put


def test_a_bug_in_the_loss_of_one_student_costs_the_others_nothing(
    job: Job,
    tmp_path: Path,
    break_loss: Callable[[int, Exception], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    jobs = [job, with_student_lr(job, 1e-2), job.as_control()]
    whole = list(run_jobs(jobs, folders(tmp_path / "whole", jobs), **OPTIONS))
    break_loss(0, ValueError("sizes do not fit"))
    with caplog.at_level(logging.INFO, "kdsweep"):
        outcomes = list(run_jobs(jobs, folders(tmp_path / "broken", jobs), **OPTIONS))
    assert [list(found) for found in outcomes] == [[0, 1, 2], [0, 1, 2], [1, 2]]
    error = outcomes[1][0]
    assert isinstance(error, StepError)
    assert str(error) == "ValueError: sizes do not fit"
    assert "raise error" in error.traceback
    for place in (1, 2):
        assert losses(outcomes, place) == losses(whole, place)
    assert any("0000  leaves: ValueError: sizes do not fit" in line for line in caplog.messages)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("full"), RuntimeError("CUDA error: an illegal access")]
)
def test_what_concerns_all_ends_a_cohort(
    job: Job, tmp_path: Path, break_loss: Callable[[int, Exception], None], error: Exception
) -> None:
    jobs = [job, job.as_control()]
    break_loss(0, error)
    with pytest.raises(type(error), match=str(error)):
        list(run_jobs(jobs, folders(tmp_path, jobs), **OPTIONS))


def test_a_cohort_of_students_that_all_diverge_has_failed(job: Job, tmp_path: Path) -> None:
    jobs = [with_student_lr(job, 1e30), with_student_lr(job, 1e31)]
    with pytest.raises(NonFiniteLossError, match="student's loss"):
        list(run_jobs(jobs, folders(tmp_path, jobs), **OPTIONS))


@pytest.mark.parametrize("damaged", ["shared", "student"])
def test_an_epoch_counts_only_with_all_its_parts(job: Job, tmp_path: Path, damaged: str) -> None:
    jobs = [job, job.as_control()]
    where = folders(tmp_path, jobs)
    training = run_jobs(jobs, where, **OPTIONS)
    next(training), next(training)
    training.close()
    part = where[0].cohort if damaged == "shared" else where[1].checkpoint
    (part / "epoch-0002" / "tensors.safetensors").write_bytes(b"torn")
    resumed = run_jobs(jobs, where, **OPTIONS)
    assert {report.epoch for report in next(resumed).values()} == {1}
    assert {report.epoch for report in next(resumed).values()} == {2}
    resumed.close()
    (part / "epoch-0001" / "state.json").unlink()
    (part / "epoch-0002" / "state.json").unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        next(run_jobs(jobs, where, **OPTIONS))


def test_the_best_student_is_scored_on_the_test_split_after_the_last_epoch(
    tiny_data: Path, tmp_path: Path
) -> None:
    from kdsweep.data import open_data

    job = make_job(tiny_data, tmp_path)
    split = {"val": 0.34, "test": 0.34, "block": 2}
    data = job.data.model_validate({**job.data.model_dump(), "split": split})
    job = job.model_copy(update={"data": data})
    folder = TrialFolder(tmp_path / "trial")
    *early, last = run_jobs([job], [folder], score_test=True, **OPTIONS)
    assert not any("test/miou" in found[0].metrics for found in early)
    cohort = build_cohort([job], open_data(job.data))
    network = cohort.engine.students[0].network
    network.load_state_dict(load_file(folder.best / "student.safetensors"))
    assert cohort.data.test is not None
    assert last[0].metrics["test/miou"] == cohort.score_test(network).miou
    cohort.close()
