"""Whoever is asked for the best trial names the same one."""

import pytest
from experiments_on_disk import shown, write

from kdsweep.deploy.choosing import best_trial, choose_student
from kdsweep.errors import ExperimentError
from kdsweep.ledger import iter_ledger
from kdsweep.ledger.events import decode_progress
from kdsweep.ledger.layout import CARD, WEIGHTS
from kdsweep.ledger.state import Sweep
from kdsweep.reporting import (
    load,
    read_all_statuses,
    read_status,
    render_best,
    render_list,
    render_status,
    to_json,
    write_page,
)
from kdsweep.reporting.compare import compare
from kdsweep.sweep.display import render
from kdsweep.sweep.outcome import make_outcome

LARGE, SMALL = {"student/params_m": 14.0}, {"student/params_m": 6.0}


def equals(story):
    """Two trials of equal scores, the smaller student second; a third of the same after them."""
    story.sweep(trials=3, num_controls=0).session().trial(0).trial(1, student="mobilenet_v2")
    story.trial(2, student="mobilenet_v2", teacher="resnet50")
    for number, costs in enumerate((LARGE, SMALL, SMALL)):
        story.run(number, [0.3, 0.5, 0.4], costs=costs)
    return story.add("done")


def answers(experiment):
    """The best trial as each of those who name one says it."""
    sweep = Sweep(iter_ledger(experiment.ledger, decode_progress))
    results = load(experiment.path)
    outcome = make_outcome(sweep, experiment)
    status = read_status(experiment.path)
    (listed,) = read_all_statuses(experiment.path.parent)
    (compared,) = compare([experiment.path])
    return {
        "driver": sweep.best().number,
        "outcome": outcome.best_trial,
        "status": status.best["number"],
        "list": listed.best["number"],
        "report": results.summary["best"]["number"],
        "ranked": results.ranked()["number"].iloc[0],
        "json": to_json(results)["summary"]["best"]["number"],
        "compare": compared.trial,
        "export": best_trial(experiment),
    }


def leave_students(experiment, sizes):
    for number, size in sizes.items():
        folder = experiment.trial(number).best
        folder.mkdir(parents=True)
        (folder / WEIGHTS).write_bytes(bytes(size))


def test_the_next_best_is_not_shipped_as_the_best(tmp_path, story):
    experiment = write(tmp_path, equals(story))
    leave_students(experiment, {0: 10, 2: 20})
    with pytest.raises(ExperimentError, match="best student, trial 1") as caught:
        best_trial(experiment)
    assert "0001/best/student.safetensors" in str(caught.value)
    assert "--trial 2 takes the best one that is here" in str(caught.value)
    (experiment.trial(2).best / CARD).write_text("{}")
    experiment.trial(2).job_yaml.write_text("{}")
    assert choose_student(experiment.path, 2).folder.path.name == "0002"


def test_of_equal_trials_everybody_names_the_smaller_student(tmp_path, story):
    experiment = write(tmp_path, equals(story))
    # The files say nothing: half as many bytes may be as many numbers.
    leave_students(experiment, {0: 10, 1: 300, 2: 20})
    assert set(answers(experiment).values()) == {1}
    results = load(experiment.path)
    assert results.summary["best_ties"] == [1, 2, 0]
    assert results.pairs["best_trial"].tolist() == [1, 2, 0]
    page = write_page(results, experiment.report).read_text()
    assert page.index("mobilenet_v2") < page.index("resnet18")
    named = "resnet34→mobilenet_v2"
    assert named in shown(render_status, read_status(experiment.path))
    assert named in shown(render_list, read_all_statuses(tmp_path), tmp_path, width=200)
    assert "mobilenet_v2" in shown(lambda console: render_best(results, console))
    sweep = Sweep(iter_ledger(experiment.ledger, decode_progress))
    assert f"best is 0001 {named}" in shown(
        lambda c: c.print(render(sweep, story.now, 200)), width=200
    )


def test_of_equal_students_everybody_names_the_earlier_trial(tmp_path, story):
    story.sweep(trials=3, num_controls=0).session()
    for number in (2, 1, 3):  # as cohorts may be drawn and end
        story.trial(number).run(number, [0.5])
    experiment = write(tmp_path, story)
    leave_students(experiment, {1: 30, 2: 20, 3: 10})
    assert set(answers(experiment).values()) == {1}


def test_a_higher_score_wins_over_any_size_and_order(tmp_path, story):
    story.sweep(trials=2, num_controls=0).session().trial(0).run(0, [0.5], costs=SMALL)
    story.trial(1).run(1, [0.5001], costs=LARGE)
    experiment = write(tmp_path, story)
    leave_students(experiment, {0: 10, 1: 10})
    assert set(answers(experiment).values()) == {1}


def test_what_costs_too_much_is_not_called_best_with_a_teacher_or_without(tmp_path, story):
    story.sweep(trials=2, constraints={"student/params_m": 10.0}).session()
    story.trial(0, teacher=None).run(0, [0.9], costs=LARGE)
    story.trial(1).run(1, [0.8], "constraint", costs=LARGE)
    story.trial(2).run(2, [0.2], costs=SMALL)
    experiment = write(tmp_path, story)
    leave_students(experiment, {0: 10, 1: 10, 2: 10})
    assert set(answers(experiment).values()) == {2}


def test_a_control_that_is_best_is_the_answer(tmp_path, story):
    story.sweep(trials=1).session().trial(0, teacher=None).run(0, [0.9])
    story.trial(1, control=0).run(1, [0.2])
    experiment = write(tmp_path, story)
    leave_students(experiment, {0: 10, 1: 10})
    assert set(answers(experiment).values()) == {0}
