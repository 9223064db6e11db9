"""A sweep played through on made-up steps, against hours counted by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from step_costs import make_cost

from kdsweep.sweep.forecast import Workload, foresee, rungs
from kdsweep.training.step_cost import StepCost

# 100 batches an epoch: an epoch of the teacher is 360 s, of a student 180 s, of a control 90 s.
COST = make_cost(teacher_s=3.6, student_s=1.8, control_s=0.9)
WORK = Workload(
    num_trials=8,
    epochs=10,
    head_start_epochs=0,
    num_controls=0,
    slots=2,
    grace_period=1,
    reduction_factor=3,
)


def complete(work=WORK, cost=COST, students=1):
    return foresee(work, cost, students=students, asha=False)


def test_the_parts_of_an_epoch_add_up():
    cost = make_cost(
        teacher_s=2.0,
        student_s=1.0,
        control_s=0.75,
        shares_s=3.0,
        batch_s=0.5,
        head_start_s=1.5,
        num_val=10,
        teacher_val_s=0.2,
        student_val_s=0.1,
        teacher_save_s=4.0,
        student_save_s=2.0,
        teacher_bytes=100,
        student_bytes=10,
        activation_bytes=1,
    )
    assert cost.teacher_epoch_s == 100 * 2.5 + 2 + 4
    assert cost.control_epoch_s == 100 * 0.75 + 1 + 2
    assert cost.student_epoch_s == 100 * 1.0 + 1 + 2 + 3
    assert cost.head_start_epoch_s == 100 * 2.0 + 4
    assert cost.batches_epoch_s == 50
    assert cost.memory_bytes(3) == 131
    assert StepCost.from_json(cost.to_json()) == cost


def test_separate_pairs_pay_their_teacher_each():
    effort = complete()
    # Eight trials of ten epochs of 540 s, on two slots.
    assert effort.slot_hours == pytest.approx(8 * 1.5)
    assert effort.hours == pytest.approx(4 * 1.5)
    assert effort.epochs_share == 1.0


def test_a_cohort_pays_its_teacher_once():
    effort = complete(students=4)
    # Two cohorts of ten epochs of 360 + 4 × 180 s, one on each slot.
    assert effort.slot_hours == pytest.approx(2 * 3.0)
    assert effort.hours == pytest.approx(3.0)


def test_the_last_cohort_has_the_students_that_are_left():
    effort = complete(students=3)
    # 3 + 3 + 2 students: 2.5 h, 2.5 h and 2 h.
    assert effort.slot_hours == pytest.approx(7.0)
    assert effort.hours == pytest.approx(4.5)


def test_controls_cost_a_student_beside_a_trial_and_frames_of_their_own_alone():
    shared = replace(WORK, num_controls=2)
    cost = replace(COST, batch_s=0.9)
    # Two controls of ten epochs of 90 + 90 s, and trials of 630 s an epoch.
    assert complete(shared, cost).slot_hours == pytest.approx(2 * 0.5 + 8 * 1.75)
    paired = replace(WORK, riding=lambda students: students)
    assert complete(paired).slot_hours == pytest.approx(8 * 1.75)
    assert complete(paired, students=4).slot_hours == pytest.approx(2 * 4.0)
    # One control for all four, who differ in their losses alone.
    common = replace(paired, riding=lambda students: 1)
    assert complete(common, students=4).slot_hours == pytest.approx(2 * 3.25)


def test_a_head_start_is_the_teachers_alone_and_paid_once():
    work = replace(WORK, head_start_epochs=5)
    cost = replace(COST, head_start_s=3.6)
    assert complete(work, cost).slot_hours == pytest.approx(8 * 2.0)
    assert complete(work, cost, students=4).slot_hours == pytest.approx(2 * 3.5)


def test_starting_counts_for_each_network():
    cost = replace(COST, start_s=7200.0)
    # Teacher and student an hour each.
    assert complete(cost=cost).slot_hours == pytest.approx(8 * (1.5 + 2.0))
    assert complete(cost=cost, students=4).slot_hours == pytest.approx(2 * (3.0 + 5.0))


def test_rungs_end_before_the_last_epoch():
    assert rungs(replace(WORK, epochs=27)) == [1, 3, 9]
    assert rungs(replace(WORK, epochs=28)) == [1, 3, 9, 27]
    assert rungs(replace(WORK, epochs=10, grace_period=2, reduction_factor=2)) == [2, 4, 8]
    assert rungs(replace(WORK, epochs=1)) == []


def test_asha_leaves_about_what_halving_leaves():
    # Rungs 1, 3, 9 of 27 epochs: in the limit 1 + 2/3 + 6/9 + 18/27 = 3 of 27 epochs. Those that
    # come first have few to be compared with.
    work = replace(WORK, num_trials=1000, epochs=27)
    share = foresee(work, COST, students=1, asha=True).epochs_share
    assert share == pytest.approx(3 / 27, rel=0.15)
    few = foresee(replace(work, num_trials=20), COST, students=1, asha=True).epochs_share
    assert few > share


def test_asha_takes_a_cohort_to_the_end_of_its_last_student():
    # Both have the same students with the same luck; only the teacher's epochs differ.
    work = replace(WORK, num_trials=400, epochs=9, slots=1)
    free_students = make_cost(teacher_s=36.0)
    alone = foresee(work, free_students, students=1, asha=True)
    cohort = foresee(work, free_students, students=4, asha=True)
    # A cohort's teacher trains longer than one of a single student, and less than four of them.
    assert alone.slot_hours / 4 < cohort.slot_hours < alone.slot_hours
    assert cohort.epochs_share == pytest.approx(alone.epochs_share, rel=0.15)


def test_a_trial_that_is_no_longer_than_the_grace_period_runs_to_its_end():
    work = replace(WORK, epochs=2, grace_period=2)
    assert foresee(work, COST, students=2, asha=True).epochs_share == 1.0


def test_a_very_long_sweep_goes_on_as_it_begins():
    work = replace(WORK, num_trials=50_000, slots=8)
    assert complete(work).slot_hours == pytest.approx(50_000 * 1.5)
    assert complete(work).hours == pytest.approx(50_000 * 1.5 / 8)


def test_the_same_question_has_the_same_answer():
    answers = [foresee(WORK, COST, students=2, asha=True) for _ in range(2)]
    assert answers[0] == answers[1]
    assert np.isfinite(answers[0].hours)
