"""What a ledger means: states, times, who is best, who is compared with whom, what rungs hold."""

import pytest

from kdsweep.ledger.events import (
    DoneEvent,
    EpochEvent,
    ExtendEvent,
    FailEvent,
    PartEvent,
    PauseEvent,
    RejectedEvent,
    SessionEvent,
    StartEvent,
    SweepEvent,
    TrialEvent,
    UnknownEvent,
)
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import State, Trial, best_first, merit

JOB = {
    "student": {"encoder": "resnet18"},
    "data": {"image_size": [96, 128]},
    "train": {"epochs": 9, "batch_size": 8},
}


class Told:
    """A sweep whose events are told one after the other."""

    def __init__(self, **header):
        self.now = 100.0
        self.sweep = Sweep()
        self.tell(SweepEvent, **{"trials": 2, "grace_period": 1, **header})
        self.tell(SessionEvent, session=1, slots=2, gpus_per_trial=0.5)

    def tell(self, event, after=0.0, **fields):
        self.now += after
        self.sweep.apply(event(time=self.now, **fields))
        return self

    def trial(self, number, kind="search", **fields):
        job = fields.pop("job", JOB)
        named = {"label": "x", "student": "x", "job": job, **fields}
        return self.tell(TrialEvent, trial=number, kind=kind, **named)

    def run(self, number, values, stop=None, seconds=10.0):
        self.tell(StartEvent, trial=number)
        for epoch, value in enumerate(values, 1):
            end = stop if epoch == len(values) else None
            fields = {"trial": number, "epoch": epoch, "value": value, "stop": end}
            self.tell(EpochEvent, after=seconds, **fields)
        return self


# -- states ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stop", "state"),
    [
        ("complete", State.COMPLETE),
        ("asha", State.STOPPED),
        ("constraint", State.STOPPED),
        ("unneeded", State.STOPPED),
        ("a word of a later version", State.STOPPED),
        (None, State.RUNNING),
    ],
)
def test_a_trial_is_in_one_state(stop, state):
    told = Told().trial(0)
    trial = told.sweep.trials[0]
    assert (trial.state, told.sweep.has_work) == (State.WAITING, True)
    told.run(0, [0.1, 0.2], stop)
    assert (trial.state, trial.stop) == (state, stop)
    assert trial.state.is_final == (stop is not None)
    assert trial.breaks_bound == (stop == "constraint")
    assert [t.number for t in told.sweep.running()] == ([0] if stop is None else [])


def test_what_a_pause_or_a_death_breaks_off_is_interrupted_until_it_goes_on():
    for end in ("pause", "death"):
        told = Told().trial(0).trial(1).run(0, [0.1])
        if end == "pause":
            told.tell(PauseEvent, reason="sigint")
        else:
            told.tell(SessionEvent, session=2)
        trial = told.sweep.trials[0]
        assert trial.state is State.INTERRUPTED
        assert told.sweep.count(State.WAITING) == 1
        assert told.sweep.count(State.WAITING, State.INTERRUPTED) == 2
        assert [t.number for t in told.sweep.next_waiting()] == [0]
        assert [t.number for t in told.sweep.next_waiting(except_for=[0])] == [1]
        told.tell(StartEvent, trial=0, attempt=2)
        assert (trial.state, trial.attempt, trial.num_starts) == (State.RUNNING, 2, 2)


def test_a_failure_that_is_tried_again_waits_and_one_that_is_not_has_failed():
    told = Told().trial(0).run(0, [0.1])
    told.tell(FailEvent, trial=0, attempt=1, failure="oom", retry=True, job={"batch_size": 4})
    trial = told.sweep.trials[0]
    assert (trial.state, trial.num_ooms, trial.num_crashes) == (State.WAITING, 1, 0)
    assert trial.changed_job["train"] == {"epochs": 9, "batch_size": 4}
    assert trial.job["train"]["batch_size"] == 8
    told.tell(FailEvent, trial=0, attempt=2, failure="crash")
    assert (trial.state, trial.num_crashes, trial.failure.attempt) == (State.FAILED, 1, 2)
    assert [event.failure for event in told.sweep.failures] == ["oom", "crash"]


def test_an_old_sweep_goes_on_with_the_classes_it_counted():
    assert Sweep([SweepEvent()]).miou_over == "seen"
    assert Sweep([SweepEvent(miou_over="labelled")]).miou_over == "labelled"


def test_a_sweep_stands_where_its_last_lines_say():
    assert Sweep().standing(None) == "empty"
    assert Sweep([SweepEvent(time=5.0)]).standing(None) == "not started"
    told = Told(trials=1).trial(0)
    assert [told.sweep.standing(driven) for driven in (True, None, False)] == [
        *("running", "running", "died")
    ]
    told.tell(PauseEvent, reason="max_hours")
    assert (told.sweep.standing(True), told.sweep.paused) == ("paused", "max_hours")
    told.tell(SessionEvent, session=2)
    assert (told.sweep.standing(True), told.sweep.paused) == ("running", None)
    told.run(0, [0.1], "complete").tell(DoneEvent)
    assert told.sweep.standing(False) == "done"
    assert (told.sweep.is_done, told.sweep.paused, told.sweep.has_work) == (True, None, False)
    told.tell(ExtendEvent, trials=4, num_controls=0)
    assert (told.sweep.is_done, told.sweep.is_extended, told.sweep.num_undrawn) == (False, True, 3)
    told.tell(SessionEvent, session=3)
    assert not told.sweep.is_extended


@pytest.mark.parametrize(
    ("controls", "expected"), [("paired", (1 + 2, 2 + 1 + 2)), ("shared", (1, 3 + 1))]
)
def test_controls_that_are_not_drawn_yet_are_counted(controls, expected):
    told = Told(trials=3, controls=controls, num_controls=1)
    told.trial(0, control=1).trial(1, "control", rides_with=0)
    assert told.sweep.num_undrawn == 2
    assert told.sweep.num_controls == expected[0]
    assert told.sweep.num_trials == 3 + expected[0]


def test_a_cohort_goes_on_together_with_what_any_of_its_retries_changed():
    told = Told(trials=5).trial(0).trial(1, rides_with=0).trial(2).trial(3).trial(4)
    told.run(0, [0.1]).run(1, [0.1]).run(3, [0.1], "complete")
    changes = {"batch_size": 4}
    told.tell(FailEvent, trial=1, attempt=1, failure="oom", retry=True, job=changes)
    told.tell(FailEvent, trial=0, attempt=1, failure="crash", retry=True)
    assert [trial.number for trial in told.sweep.cohort(1)] == [0, 1]
    # What was interrupted goes before what never began, those drawn first before the others.
    assert [trial.number for trial in told.sweep.next_waiting()] == [0, 1]
    assert [trial.number for trial in told.sweep.next_waiting(except_for=[0])] == [2]
    assert [trial.number for trial in told.sweep.next_waiting(except_for=[0, 2])] == [4]
    assert told.sweep.next_waiting(except_for=[0, 2, 4]) == []
    for number in (0, 1):
        assert told.sweep.job_to_run(number) == {**JOB, "train": {"epochs": 9, "batch_size": 4}}
    assert told.sweep.job_to_run(2) == JOB


# -- time ------------------------------------------------------------------------------------------


def test_time_is_that_from_a_start_to_its_end():
    told = Told().trial(0).run(0, [0.1, 0.2], seconds=30.0)
    trial = told.sweep.trials[0]
    assert (trial.started, trial.heard, trial.seconds) == (100.0, 160.0, 0.0)
    assert told.sweep.trial_seconds(0) == 60.0
    assert told.sweep.trial_seconds(0, now=told.now + 5) == 65.0
    told.tell(FailEvent, after=10.0, trial=0, failure="crash", retry=True)
    assert (trial.started, trial.seconds) == (None, 70.0)
    told.tell(StartEvent, after=1000.0, trial=0, attempt=2)
    told.tell(EpochEvent, after=20.0, trial=0, epoch=3, value=0.1, stop="complete")
    assert trial.seconds == told.sweep.trial_seconds(0) == 90.0
    assert told.sweep.slot_hours() == 90.0 / 3600
    assert told.sweep.gpu_hours() == 45.0 / 3600
    assert told.sweep.hours() == (70.0 + 1020.0) / 3600
    assert told.sweep.hours(told.now + 36) == (1090.0 + 36.0) / 3600


def test_time_of_running_trials_counts_up_to_now():
    told = Told().trial(0).trial(1).run(0, [0.1, 0.2], "complete", seconds=30.0)
    told.tell(PauseEvent, reason="sigint")
    told.tell(SessionEvent, after=500.0, session=2, gpus_per_trial=2.0)
    assert told.sweep.trial_seconds(1) == 0.0
    told.tell(StartEvent, trial=1)
    now = told.now + 36.0
    assert told.sweep.slot_hours(now) == (60.0 + 36.0) / 3600
    assert told.sweep.gpu_hours(now) == (30.0 + 72.0) / 3600
    assert told.sweep.hours(now) == (60.0 + 36.0) / 3600
    # A clock that was set back takes nothing away.
    assert told.sweep.hours(told.now - 20) == told.sweep.hours() == 60.0 / 3600
    assert told.sweep.trial_seconds(1, told.now - 20) == 0.0
    told.tell(EpochEvent, after=-20.0, trial=1, epoch=1, value=0.1, stop="complete")
    assert told.sweep.trials[1].seconds == told.sweep.trial_seconds(1) == 0.0


def test_a_cohort_shares_out_the_time_of_its_slot():
    told = Told().trial(0).trial(1, rides_with=0)
    told.tell(StartEvent, trial=0).tell(StartEvent, trial=1)
    assert [told.sweep.trial_seconds(n, told.now + 30) for n in (0, 1)] == [15.0, 15.0]
    told.tell(EpochEvent, after=60.0, trial=0, epoch=1, value=0.1, stop="asha")
    assert [told.sweep.trial_seconds(n, told.now + 20) for n in (0, 1)] == [30.0, 50.0]
    told.tell(EpochEvent, after=20.0, trial=1, epoch=1, value=0.1, stop="complete")
    assert [told.sweep.trial_seconds(n, told.now + 999) for n in (0, 1)] == [30.0, 50.0]
    assert told.sweep.slot_hours() == 80.0 / 3600
    assert told.sweep.gpu_hours() == 40.0 / 3600


def test_before_the_first_session_no_time_has_passed():
    assert (Sweep().started, Sweep().updated, Sweep().hours(now=5.0)) == (None, None, 0.0)
    sweep = Sweep([SweepEvent(time=5.0)])
    assert (sweep.started, sweep.updated) == (5.0, 5.0)
    named = {"kind": "search", "label": "x", "student": "x", "job": JOB}
    sweep.apply(TrialEvent(trial=0, time=6.0, **named))
    sweep.apply(StartEvent(trial=0, time=7.0))
    sweep.apply(EpochEvent(trial=0, epoch=1, value=0.1, stop="complete", time=17.0))
    assert (sweep.trial_seconds(0), sweep.gpu_hours()) == (10.0, 0.0)


def test_after_a_death_time_ends_with_the_last_line():
    told = Told().trial(0).run(0, [0.1])
    told.tell(SessionEvent, after=5000.0, session=2)
    trial = told.sweep.trials[0]
    assert (trial.seconds, told.sweep.trial_seconds(0)) == (10.0, 10.0)
    assert told.sweep.hours() == 10.0 / 3600


def test_the_pause_before_an_extension_is_no_time_of_a_session():
    told = Told().trial(0).run(0, [0.1]).tell(DoneEvent)
    told.tell(ExtendEvent, after=5000.0, trials=2, num_controls=0)
    told.tell(PartEvent, trials=2, num_controls=0, data=[]).trial(1)
    told.tell(SessionEvent, session=2).run(1, [0.1])
    assert told.sweep.hours() == 20.0 / 3600


def test_every_line_but_an_extension_says_that_a_session_lives():
    told = Told().trial(0)
    for event in (
        UnknownEvent(kind="remark", time=120.0),
        RejectedEvent(number=1, label="x", time=130.0),
    ):
        told.sweep.apply(event)
        assert told.sweep.updated == event.time
    told.tell(DoneEvent, after=50.0).tell(ExtendEvent, after=999.0, trials=9, num_controls=0)
    assert (told.sweep.started, told.sweep.updated) == (100.0, 150.0)
    assert [event.number for event in told.sweep.rejected] == [1]


# -- values ----------------------------------------------------------------------------------------


def test_the_best_epoch_is_the_first_of_the_highest():
    told = Told().trial(0).run(0, [0.1, 0.5, None, 0.5, 0.2])
    trial = told.sweep.trials[0]
    assert (trial.best, trial.best_epoch, trial.epoch, trial.last) == (0.5, 2, 5, 0.2)
    assert (told.trial(1).sweep.trials[1].epoch, told.sweep.trials[1].last) == (0, None)
    assert [trial.best_within(epochs) for epochs in range(6)] == [None, 1, 2, 2, 2, 2]
    # The last word on an epoch counts.
    told.tell(EpochEvent, trial=0, epoch=2, value=0.3)
    assert (trial.best, trial.best_epoch, trial.last) == (0.5, 4, 0.2)
    told.tell(EpochEvent, trial=0, epoch=4, value=None)
    assert (trial.best, trial.best_epoch) == (0.3, 2)
    told.tell(EpochEvent, trial=0, epoch=6, value=None)
    assert (trial.epoch, trial.last) == (6, None)


def test_the_rule_for_ties():
    assert merit(0.5, 20.0, 9) < merit(0.4, 1.0, 0)
    assert merit(0.5, 6.0, 9) < merit(0.5, 14.0, 0)
    assert merit(0.5, 6.0, 1) < merit(0.5, 6.0, 2)
    assert merit(0.5, 900.0, 9) < merit(0.5, None, 0)
    assert merit(0.5, float("nan"), 0) == merit(0.5, None, 0)
    trials = [
        Trial(n, "search", "x", "x", None, {}, {}, best=best, params_m=size)
        for n, (best, size) in enumerate([(0.5, 9.0), (None, 1.0), (0.5, 3.0), (0.6, 50.0)])
    ]
    assert [trial.number for trial in best_first(trials)] == [3, 2, 0]


def test_who_may_be_called_best():
    told = Told(trials=3).trial(0, "control").trial(1).trial(2).trial(3)
    told.run(0, [0.3], "complete").run(1, [0.8], "constraint").run(2, [0.1])
    assert [trial.number for trial in told.sweep.candidates()] == [0, 2]
    assert told.sweep.best().number == 0
    assert Sweep().best() is None


def test_a_control_that_breaks_a_bound_goes_on_and_is_no_candidate():
    latency = "student/latency_ms"
    told = Told(trials=1, constraints={latency: 10.0}).trial(0, "control").trial(1)
    for epoch, cost in ((1, 9.0), (2, 11.0)):
        assert told.sweep.trials[0].is_candidate == (epoch == 2)
        told.tell(EpochEvent, trial=0, epoch=epoch, value=0.5, costs={latency: cost})
    assert told.sweep.trials[0].state is State.RUNNING
    assert told.sweep.candidates() == []


# -- controls --------------------------------------------------------------------------------------


def test_a_trial_is_compared_with_its_control_at_as_many_epochs():
    told = Told().trial(0, "control").trial(1, control=0).trial(2, control=0).trial(3, control=9)
    told.run(0, [0.3, 0.5, 0.4, 0.6])
    told.run(1, [0.2])
    control = told.sweep.trials[0]
    assert told.sweep.partner(1) == (control, 1)
    told.run(1, [0.2, 0.3, 0.4])
    assert told.sweep.partner(1) == (control, 2)
    told.run(1, [0.2, 0.3, 0.4, 0.5, 0.6])  # the control has not come as far
    assert told.sweep.partner(1) is None
    assert told.sweep.partner(2) is None  # no epoch yet
    assert told.run(3, [0.1]).sweep.partner(3) is None  # its control is not drawn yet
    assert told.sweep.partner(0) is None


# -- rungs and costs -------------------------------------------------------------------------------


def test_rungs_hold_what_search_trials_within_the_bounds_have_reached():
    told = Told(trials=3, grace_period=1, reduction_factor=3).trial(0, "control")
    told.trial(1).trial(2).run(0, [0.9] * 3)
    told.run(1, [0.1, 0.2, 0.3, 0.4]).run(2, [0.5], "constraint")
    assert told.sweep.rungs.points == {1: {1: (0.1,)}, 3: {1: (0.3,)}}
    told.tell(EpochEvent, trial=2, epoch=9, value=None)  # nothing that could be compared
    assert 9 not in told.sweep.rungs.points


def test_trials_of_a_network_share_what_it_costs_and_the_front_goes_by_it():
    latency = "student/latency_ms"
    told = Told(metric="student/miou", metrics=["student/miou", latency])
    big = {**JOB, "student": {"encoder": "resnet50"}}
    told.trial(0).trial(1).trial(2, job=big).trial(3, job=big)
    for number, value, cost in ((0, 0.3, 10.0), (1, 0.4, 14.0), (2, 0.5, 30.0)):
        told.tell(StartEvent, trial=number)
        costs = told.sweep.median_costs(number, {latency: cost})
        told.tell(
            EpochEvent, trial=number, epoch=1, value=value, costs=costs, measured={latency: cost}
        )
    trials = told.sweep.trials
    assert trials[0].costs is trials[1].costs
    assert trials[0].costs == {latency: 12.0}
    assert told.sweep.median_costs(1, {latency: 20.0}) == {latency: 15.0}
    assert told.sweep.rungs.points[1] == {0: (0.3, 10.0), 1: (0.4, 12.0), 2: (0.5, 30.0)}
    assert [trial.number for trial in told.sweep.front()] == [2, 1]
    assert [trial.number for trial in told.sweep.front([trials[0], trials[3]])] == [0]
    assert trials[1].point(told.sweep.metrics) == {"student/miou": 0.4, latency: 12.0}
    told.tell(EpochEvent, trial=2, epoch=2, value=0.1, costs={latency: float("inf")})
    assert [trial.number for trial in told.sweep.front()] == [1]
    assert Told().trial(0).run(0, [0.1]).sweep.front() == []


def test_the_size_of_a_student_is_what_an_epoch_has_told_last():
    told = Told().trial(0)
    told.tell(EpochEvent, trial=0, epoch=1, value=0.1, metrics={"student/params_m": 11.2})
    told.tell(EpochEvent, trial=0, epoch=2, value=0.2)
    assert told.sweep.trials[0].params_m == 11.2
