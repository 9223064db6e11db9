"""Workers that come to a standstill: when it is noticed, what is said, what becomes of them."""

import math

import pytest
from plain_events import typed
from rich.console import Console
from simulation import Simulation, make_space

from kdsweep.ledger.events import RetryEvent
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import State
from kdsweep.pulse import TRAINING, VALIDATING, Beat, Pulse
from kdsweep.reporting import read_status
from kdsweep.reporting.overview import render_status
from kdsweep.sweep.display import event_line
from kdsweep.sweep.heartbeat import Sign, Watch


class Clock:
    """A clock that a test moves, in seconds, and that a watch is asked by every second."""

    def __init__(self, minutes="auto"):
        self.now = 0.0
        self.watch = Watch(minutes, lambda: self.now, lambda: 1_000_000.0 + self.now)
        self.count = 0
        self.watch.begin(7)
        self.watch.look([7])

    def say(self, doing, done=0, total=0, epoch=0, frames=0, cohort=7):
        self.count += 1
        beat = Beat(self.count, doing, done, total, epoch, frames)
        self.watch.heard(cohort, Sign(beat, "node-b", 4711))

    def train(self, steps, seconds, doing=TRAINING, cohort=7):
        for step in range(steps + 1):
            self.say(doing, step, steps, epoch=1, cohort=cohort)
            self.silent(seconds, (7, cohort))

    def silent(self, seconds, active=(7,)):
        """The attempts that stood still for too long, and after how many seconds that was said."""
        for second in range(1, int(seconds) + 1):
            self.now += 1.0
            if found := self.watch.look(active):
                return second, found
        return None


def after(clock, most=100_000):
    found = clock.silent(most)
    return math.inf if found is None else found[0]


def test_ten_minutes_are_the_least_and_three_times_that_for_what_is_new():
    assert after(Clock()) == 1801  # nothing was said at all
    clock = Clock()
    clock.say("building the networks")
    assert after(clock) == 1801
    clock = Clock()
    clock.train(3, 1)
    assert after(clock) == 600  # a second of it was the last step's
    clock = Clock()
    clock.train(3, 1)
    clock.say(VALIDATING, 0, 9, epoch=1)
    assert after(clock) == 1801


def test_slow_steps_are_given_twenty_times_what_they_take():
    clock = Clock()
    clock.train(5, 90)
    clock.say(TRAINING, 0, 5, epoch=2)
    assert after(clock) == 20 * 90 + 1
    # What another attempt has taken counts for one that has not come so far.
    clock.watch.begin(8)
    clock.say(TRAINING, 0, 5, epoch=1, cohort=8)
    assert clock.silent(10_000, [8])[0] == 3 * 20 * 90 + 1


def test_minutes_that_were_asked_for_are_kept_to():
    clock = Clock(2.0)
    clock.train(3, 50)
    clock.say(TRAINING, 0, 5, epoch=2)
    assert after(clock) == 121
    assert after(Clock(2.0)) == 361
    assert after(Clock("none")) == math.inf


def test_a_driver_that_stood_still_itself_blames_nobody():
    clock = Clock()
    clock.train(3, 1)
    for _ in range(3):
        clock.now += 7200.0  # Ctrl-Z
        assert clock.watch.look([7]) == []
    assert after(clock) == 600 - 3 * 5


def test_results_are_signs_and_who_has_ended_is_not_watched():
    clock = Clock()
    clock.train(3, 1)
    assert clock.silent(500) is None
    clock.watch.reported(7)
    assert clock.silent(500) is None
    assert clock.silent(500, []) is None
    assert clock.silent(5000, [7]) is None


def test_a_standstill_says_where_and_at_what():
    clock = Clock()
    clock.say(TRAINING, 12, 40, epoch=3)
    _, (hang,) = clock.silent(4000)
    assert (hang.cohort, hang.machine) == (7, "node-b")
    assert hang.message.startswith("at a standstill since ")
    assert hang.message.endswith(": training, epoch 3, step 12 of 40 (process 4711)")
    assert Beat(1, "decoding lyft train", 5, 9).words == "decoding lyft train, 5 of 9"
    _, (silent,) = Clock().silent(4000)
    assert (silent.machine, "it has not said yet" in silent.message) == (None, True)


def test_the_pace_is_that_of_this_epoch_and_what_comes_after_is_as_long_as_last_time():
    clock = Clock()
    assert clock.watch.paces() == {}
    for epoch in (1, 2):
        clock.say(TRAINING, 0, 4, epoch)
        assert clock.watch.paces()[7].left_s is None
        for step in range(1, 5 if epoch == 1 else 2):
            clock.silent(10)
            clock.say(TRAINING, step, 4, epoch, frames=8 * step)
        pace = clock.watch.paces()[7]
        if epoch == 1:
            clock.say(VALIDATING, 0, 2, epoch)
            clock.silent(6)
    assert (pace.frames_per_s, pace.left_s) == (0.8, 3 * 10 + 6)
    clock.silent(90)
    assert clock.watch.paces()[7].silence == 90
    assert clock.watch.paces()[7].left_s == pace.left_s


def test_a_pulse_tells_of_each_batch_when_it_is_done():
    pulse, seen = Pulse(), []
    for images, _ in pulse.through(VALIDATING, [("abc", 0), ("de", 0)], epoch=4):
        seen.append((pulse.now.done, pulse.now.frames, images))
    assert seen == [(0, 0, "abc"), (1, 3, "de")]
    assert pulse.now == Beat(3, VALIDATING, 2, 2, 4, 5)


@pytest.fixture
def hung(tmp_path):
    """A sweep of two trials, one of which hangs in each of its attempts."""
    space = make_space(sweep={"trials": 2, "controls": "none", "scheduler": "none"})
    simulation = Simulation(tmp_path, space)
    driver = simulation.driver()
    driver.begin("test", {"classes": ["road"], "palette": [[0, 0, 0]]})
    for _ in range(2):
        attempt = driver.next_attempt()
        driver.started(attempt)
        driver.crashed(attempt, "hang", "at a standstill since 12:00:00", machine="node-b")
        assert not driver.is_active(attempt)
    driver.ledger.close()
    return simulation


def test_a_trial_that_hangs_is_tried_again_once(hung):
    sweep, lines = Sweep(), []
    for event in typed(hung.events()):
        sweep.apply(event)
        lines.append(event_line(sweep, event))
    assert [(e.trial, e.failure, e.retry) for e in sweep.failures] == [
        (0, "hang", True),
        (0, "hang", False),
    ]
    assert sweep.trials[0].state is State.FAILED
    said = "failed on node-b (hang, {}): at a standstill since 12:00:00"
    assert [line.split("  ")[1] for line in lines if line and "failed" in line] == [
        said.format("tried again"),
        said.format("given up"),
    ]
    hung.run(0)
    assert Sweep(typed(hung.events())).count(State.COMPLETE) == 1


def test_status_names_who_hung(hung):
    seen = read_status(hung.experiment.path)
    assert [(h["number"], h["machine"], h["retried"]) for h in seen.to_json()["hangs"]] == [
        (0, "node-b", True),
        (0, "node-b", False),
    ]
    console = Console(width=200)
    with console.capture() as shown:
        render_status(seen, console)
    label = seen.hangs[0].label
    line = f"hung: 0000 {label} on node-b, given up: at a standstill since 12:00:00"
    assert line in shown.get()


def test_who_asks_again_gets_both_tries_again(hung):
    sweep = Sweep(typed(hung.events()))
    assert sweep.trials[0].num_hangs == 2
    sweep.apply(RetryEvent(trials=[0]))
    assert (sweep.trials[0].num_hangs, sweep.trials[0].state) == (0, State.WAITING)
