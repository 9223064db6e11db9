"""What a tracker hears of a sweep that is killed and resumed."""

import pytest
from simulation import Simulation, make_space

from kdsweep.ledger import read_ledger
from kdsweep.sweep.tracked import TrackerListener
from kdsweep.tracking import SweepSummary, open_tracker
from kdsweep.tracking.mlflow import plain_key


class Recorder:
    """A tracker that remembers what it was told."""

    is_active = True

    def __init__(self):
        self.begun, self.epochs, self.ended, self.summaries = [], [], {}, []
        self.alerts = []
        self.num_closed = 0

    def trial(self, number, label, job, kind, params=None):
        self.begun.append((number, kind))

    def epoch(self, number, epoch, metrics):
        self.epochs.append((number, epoch, metrics["student/miou"]))

    def alert(self, number, text):
        self.alerts.append((number, text))

    def trial_end(self, number, state, summary=None, details=None):
        assert number not in self.ended
        self.ended[number] = (state, summary, details)

    def summary(self, summary):
        self.summaries.append(summary)

    def close(self):
        self.num_closed += 1


class TrackedSimulation(Simulation):
    def __init__(self, path, space, tracker, make_summary=None):
        super().__init__(path, space, slots=3)
        self.tracker = tracker
        self.make_summary = make_summary
        self.listener = None
        self.said = []

    def driver(self, **options):
        driver = super().driver(**options)
        self.listener = TrackerListener(
            self.tracker,
            self.experiment,
            read_ledger(driver.ledger.path),
            self.make_summary,
            self.said.append,
        )
        driver.listeners.append(self.listener)
        return driver

    def session(self, seed, **options):
        super().run(seed, **options)
        self.listener.close()


def make_summary(path, session):
    return SweepSummary(session, {"state": "done"}, {"trials": [{"number": 0}]})


def test_killed_and_resumed_each_epoch_and_end_is_told_once(tmp_path):
    tracker = Recorder()
    simulation = TrackedSimulation(tmp_path, make_space(), tracker, make_summary)
    for seed in range(3):
        simulation.session(seed, max_events=30)
    assert tracker.summaries == []  # nothing has ended but the drivers
    simulation.session(3)
    events = simulation.events()
    values = {
        (event["trial"], event["epoch"]): event["value"]
        for event in events
        if event["event"] == "epoch"
    }
    assert {(number, epoch): value for number, epoch, value in tracker.epochs} == values
    assert len(tracker.epochs) == len(values)
    trials = {event["trial"]: event for event in events if event["event"] == "trial"}
    assert tracker.ended.keys() == trials.keys()
    assert {kind for _, kind in tracker.begun} == {"control", "search"}
    for number, (state, summary, details) in tracker.ended.items():
        assert state in ("complete", "stopped")
        own = {epoch: value for (trial, epoch), value in values.items() if trial == number}
        # Also of epochs that another session saw: the earliest of the best ones.
        assert details.best_epoch == max(own, key=own.get)
        assert summary == {"best/student/miou": max(own.values())}
        assert details.epochs == max(own)
        assert details.classes == ["road", "car"]
        assert details.ious == {"student": [0.5, None]}
    (summary,) = tracker.summaries
    assert summary.session == 4
    assert tracker.num_closed == 4


def test_only_a_standstill_is_an_alert(tmp_path):
    tracker = Recorder()
    simulation = TrackedSimulation(tmp_path, make_space(sweep={"trials": 1}), tracker)
    driver = simulation.driver()
    driver.begin("test", {"classes": ["road"], "palette": [[0, 0, 0]]})
    for failure in ("crash", "hang"):
        attempt = driver.next_attempt()
        driver.started(attempt)
        driver.crashed(attempt, failure, f"a {failure}")
    driver.ledger.close()
    assert tracker.alerts == [(0, "a hang")]


def test_pictures_are_those_in_the_trials_folder(tmp_path):
    tracker = Recorder()
    simulation = TrackedSimulation(tmp_path, make_space(sweep={"trials": 1}), tracker)
    picture = simulation.experiment.trial(0).frame(7, "image")
    picture.parent.mkdir(parents=True)
    picture.touch()
    simulation.session(0)
    assert tracker.ended[0][2].frames == {7: {"image": picture}}
    assert tracker.ended[1][2].frames == {}
    assert tracker.summaries == []


@pytest.mark.parametrize("is_active", [True, False])
def test_a_summary_that_fails_is_a_warning(tmp_path, is_active):
    def no_table(path, session):
        raise ValueError("no table")

    tracker = Recorder()
    tracker.is_active = is_active
    simulation = TrackedSimulation(tmp_path, make_space(sweep={"trials": 1}), tracker, no_table)
    simulation.session(0)
    expected = ["trackers get no summary of the sweep: ValueError: no table"]
    assert simulation.said == (expected if is_active else [])
    assert tracker.num_closed == 1


# Of what the readers themselves use.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_tensorboard_and_mlflow_read_of_a_killed_and_resumed_sweep_is_the_ledger(tmp_path):
    from mlflow import MlflowClient
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trackers = {"wandb": {"mode": "off"}, "tensorboard": {}, "mlflow": {}}
    space = make_space(tracking=trackers)
    simulation = TrackedSimulation(tmp_path, space, None, make_summary)
    for seed, options in enumerate([{"max_events": 40}, {}]):
        said = []
        tracker = simulation.tracker = open_tracker(space, simulation.experiment, said.append)
        simulation.session(seed, **options)
        for member in tracker.members:  # which go on without the driver on a busy machine
            assert member._process.wait(60) == 0
        assert not [text for text in said if "goes on by itself" not in text]
    events = simulation.events()
    curves = {}
    for event in events:
        if event["event"] == "epoch":
            curves.setdefault(event["trial"], []).append((event["epoch"], event["value"]))

    experiment = simulation.experiment
    client = MlflowClient(f"sqlite:///{experiment.tracker('mlflow') / 'mlflow.db'}")
    (found,) = [e for e in client.search_experiments() if e.name == experiment.name]
    runs = {run.info.run_name[:4]: run for run in client.search_runs([found.experiment_id])}
    trials = {event["trial"]: event for event in events if event["event"] == "trial"}
    assert len(runs) == len(trials) + 1
    for number, trial in trials.items():
        run = runs[f"{number:04d}"]
        told = client.get_metric_history(run.info.run_id, "student/miou")
        assert [(m.step, m.value) for m in told] == curves[number]
        assert run.data.params == {
            plain_key(key): str(value) for key, value in trial["params"].items()
        }
        assert run.info.status == "FINISHED"
        (folder,) = experiment.tracker("tensorboard").glob(f"{number:04d}-*")
        read = EventAccumulator(str(folder))
        read.Reload()
        curve = [(e.step, e.value) for e in read.Scalars("student/miou")]
        assert curve == [(epoch, pytest.approx(value)) for epoch, value in curves[number]]
