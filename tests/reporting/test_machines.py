"""Reports say on which machine a trial was, where there are several."""

from __future__ import annotations

from typing import Any

from experiments_on_disk import results_of, shown, write
from plain_events import typed_event

from kdsweep.ledger.atomic import write_json
from kdsweep.ledger.state import Sweep
from kdsweep.reporting import load, to_json, write_page
from kdsweep.reporting.terminal import render
from kdsweep.sweep.display import event_line


def told(story: Any) -> Any:
    story.sweep(trials=2, num_controls=0, students_per_teacher=2).session(gpus=1)
    story.trial(0).trial(1, rides_with=0).start(0).start(1)
    story.add("placed", trial=0, attempt=1, machine="node-b", gpus=["1"])
    story.add("fail", trial=0, attempt=1, **{"class": "crash"}, retry=True, machine="node-b, GPU 1")
    story.add("fail", trial=1, attempt=1, **{"class": "crash"}, retry=True, machine="node-b, GPU 1")
    story.start(0, attempt=2).start(1, attempt=2)
    story.add("placed", trial=0, attempt=2, machine="node-c", gpus=["0", "3"])
    for number in (0, 1):
        story.epoch(number, 1, 0.3).epoch(number, 2, 0.5, "complete")
    return story


def test_the_last_machine_of_a_trial_and_those_of_its_failures(story: Any) -> None:
    results = results_of(told(story).events)
    assert set(results.trials["machine"]) == {"node-c, GPUs 0, 3"}
    assert set(results.failures["machine"]) == {"node-b, GPU 1"}
    assert to_json(results)["trials"][0]["machine"] == "node-c, GPUs 0, 3"


def test_they_stand_on_the_page_and_in_the_terminal(tmp_path: Any, story: Any) -> None:
    experiment = write(tmp_path, told(story))
    machines = {"node-b": ["NVIDIA A10"], "node-c": ["NVIDIA L4", "NVIDIA L4"]}
    write_json(experiment.environment_json, {"gpus": [], "machines": machines})
    results = load(experiment.path)
    page = write_page(results, experiment.report).read_text()
    assert "node-c, GPUs 0, 3" in page
    assert "node-b, GPU 1" in page
    assert "node-b: NVIDIA A10; node-c: NVIDIA L4, NVIDIA L4" in page
    assert "node-c, GPUs 0, 3" in shown(lambda console: render(results, console), width=300)
    sweep = Sweep([typed_event(event) for event in story.events])
    line = event_line(sweep, sweep.failures[0])
    assert line is not None
    assert "failed on node-b, GPU 1 (crash, tried again)" in line


def test_on_one_machine_nothing_speaks_of_it(mixed: Any) -> None:
    results = results_of(mixed.events)
    assert "machine" not in results.trials
    assert "machine" not in results.failures
