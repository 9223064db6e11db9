"""Which networks of a cohort are measured, in which order and for how long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_job import make_job

from kdsweep.data import open_data
from kdsweep.ledger import TrialFolder
from kdsweep.models.inference_cost import InferenceCost
from kdsweep.trial import build_cohort, inference


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, float]]:
    """Networks that are measured, and the share of the usual time for each."""
    found: list[tuple[Any, float]] = []

    def measure(network: Any, size: Any, *, share: float = 1.0, **_: Any) -> InferenceCost:
        found.append((network, share))
        return InferenceCost(1.0, float(len(found)), 2.0, 3.0, 6, "CPU", 1)

    monkeypatch.setattr(inference, "measure_inference", measure)
    return found


def test_the_teacher_is_measured_last_and_for_less_time(
    tiny_data: Path, tmp_path: Path, measured: list[tuple[Any, float]]
) -> None:
    job = make_job(tiny_data, tmp_path)
    cohort = build_cohort([job], open_data(job.data), device="cpu")
    engine = cohort.engine
    assert engine.teacher is not None
    folder = TrialFolder(tmp_path / "trial").create()
    inference.measure_costs(cohort, [job], [folder])
    cohort.close()
    student, teacher = engine.students[0].network, engine.teacher.network
    assert [network for network, _ in measured] == [student, teacher]
    assert measured[0][1] == 1.0 > measured[1][1]
    assert engine.students[0].costs["latency_ms"] == 1.0
    assert engine.teacher.learner.costs["latency_ms"] == 2.0


def test_a_student_that_is_built_like_its_teacher_is_measured_as_a_student(
    tiny_data: Path, tmp_path: Path, measured: list[tuple[Any, float]]
) -> None:
    like = make_job(tiny_data, tmp_path)
    job = like.model_copy(update={"teacher": like.student})
    cohort = build_cohort([job], open_data(job.data), device="cpu")
    inference.measure_costs(cohort, [job], [TrialFolder(tmp_path / "trial").create()])
    cohort.close()
    assert [share for _, share in measured] == [1.0]
    assert cohort.engine.teacher is not None
    assert cohort.engine.teacher.learner.costs["latency_ms"] == 1.0
