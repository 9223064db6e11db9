"""How many students ``auto`` gives a teacher."""

from __future__ import annotations

import pytest
from simulation import make_space
from step_costs import GIB, make_cost

from kdsweep.sweep.cohort_size import choose_students_per_teacher, num_heads


def choose(cost, num_trials=1000, slots=1, memory_bytes=None, **more):
    return choose_students_per_teacher(cost, num_trials, slots, memory_bytes, **more)


@pytest.mark.parametrize(
    ("teacher", "students"),
    [
        # T / S, and the first K at which T/K + S falls by less than 5 % with one student more:
        # T = S: 2, 1.5, 1.33, 1.25, 1.2 (4 %).
        (1.0, 4),
        # T = 0.1 S: 1.1, 1.05 (4.5 %).
        (0.1, 1),
        # T = 0.5 S: 1.5, 1.25, 1.1667, 1.125 (3.6 %).
        (0.5, 3),
        (0.0, 1),
        # T = 10 S: the eighth still saves 7 %, and eight are the most.
        (10.0, 8),
    ],
)
def test_one_more_student_has_to_save_a_twentieth(teacher, students):
    assert choose(make_cost(teacher_s=teacher, student_s=1.0, control_s=1.0)) == students


def test_validation_and_waiting_for_frames_count_too():
    # Alone 100 steps cost teacher and student the same; waiting for frames is the teacher's side.
    slow_frames = make_cost(teacher_s=0.1, student_s=1.0, control_s=1.0, batch_s=0.9)
    assert choose(slow_frames) == 4
    # 100 s of steps and 900 s of scoring for a student, against 100 s for the teacher.
    scored = make_cost(teacher_s=1.0, student_s=1.0, control_s=1.0, num_val=900, student_val_s=1.0)
    assert choose(scored) == 1


def test_controls_beside_the_students_make_a_teacher_cheaper_to_have():
    # T = S = C: 3, 2.5, 2.33, 2.25 (3.6 %).
    cost = make_cost(teacher_s=1.0, student_s=1.0, control_s=1.0)
    assert choose(cost, riding=lambda students: students) == 3


def test_slots_stay_busy():
    cost = make_cost(teacher_s=10.0, student_s=1.0, control_s=1.0)
    assert choose(cost, num_trials=10, slots=4) == 3
    assert choose(cost, num_trials=3, slots=4) == 1


def test_a_cohort_stays_in_its_memory():
    cost = make_cost(
        teacher_s=10.0,
        student_s=1.0,
        control_s=1.0,
        teacher_bytes=2 * GIB,
        student_bytes=GIB,
        activation_bytes=3 * GIB,
    )
    # 2 + 3 + K ≤ 0.9 × 10
    assert choose(cost, memory_bytes=10 * GIB) == 4
    # 2 + 3 + 2 K ≤ 0.9 × 10
    assert choose(cost, memory_bytes=10 * GIB, riding=lambda students: students) == 2
    assert choose(cost, memory_bytes=GIB) == 1
    assert choose(cost, memory_bytes=None) == 8


def test_one_control_for_all_is_shared_like_the_teacher():
    # T = 0.5 S with a control that all share: as T = 1.5 S, of which the fifth student still saves
    # 5.5 % of 1.375 S, and the sixth 3.8 % of 1.3 S.
    cost = make_cost(teacher_s=0.5, student_s=1.0, control_s=1.0)
    assert choose(cost, riding=lambda students: 1) == 5
    assert choose(cost, riding=lambda students: students) == 2
    assert choose(cost) == 3


@pytest.mark.parametrize(
    ("controls", "own", "heads"),
    [
        ("none", {"student": {"lr": {"min": 1e-4, "max": 1e-2}}}, 4),
        ("shared", {"student": {"lr": {"min": 1e-4, "max": 1e-2}}}, 4),
        ("paired", {"student": {"lr": {"min": 1e-4, "max": 1e-2}}}, 8),
        # Students that differ in their losses alone have one control; here there are no more.
        ("paired", {}, 4),
    ],
)
def test_controls_ride_along(controls, own, heads):
    space = make_space(
        student={"encoder": "resnet18"},
        distill={"pixel_kl": {"weight": {"values": [0.1, 1.0, 10.0]}}},
        train={"epochs": 9, "lr": 0.01, **own},
        sweep={"controls": controls, "trials": 12},
    )
    assert num_heads(space, 4) == heads
    assert num_heads(space, 1) == (2 if controls == "paired" else 1)
