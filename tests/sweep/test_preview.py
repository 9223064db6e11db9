"""What is said of a sweep before it starts, on made-up steps."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from step_costs import GIB, make_cost

from kdsweep.config import Space, load_space
from kdsweep.errors import ConfigError, DataError, ResourceError
from kdsweep.sweep.preview import Preview, preview
from kdsweep.sweep.preview_display import show_preview
from kdsweep.trial import machine as machines
from kdsweep.trial import parallel_timing
from kdsweep.trial.gpu_memory import CONTEXT_BYTES
from kdsweep.trial.machine import Machine

# An epoch of ten batches: 36 s of the teacher, 18 s of a student, 9 s of a control.
SMALL = make_cost(
    num_batches=10,
    teacher_s=3.6,
    student_s=1.8,
    control_s=0.9,
    student_bytes=GIB,
    num_processes=2,
)
# Ten times as slow.
LARGE = make_cost(
    num_batches=10,
    teacher_s=36.0,
    student_s=18.0,
    control_s=9.0,
    teacher_bytes=5 * GIB,
    student_bytes=GIB,
    num_processes=2,
)
PROCESSOR = Machine(2, "a processor", 100 * GIB, (), 0)


def make_space(**sections: Any) -> Space:
    return load_space(
        {
            "name": "tiny",
            "data": {"source": "roadscenes", "scenes": 40, "image_size": [32, 64]},
            "teacher": {"encoder": {"values": ["resnet18", "resnet34"]}},
            "student": {"encoder": "resnet18"},
            "distill": {
                "pixel_kl": {
                    "weight": {"min": 0.1, "max": 10, "distribution": "log_uniform_values"},
                    "temperature": {"values": [1, 2]},
                }
            },
            "train": {"epochs": 10, "batch_size": 4},
            **sections,
            "sweep": {"trials": 8, "controls": "none", **sections.get("sweep", {})},
        }
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Puts made-up steps and a made-up machine in the place of real ones; notes what was asked."""
    noted: dict[str, Any] = {"machine": PROCESSOR, "costs": [SMALL, LARGE]}

    def measure(jobs: Any, num_processes: int, **options: Any) -> Any:
        noted.update(jobs=jobs, num_processes=num_processes, **options)
        return noted["costs"][-len(jobs) :]

    monkeypatch.setattr(machines, "this_machine", lambda: noted["machine"])
    monkeypatch.setattr(parallel_timing, "measure_in_parallel", measure)
    return noted


def hours(found: Preview, students: int, *, asha: bool = False) -> list[float]:
    estimate = next(e for e in found.estimates if e.students_per_teacher == students)
    return [effort.hours for effort in (estimate.asha if asha else estimate.complete)]


def test_hours_go_from_the_smallest_job_to_the_largest(asked: dict[str, Any]) -> None:
    found = preview(make_space())
    smallest, largest = asked["jobs"]
    assert (smallest.teacher.encoder, largest.teacher.encoder) == ("resnet18", "resnet34")
    assert (found.resources.slots, asked["num_processes"]) == (2, 2)
    assert (asked["device"], asked["num_threads"]) == ("cpu", 1)
    # Eight trials of ten epochs of 54 or 540 s, on two slots.
    assert hours(found, 1) == pytest.approx([0.6, 6.0])
    assert [e.students_per_teacher for e in found.estimates if e.asked] == [1]
    # Two cohorts of ten epochs of 36 + 4 × 18 s; T = 2 S gives a teacher four of eight trials.
    assert [e.students_per_teacher for e in found.estimates if e.chosen] == [4]
    assert hours(found, 4) == pytest.approx([0.3, 3.0])
    assert found.estimates[1].num_cohorts == 2
    assert found.estimates[1].memory_bytes == (4 * GIB, 9 * GIB)
    # ASHA is the space's scheduler, and leaves less.
    assert found.expected == found.estimates[0].asha
    assert hours(found, 1, asha=True)[1] < 6.0
    assert found.rungs == (1, 3, 9)


def test_the_space_says_how_many_students_a_teacher_has(asked: dict[str, Any]) -> None:
    wide = {"encoder": {"values": ["resnet18", "resnet34"]}}
    three = preview(make_space(student=wide, sweep={"students_per_teacher": 3}))
    assert [e.students_per_teacher for e in three.estimates] == [1, 3, 4]
    assert [e.asked for e in three.estimates] == [False, True, False]
    auto = preview(make_space(student=wide, sweep={"students_per_teacher": "auto"}))
    assert [(e.students_per_teacher, e.asked, e.chosen) for e in auto.estimates] == [
        (1, False, False),
        (4, True, True),
    ]


def test_a_cohort_has_no_more_students_than_can_differ(asked: dict[str, Any]) -> None:
    distill = {"pixel_kl": {"weight": 1.0, "temperature": {"values": [1, 2]}}}
    found = preview(make_space(distill=distill, sweep={"students_per_teacher": 3}))
    assert found.num_points == 4
    assert found.num_trials == 4
    assert [e.students_per_teacher for e in found.estimates] == [1, 2]
    assert any("can have 2 different students, not 3" in note for note in found.notes)
    assert any("only 4 different jobs" in note for note in found.notes)


def test_bounds_leave_fewer_students_controls_and_trials(asked: dict[str, Any]) -> None:
    wide = {"encoder": {"values": ["resnet18", "resnet34", "mobilenet_v2"]}}
    bounds = {"constraints": {"student/params_m": "<= 20"}, "controls": "shared"}
    found = preview(make_space(student=wide, sweep=bounds))
    assert found.num_controls == 2
    assert "resnet34" not in {sample.job.student.encoder for sample in found.samples}
    assert found.to_json()["constraints"] == {"student/params_m": "<= 20"}
    assert any("2 of 3 student architectures keep" in note for note in found.notes)
    # Two teachers, three students and two temperatures are twelve jobs.
    finite = {"pixel_kl": {"weight": 1.0, "temperature": {"values": [1, 2]}}}
    few = preview(make_space(student=wide, distill=finite, sweep={**bounds, "trials": 20}))
    assert (few.num_points, few.num_trials) == (12, 8)
    assert any("8 different jobs within its constraints" in note for note in few.notes)
    # A corner's student may break the bound in all of them.
    only = preview(make_space(student=wide, sweep={"constraints": {"student/params_m": "<= 7"}}))
    assert {sample.job.student.encoder for sample in only.samples} == {"mobilenet_v2"}
    with pytest.raises(ConfigError, match=r"the least, mobilenet_v2 at 32×64, has 6\.6"):
        preview(make_space(student=wide, sweep={"constraints": {"student/params_m": "<= 1"}}))


def test_mutual_learning_leaves_each_teacher_one_student(asked: dict[str, Any]) -> None:
    weight = {"min": 0.1, "max": 1.0}
    space = make_space(distill={"mutual": {"weight": weight}}, sweep={"students_per_teacher": 4})
    found = preview(space)
    assert hours(found, 4) == hours(found, 1) == pytest.approx([0.6, 6.0])
    assert any("one student only" in note for note in found.notes)


def test_controls_are_counted_as_they_are_trained(asked: dict[str, Any]) -> None:
    shared = preview(make_space(sweep={"controls": "shared"}))
    assert shared.num_controls == 1
    # The control of 900 s beside the first trial: the others take turns on both slots.
    assert hours(shared, 1)[1] == pytest.approx((900 + 4 * 5400) / 3600)
    paired = preview(make_space(sweep={"controls": "paired"}))
    assert paired.num_controls == 8
    assert hours(paired, 1) == pytest.approx([0.7, 7.0])


def test_what_a_gpu_gives_its_trials(asked: dict[str, Any]) -> None:
    asked["machine"] = Machine(16, "a processor", 100 * GIB, ("a GPU",) * 2, 16 * GIB)
    found = preview(make_space(resources={"gpus_per_trial": 0.5}, sweep={"scheduler": "none"}))
    assert found.resources.slots == 4
    # Two trials share a GPU, and are measured so; each has 8 GiB of it.
    assert (asked["num_processes"], asked["device"]) == (2, "cuda")
    # 5 + 2 GiB are less than 90 % of 8, and 5 + 3 are more.
    assert [e.students_per_teacher for e in found.estimates if e.chosen] == [2]
    assert found.rungs == ()
    assert found.expected == found.estimates[0].complete
    assert found.expected[1].slot_hours == pytest.approx(12.0)
    assert found.to_json()["estimates"][0]["complete"][1]["gpu_hours"] == pytest.approx(6.0)
    asked["machine"] = Machine(16, "a processor", 100 * GIB, ("a GPU",), 6 * GIB)
    tight = preview(make_space())
    assert any("1 trial on a GPU of 6.4 GB, each about 7.0 GB" in note for note in tight.notes)


def test_trials_that_share_a_gpu_are_held_against_its_memory(asked: dict[str, Any]) -> None:
    def packed(share: float, gigabytes: int, **options: Any) -> tuple[Preview, str]:
        asked["machine"] = Machine(64, "a processor", None, ("a GPU",), gigabytes * GIB)
        found = preview(make_space(resources={"gpus_per_trial": share}), **options)
        return found, "\n".join(found.notes)

    # As measured: 5 GiB of the teacher, 1 GiB of the student, and what CUDA takes for itself.
    found, notes = packed(0.5, 16)
    assert found.packed is not None
    assert (found.packed.trials, found.packed.fits) == (2, True)
    assert found.packed.trial_bytes == 6 * GIB + CONTEXT_BYTES
    assert "memory" not in notes
    assert "Memory:  2 trials on a GPU of 17.2 GB, each about 7.0 GB" in shown(found, 200)
    assert found.to_json()["packed"]["trials"] == 2
    found, notes = packed(0.25, 16)
    assert "memory may run out: 4 trials" in notes
    assert "gpus_per_trial: 0.5" in notes
    # Without a measurement as estimated; forty trials need more than 8 GiB for their weights alone.
    found, notes = packed(0.025, 8, measure=False)
    assert "kdsweep run would refuse this: resources.gpus_per_trial: 40 trials" in notes
    found, notes = packed(1.0, 8, measure=False)
    assert found.packed is not None
    assert found.packed.fits
    assert notes == ""
    assert preview(make_space(), measure=False).packed is not None
    asked["machine"] = PROCESSOR
    assert preview(make_space(), measure=False).packed is None


def test_slots_may_be_those_of_another_machine(asked: dict[str, Any]) -> None:
    found = preview(make_space(), slots=8)
    assert asked["num_processes"] == 2
    assert hours(found, 1) == pytest.approx([0.15, 1.5])


def test_budgets_that_will_not_do_are_named(asked: dict[str, Any]) -> None:
    found = preview(make_space(sweep={"max_hours": 1.0, "scheduler": "none"}))
    assert any(note.startswith("sweep.max_hours is 1") for note in found.notes)
    assert not preview(make_space(sweep={"max_hours": 100.0})).notes


def test_equal_jobs_are_measured_once(asked: dict[str, Any]) -> None:
    found = preview(make_space(teacher={"encoder": "resnet18"}, distill={"pixel_kl": {}}))
    assert len(asked["jobs"]) == 1
    assert found.samples[0].cost == found.samples[1].cost == LARGE
    assert found.num_points == 1


def test_without_measuring_all_else_is_said(asked: dict[str, Any]) -> None:
    found = preview(make_space(), measure=False)
    assert "jobs" not in asked
    assert (found.samples, found.estimates, found.expected) == ((), (), None)
    shared = {row.name: (row.values, row.num_values, row.shared) for row in found.ranges}
    assert shared == {
        "teacher.encoder": ("resnet18, resnet34", 2, True),
        "distill.pixel_kl.weight": ("0.1 to 10, logarithmic", None, False),
        "distill.pixel_kl.temperature": ("1, 2", 2, False),
    }
    assert [(row.source, row.num_train, row.num_val) for row in found.data] == [
        ("roadscenes", 40, 32)
    ]


def test_sections_to_choose_from_are_told_by_their_keys(asked: dict[str, Any]) -> None:
    weight = {"weight": {"min": 1, "max": 2}}
    distill = {"values": [{"pixel_kl": weight, "hint": weight}, {"attention": {}}]}
    rows = {row.name: row for row in preview(make_space(distill=distill), measure=False).ranges}
    assert rows["distill"].values == "pixel_kl + hint, attention"
    assert rows["distill"].num_values == 2
    assert rows["distill[0].hint.weight"].values == "1 to 2"


def test_what_cannot_run_is_an_error(asked: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such tap") as odd:
        preview(make_space(distill={"hint": {"taps": ["encoder.9"]}}))
    assert odd.value.path == ("distill", "hint", "taps", 0)
    with pytest.raises(DataError, match="is not there"):
        preview(
            make_space(
                data={"source": "camvid", "path": str(tmp_path / "no"), "image_size": [32, 64]}
            )
        )
    with pytest.raises(ResourceError, match="fits on none of the machines"):
        preview(make_space(resources={"cpus_per_trial": 3}))


def shown(found: Preview, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    show_preview(found, console)
    return console.export_text()


@pytest.mark.parametrize("width", [80, 200])
def test_it_reads_well_at_any_width(asked: dict[str, Any], width: int) -> None:
    found = preview(make_space(sweep={"students_per_teacher": "auto", "scheduler": "none"}))
    text = shown(found, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert "8 trials · 10 epochs" in text
    assert "4 (asked, auto)" in text
    # Two cohorts of ten epochs of 36 + 4 × 18 s, or ten times that, at the same time.
    assert "Expected: 18 min–3.0 h" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["distill.pixel_kl.temperature", "1,", "2", "2", "student"] in lines
    assert "in 2 processes side by side" in " ".join(text.split())


def test_what_was_not_measured_is_not_shown(asked: dict[str, Any]) -> None:
    text = shown(preview(make_space(), measure=False), 80)
    assert "Nothing was measured" in text
    assert "Expected" not in text


def test_json_says_the_same(asked: dict[str, Any]) -> None:
    found = preview(make_space())
    plain = json.loads(json.dumps(found.to_json()))
    assert plain["trials"] == 8
    assert plain["ranges"][1] == {
        "name": "distill.pixel_kl.weight",
        "values": "0.1 to 10, logarithmic",
        "num_values": None,
        "shared": False,
    }
    assert plain["resources"]["slots"] == 2
    assert [job["label"] for job in plain["jobs"]] == ["resnet18→resnet18", "resnet34→resnet18"]
    assert plain["jobs"][1]["cost"]["teacher_s"] == 36.0
    assert [row["students_per_teacher"] for row in plain["estimates"]] == [1, 4]
    assert plain["estimates"][0]["complete"][1]["hours"] == pytest.approx(6.0)
