import json
import math
import time
from dataclasses import replace

import msgspec
import pandas as pd
import pytest
from experiments_on_disk import results_of, write
from plain_events import write_plain

from kdsweep.errors import ExperimentError
from kdsweep.ledger import Experiment, Ledger
from kdsweep.ledger.events import class_ious, decode_numbers
from kdsweep.reporting import load
from kdsweep.reporting.tables import plain


def row(frame, **where):
    for column, value in where.items():
        frame = frame[frame[column] == value]
    assert len(frame) == 1, frame
    return frame.iloc[0]


def test_a_notebook_shows_the_best_trials(mixed):
    shown = results_of(mixed.events)._repr_html_()
    assert shown.startswith("<p>&lt;Results ")
    assert shown.count("<tr>") == 4  # what failed or has no epoch is none of them
    assert "0.55" in shown


def test_trials_hold_best_last_and_state(mixed):
    trials = results_of(mixed.events).trials
    assert trials["number"].tolist() == [0, 1, 2, 3, 4]
    assert trials["state"].tolist() == ["complete", "complete", "stopped", "failed", "running"]
    one = row(trials, number=1)
    assert (one["value"], one["best_epoch"], one["last"], one["epochs"]) == (0.55, 2, 0.52, 3)
    assert one["teacher_miou"] == 0.60  # at the student's best epoch, not the teacher's best
    assert one["params_m"] == 11.2
    assert one["seed_compat_iou"] == 0.55
    assert one["control"] == 0
    assert one["hours"] == pytest.approx(3 * 36 / 3600)
    failed = row(trials, number=3)
    assert math.isnan(failed["value"])
    assert failed["epochs"] == 0
    assert failed["best_epoch"] is pd.NA
    assert failed["seed"] == 1
    assert failed["hours"] == pytest.approx(36 / 3600)


def test_drawn_parameters_become_columns_of_their_own_kind(mixed):
    trials = results_of(mixed.events).trials
    weights = trials["param:distill.pixel_kl.weight"]
    assert weights.dtype == "float64"
    assert weights.tolist()[1:3] == [2.0, 0.5]
    assert weights.isna().tolist() == [True, False, False, True, True]
    assert trials["param:teacher.encoder"].tolist()[1] == "resnet34"


def test_first_of_equal_epochs_is_the_best(story):
    story.sweep().session().trial(0).run(0, [0.2, 0.4, 0.4])
    assert results_of(story.events).trials["best_epoch"].tolist() == [2]


def test_gain_compares_within_the_same_number_of_epochs(mixed):
    gains = results_of(mixed.events).gains
    complete = row(gains, trial=1)
    assert (complete["value"], complete["control_value"]) == (0.55, 0.50)
    assert complete["gain"] == pytest.approx(0.05)
    assert complete["matched"]
    # Stopped after one epoch: measured against the control's first epoch, not its best.
    stopped = row(gains, trial=2)
    assert stopped["control_value"] == 0.30
    assert stopped["gain"] == pytest.approx(-0.05)


def test_gain_is_missing_with_its_reason(story):
    story.sweep().session().trial(0, teacher=None).trial(1, control=0).trial(2).trial(3, control=9)
    story.start(0).epoch(0, 1, 0.3)
    for number in (1, 2, 3):
        story.run(number, [0.3, 0.4])
    gains = results_of(story.events).gains
    assert gains["gain"].isna().all()
    assert row(gains, trial=1)["reason"] == "control not there yet (1 epochs)"
    assert row(gains, trial=2)["reason"] == "no control"
    assert row(gains, trial=3)["reason"] == "control not drawn yet"


def test_gain_against_a_failed_control(story):
    story.sweep().session().trial(0, teacher=None).start(0).fail(0, "error", "boom")
    story.trial(1, control=0).run(1, [0.4])
    gains = results_of(story.events).gains
    assert row(gains, trial=1)["reason"] == "control failed after 0 epochs"


def test_other_hyperparameters_make_a_gain_unmatched(story):
    story.sweep().session().trial(0, teacher=None).run(0, [0.3])
    story.trial(1, control=0, train={"lr": 0.01}).run(1, [0.4])
    results = results_of(story.events)
    assert not row(results.gains, trial=1)["matched"]
    assert row(results.gains, trial=1)["gain"] == pytest.approx(0.1)
    assert results.summary["gains_matched"] is False


def test_a_retry_with_a_smaller_batch_is_unmatched(story):
    story.sweep().session().trial(0, teacher=None).run(0, [0.3]).trial(1, control=0).start(1)
    story.fail(1, "oom", "CUDA out of memory", retry=True, job={"batch_size": 4, "accumulate": 2})
    assert row(results_of(story.events).trials, number=1)["state"] == "waiting"
    story.run(1, [0.4])
    results = results_of(story.events)
    assert row(results.trials, number=1)["attempts"] == 2
    assert row(results.trials, number=1)["state"] == "complete"
    assert not row(results.gains, trial=1)["matched"]


def test_pairs_count_fates_and_rank_by_best(mixed):
    pairs = results_of(mixed.events).pairs
    assert list(zip(map(plain, pairs["teacher"]), pairs["student"], strict=True)) == [
        ("resnet34", "resnet18"),
        (None, "resnet18"),
        ("resnet50", "resnet18"),
        ("resnet34", "mobilenet_v2"),
    ]
    second = pairs.iloc[2]
    assert (second["num_trials"], second["num_stopped"], second["num_failed"]) == (2, 1, 0)
    assert (second["best"], second["best_trial"]) == (0.36, 4)
    assert (second["best_epochs"], second["planned_epochs"]) == (1, 3)
    assert (second["least_epochs"], second["most_epochs"]) == (1, 1)
    assert second["median"] == pytest.approx((0.25 + 0.36) / 2)
    assert second["best_gain"] == pytest.approx(0.06)
    assert second["median_gain"] == pytest.approx(0.005)
    third = pairs.iloc[3]
    assert math.isnan(third["best"])
    assert third["best_trial"] is pd.NA
    assert third["num_failed"] == 1


def test_classes_at_the_best_epoch_of_each_network(mixed):
    classes = results_of(mixed.events).classes
    best = classes[classes["trial"] == 1]
    assert best["class"].tolist() == ["road", "car", "pole"]
    assert best["student"].tolist()[:2] == [0.9, 0.5]
    assert math.isnan(best["student"].tolist()[2])  # absent from truth and prediction
    assert best["teacher"].tolist() == [0.9, 0.6, 0.3]
    assert best["control"].tolist() == [0.9, 0.4, 0.2]


def test_failures_keep_message_log_and_fate(mixed):
    mixed.trial(5).start(5).fail(5, "crash", "killed by signal 9", retry=True)
    failures = results_of(mixed.events).failures
    assert failures["class"].tolist() == ["nan", "crash"]
    assert failures["retried"].tolist() == [False, True]
    assert failures["message"].tolist()[0] == "loss became NaN at step 7"
    assert failures["log"].tolist() == ["trials/0003/log.txt", "trials/0005/log.txt"]


def test_summary_counts_and_names_the_best(mixed):
    summary = results_of(mixed.events).summary
    assert summary["states"] == {
        "complete": 1, "stopped": 1, "failed": 1, "running": 1, "interrupted": 0, "waiting": 0
    }  # fmt: skip
    assert (summary["num_trials"], summary["num_controls"], summary["num_epochs"]) == (4, 1, 8)
    assert summary["state"] == "running"
    assert (summary["best"]["number"], summary["best"]["value"]) == (1, 0.55)
    assert summary["best_ties"] == [1]
    assert summary["num_seeds"] == 2
    assert summary["notice"].startswith("generated scenes")
    # Nine spells of 36 s: eight epochs and one failure, at half a GPU each.
    assert summary["trial_hours"] == pytest.approx(9 * 36 / 3600)
    assert summary["gpu_hours"] == pytest.approx(9 * 18 / 3600)
    json.dumps(summary.to_json(), allow_nan=False)


def test_trials_hold_their_slots_until_the_pause_or_the_last_word(story):
    story.sweep().session(gpus=1).trial(0).trial(1).start(0).start(1)
    story.epoch(0, 1, 0.1, seconds=60).epoch(1, 1, 0.1, seconds=60)
    running = results_of(story.events)
    assert (running.trials["hours"] * 60).tolist() == pytest.approx([2, 2])
    story.add("pause", 60.0, reason="sigint")
    paused = results_of(story.events)
    assert (paused.trials["hours"] * 60).tolist() == pytest.approx([3, 3])
    assert paused.summary["gpu_hours"] * 60 == pytest.approx(6)
    story.add("session", 600.0, session=2, gpus_per_trial=0, host="x", pid=1)
    story.start(0, epoch=1).epoch(0, 2, 0.2, "complete", seconds=60)
    resumed = results_of(story.events)
    assert (resumed.trials["hours"] * 60).tolist() == pytest.approx([4, 3])
    assert resumed.summary["trial_hours"] * 60 == pytest.approx(7)
    assert resumed.summary["gpu_hours"] * 60 == pytest.approx(6)
    assert resumed.summary["hours"] * 60 == pytest.approx(3 + 1)


def test_equal_values_tie_and_the_smaller_student_comes_first(story):
    story.sweep().session()
    for number in (0, 1, 2):
        story.trial(number).start(number).epoch(number, 1, 0.5, "complete")
    story.events[-1]["metrics"]["student/params_m"] = 3.4
    results = results_of(story.events)
    assert results.ranked()["number"].tolist() == [2, 0, 1]
    assert results.summary["best"]["number"] == 2
    assert results.summary["best_ties"] == [2, 0, 1]


def test_a_pause_interrupts_and_a_later_session_goes_on(mixed):
    mixed.add("pause", reason="max_hours")
    paused = results_of(mixed.events)
    assert paused.summary["state"] == "paused"
    assert paused.summary["pause_reason"] == "max_hours"
    assert row(paused.trials, number=4)["state"] == "interrupted"
    mixed.add("session", 7200.0, session=2, gpus_per_trial=0, host="x", pid=1)
    mixed.start(4, epoch=1).epoch(4, 2, 0.4).epoch(4, 3, 0.41, "complete").add("done")
    done = results_of(mixed.events)
    assert done.summary["state"] == "done"
    assert done.summary["num_sessions"] == 2
    four = row(done.trials, number=4)
    assert (four["state"], four["epochs"], four["attempts"]) == ("complete", 3, 2)
    assert four["hours"] == pytest.approx(3 * 36 / 3600)  # the two hours between do not count
    assert done.summary["hours"] == pytest.approx((9 * 36 + 2 * 36) / 3600)
    assert done.summary["gpu_hours"] == pytest.approx(9 * 18 / 3600)  # the second had no GPU


def test_a_driver_that_died_left_its_trials_interrupted(mixed):
    dead = results_of(mixed.events, driver_alive=False)
    assert dead.summary["state"] == "died"
    assert row(dead.trials, number=4)["state"] == "interrupted"


def test_every_prefix_of_a_ledger_loads(mixed):
    mixed.add("pause", reason="sigint").session().start(4, epoch=1).epoch(4, 2, 0.4, "asha").add(
        "done"
    )
    for length in range(len(mixed.events) + 1):
        results = results_of(iter(mixed.events[:length]))
        assert results.summary["num_epochs"] == len(results.epochs)
        assert sum(results.summary["states"].values()) == results.summary["num_trials"]


def test_empty_and_all_failed(story):
    empty = results_of([])
    assert empty.summary["state"] == "empty"
    assert empty.summary["best"] is None
    assert {name: len(table) for name, table in empty.tables().items()} == dict.fromkeys(
        [
            "trials",
            "epochs",
            "pairs",
            "front",
            "gains",
            "classes",
            "terms",
            "confirmation",
            "failures",
        ],
        0,
    )
    story.sweep().session().trial(0, teacher=None).start(0).fail(0, "error", "boom")
    story.trial(1, control=0).start(1).fail(1, "error", "boom")
    failed = results_of(story.events)
    assert failed.summary["best"] is None
    assert failed.summary["num_failed_trials"] == 2
    assert failed.pairs["num_failed"].tolist() == [1, 1]
    assert failed.pairs["best"].isna().all()


def test_values_that_are_not_numbers_are_never_the_best(story):
    story.sweep().session().trial(0).start(0)
    story.epoch(0, 1, None).epoch(0, 2, 0.2).epoch(0, 3, None, "complete")
    one = results_of(story.events).trials.iloc[0]
    assert (one["value"], one["best_epoch"], one["epochs"]) == (0.2, 2, 3)
    assert math.isnan(one["last"])


def test_a_metric_that_starts_late_is_missing_before(story):
    story.sweep().session().trial(0).start(0).epoch(0, 1, 0.1).epoch(0, 2, 0.2, teacher=0.3)
    story.trial(1).start(1).epoch(1, 1, 0.1)
    teacher = results_of(story.events).epochs["teacher/miou"]
    assert teacher.isna().tolist() == [True, False, True]
    assert teacher[1] == 0.3


def test_unknown_events_are_passed_over(mixed):
    before = results_of(mixed.events).summary
    mixed.events.insert(3, {"event": "note", "seq": 99, "time": mixed.events[3]["time"]})
    assert results_of(mixed.events).summary == before


def test_load_reads_an_experiment_and_tells_died_from_running(tmp_path, mixed):
    experiment = Experiment.create(tmp_path, "tiny")
    write_plain(experiment.ledger, mixed.events)
    with Ledger.open(experiment.ledger):
        with experiment.ledger.open("ab") as file:
            file.write(b'{"event":"epoch","tri')
        assert load(tmp_path / "latest").summary["state"] == "running"
    # The process is still there, but it has let go: a number may have been given to another one.
    results = load(tmp_path / "latest")
    assert results.summary["state"] == "died"
    assert results.summary["experiment"] == str(experiment.path)
    assert results.trials["value"].max() == 0.55
    assert results.failures["log"].tolist() == [str(experiment.trial(3).log)]


def test_a_driver_on_another_machine_is_believed(tmp_path, story):
    experiment = Experiment.create(tmp_path, "tiny")
    story.sweep().session(host="node7")
    write_plain(experiment.ledger, story.events)
    # Its lock may not be seen from here.
    assert load(experiment.path).summary["state"] == "running"


def test_results_say_in_one_line_what_they_are(mixed):
    assert repr(results_of(mixed.events)) == (
        "<Results tiny: running, 4 trials, 8 epochs, best resnet34→resnet18 student/miou 0.550>"
    )
    assert repr(results_of([])) == (
        "<Results of no sweep: empty, 0 trials, 0 epochs, no epoch yet>"
    )


def test_load_of_nothing_is_an_error(tmp_path):
    with pytest.raises(ExperimentError, match="no such experiment"):
        load(tmp_path / "nowhere")


def test_a_thousand_trials_load_fast(story):
    story.sweep().session().trial(0, teacher=None).run(
        0, [0.1] * 50, classes={"student": [0.1] * 13}
    )
    for number in range(1, 1001):
        params = {f"p{i}": 0.1 * i for i in range(8)}
        story.trial(number, control=0, params=params).run(number, [0.2] * 20, teacher=0.3)
    begin = time.perf_counter()
    results = results_of(story.events)
    seconds = time.perf_counter() - begin
    assert len(results.epochs) == 50 + 20_000
    assert results.gains["gain"].notna().all()
    assert seconds < 5  # 0.2 s on an idle core; quadratic code would need minutes


def test_class_ious_are_read_when_they_are_wanted(mixed, tmp_path):
    experiment = write(tmp_path, mixed)
    lines = [line[:-18] + b"}" for line in experiment.ledger.read_bytes().splitlines()]
    for line in lines:
        whole, event = json.loads(line), decode_numbers(line)
        if whole["event"] == "epoch":
            assert isinstance(event.classes, msgspec.Raw)
            assert class_ious(event.classes) == whole["classes"]
            assert event.metrics == whole["metrics"]
    pd.testing.assert_frame_equal(load(experiment.path).classes, results_of(mixed.events).classes)


@pytest.mark.parametrize(
    "fields",
    [
        {"metrics": {}},
        {"metrics": {',"classes":{': 1.0}, "classes": {}},
        {"metrics": {}, "classes": {"student}": [0.5], "te,acher": [None]}},
        {"classes": {}, "note": '"classes":{'},
        {"note": ',"classes":{}'},
        {"classes": None, "metrics": {}},
    ],
)
def test_an_epoch_is_read_rightly_whatever_its_names(fields):
    event = {"event": "epoch", "seq": 3, "trial": 1, "epoch": 2, **fields}
    read = decode_numbers(json.dumps(event, separators=(",", ":")).encode())
    assert class_ious(read.classes) == (fields.get("classes") or {})
    assert (read.metrics or {}) == fields.get("metrics", {})
    assert (read.seq, read.trial, read.epoch) == (3, 1, 2)


def test_a_metric_that_was_not_finite_is_missing_and_moves_no_other(story):
    story.sweep().session().trial(0).start(0).epoch(0, 1, 0.1).epoch(0, 2, None).epoch(0, 3, 0.3)
    epochs = results_of(story.events).epochs
    assert epochs["student/miou"].isna().tolist() == [False, True, False]
    assert epochs["student/params_m"].tolist() == [11.2] * 3


def test_an_epoch_reported_twice_counts_with_its_last_word(story):
    story.sweep().session().trial(1).trial(0).start(1).epoch(1, 1, 0.1).epoch(1, 2, 0.2)
    story.start(0).epoch(0, 1, 0.5).epoch(1, 2, 0.4, agreement=0.9)
    epochs = results_of(story.events).epochs
    assert epochs["trial"].tolist() == [0, 1, 1]
    assert epochs["value"].tolist() == [0.5, 0.1, 0.4]
    assert epochs["student/agreement"].isna().tolist() == [True, True, False]


def test_the_trials_of_a_cohort_share_the_time_of_their_slot(story):
    story.sweep(trials=3, num_controls=0).session(gpus=1)
    for number in range(3):
        story.trial(number)
        story.events[-1]["rides_with"] = 0 if number else None
    for number in range(3):
        story.start(number)
    story.epoch(0, 1, 0.1, "asha", seconds=30).epoch(1, 1, 0.2, seconds=0)
    story.epoch(2, 1, 0.3, seconds=0).epoch(1, 2, 0.2, "asha", seconds=20)
    story.epoch(2, 2, 0.3, seconds=0).epoch(2, 3, 0.4, "complete", seconds=10)
    results = results_of(story.events)
    assert (results.trials["hours"] * 3600).tolist() == pytest.approx([10, 20, 30])
    assert results.summary["gpu_hours"] * 3600 == pytest.approx(60)
    assert results.trials["cohort"].tolist() == [0, 0, 0]
    assert "1 teacher trained" in results.summary.counts()
    alone = replace(results.summary, num_teachers=3)
    assert not any("teacher" in said for said in alone.counts())


def test_a_control_that_nobody_needs_any_more_was_stopped(story):
    story.sweep(trials=1).session().trial(0, control=1).trial(1, teacher=None)
    story.start(0).start(1).epoch(1, 1, 0.2, "unneeded").fail(0, "nan", "loss is nan")
    trials = results_of(story.events).trials.set_index("number")
    assert trials["state"].to_dict() == {0: "failed", 1: "stopped"}
