"""The answer: controls may be it, and what luck alone would show is never told as a gain."""

from __future__ import annotations

import html
import io
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from experiments_on_disk import write
from rich.console import Console
from tiny_job import SMALL as SMALL_NETWORK

import kdsweep
from kdsweep.deploy.choosing import best_trial
from kdsweep.ledger import Experiment, iter_ledger
from kdsweep.ledger.events import decode_progress
from kdsweep.ledger.layout import WEIGHTS
from kdsweep.ledger.state import Sweep
from kdsweep.reporting import (
    load,
    read_all_statuses,
    read_status,
    render,
    render_best,
    render_list,
    render_status,
    to_json,
    write_page,
    write_tables,
)
from kdsweep.reporting.compare import compare, render_comparison
from kdsweep.reporting.verdict import verdict
from kdsweep.sweep.display import render as render_live

# States may be green, numbers may not.
GREEN = re.compile(
    r"\x1b\[(?:[0-9;]*;)?(?:32|92|38;5;(?:2|10|22|28|34|40|46))(?:;[0-9;]*)?m"
    r"(?! *done|\d+ complete)"
)
AS_A_FACT = re.compile(r"\b(helped|helps|improved|improves|thanks to|because of its teacher)\b")
SMALL = {"student/params_m": 6.6, "student/macs_g": 1.0, "student/latency_ms": 5.0}
LARGE = {"student/params_m": 14.3, "student/macs_g": 2.0, "student/latency_ms": 9.0}


def printed(draw: Any, *args: Any, width: int) -> str:
    """What a command prints, with its colours."""
    file = io.StringIO()
    console = Console(
        width=width, file=file, force_terminal=True, color_system="256", highlight=False
    )
    draw(*args, console)
    return file.getvalue()


def outputs(experiment: Any) -> dict[str, str]:
    """Everything that the tool says of an experiment, by what says it."""
    results = load(experiment.path)
    sweep = Sweep(iter_ledger(experiment.ledger, decode_progress))
    said = {
        "page": write_page(results, experiment.report).read_text(),
        "json": json.dumps(to_json(results), ensure_ascii=False),
        "status json": json.dumps(read_status(experiment.path).to_json(), ensure_ascii=False),
        "live": printed(lambda c: c.print(render_live(sweep, 1_000_000.0, 200)), width=200),
    }
    said["page"] = re.sub(r"<(script|style)\b.*?</\1>", "", said["page"], flags=re.S)
    said["page"] = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", said["page"])).split())
    for path in write_tables(results, experiment.report):
        if path.suffix in (".md", ".tex"):
            said[path.name] = path.read_text()
    folder = experiment.path.parent
    for width in (80, 200):
        for name, draw, args in (
            ("report", render, (results,)),
            ("run", render_best, (results,)),
            ("status", render_status, (read_status(experiment.path),)),
            ("list", render_list, (read_all_statuses(folder), folder)),
            ("compare", render_comparison, (compare([experiment.path]),)),
        ):
            said[f"{name} {width}"] = printed(draw, *args, width=width)
    return said


def plain(text: str) -> str:
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())


def noise(story: Any, seed: int, trials: int = 12) -> Any:
    """A sweep in which no teacher changes anything: all values are one mean and chance."""
    drawn = random.Random(seed)

    def values(epochs: int) -> list[float]:
        return [0.3 + 0.1 * epoch / 12 + drawn.gauss(0, 0.01) for epoch in range(1, epochs + 1)]

    story.sweep(trials=trials, epochs=12).session()
    story.trial(0, teacher=None, train={"epochs": 12}).run(0, values(12), costs=LARGE)
    for number in range(1, trials + 1):
        is_short = number % 4 == 0
        teacher = ("resnet34", "resnet50")[number % 2]
        story.trial(number, teacher=teacher, control=0, train={"epochs": 12})
        stop = "asha" if is_short else "complete"
        story.run(number, values(3 if is_short else 12), stop, costs=LARGE)
    return story.add("done")


@pytest.mark.parametrize("seed", range(4))
def test_of_no_true_gain_none_is_told(tmp_path: Path, story: Any, seed: int) -> None:
    experiment = write(tmp_path, noise(story, seed))
    said = outputs(experiment)
    assert GREEN.search("\x1b[1;32mbest mIoU 0.4")
    for name, text in said.items():
        assert not AS_A_FACT.search(plain(text)), name
        assert not GREEN.search(text), name
    lottery = "12 trials would be ahead of its control in 92 of 100 sweeps, by luck alone"
    for name in ("page", "json", "report 80", "report 200", "run 80", "run 200", "trials.md"):
        assert lottery in plain(said[name]), name
    # Shown once where people read it, not on each line.
    assert plain(said["run 80"]).count("by luck alone") == 1
    answer = to_json(load(experiment.path))["answer"]
    assert answer["by_luck"] == pytest.approx(12 / 13)


def test_the_best_of_noise_is_ahead_of_its_control_as_often_as_said(new_story: Any) -> None:
    """The share that is named is what happens."""
    drawn, ahead = random.Random(0), 0
    for _ in range(2000):
        control, *trials = (drawn.gauss(0, 1) for _ in range(13))
        ahead += max(trials) > control
    assert ahead / 2000 == pytest.approx(12 / 13, abs=0.02)


@pytest.fixture
def won_by_a_control(story: Any) -> Any:
    """The quick start's sweep: the smallest network, without a teacher, is the best."""
    metrics = ["student/miou", "student/params_m"]
    story.sweep(trials=3, num_controls=2, metrics=metrics, epochs=3).session()
    story.trial(0, teacher=None).run(0, [0.1, 0.15, 0.17], costs=LARGE)
    story.trial(1, teacher=None, student="mobilenet_v2").run(1, [0.1, 0.18, 0.191], costs=SMALL)
    story.trial(2, control=0).run(2, [0.1, 0.15, 0.182], costs=LARGE)
    story.trial(3, control=1, student="mobilenet_v2").run(3, [0.1, 0.16, 0.171], costs=SMALL)
    story.trial(4, control=1, student="mobilenet_v2").run(4, [0.08], "asha", costs=SMALL)
    return story.add("done")


def test_a_control_that_wins_is_named_everywhere(tmp_path: Path, won_by_a_control: Any) -> None:
    experiment = write(tmp_path, won_by_a_control)
    for number in range(5):
        folder = experiment.trial(number).best
        folder.mkdir(parents=True)
        (folder / WEIGHTS).write_bytes(b"")
    assert best_trial(experiment) == 1
    results = load(experiment.path)
    assert results.front["trial"].tolist() == [1]
    assert [row["number"] for row in read_status(experiment.path).front] == [1]
    said = {name: plain(text) for name, text in outputs(experiment).items()}
    for name in ("page", "report 80", "run 200", "status 80", "status 200", "live", "list 200"):
        assert "mobilenet_v2 without a teacher" in said[name], name
    for name in ("report 80", "run 200", "page"):
        assert (
            "None of its 2 trainings with a teacher was ahead of it at equal epochs in this "
            "sweep: trial 3 (resnet34→mobilenet_v2) was 0.020 behind it; one training each is no "
            "proof."
        ) in said[name], name
        assert "One student is ahead in everything: mIoU 0.191 at 6.60 M parameters" in said[name]
    answer = verdict(results)
    assert answer is not None
    assert answer.settling is not None
    # The second of those with a teacher, which is the best of the network in question.
    assert (answer.settling.trial, answer.num_compared) == (3, 2)
    assert answer.settling.command.endswith("--top 2 --seeds 5")
    assert answer.settling.hours == pytest.approx(2 * 5 * 2 * 3 * 36 / 3600)
    assert "trial 1, which learns without a teacher." in said["page"]
    pairs = results.pairs[["teacher", "student", "num_trials", "best_trial"]]
    first = pairs.iloc[0].to_dict()
    assert first.pop("teacher") != first["student"]
    assert first == {"student": "mobilenet_v2", "num_trials": 1, "best_trial": 1}


def test_the_command_that_settles_it_names_the_trial_and_its_hours(
    tmp_path: Path, story: Any
) -> None:
    story.sweep(trials=2, epochs=3).session()
    story.trial(0, teacher=None).run(0, [0.3, 0.3, 0.3])
    story.trial(1, control=0).run(1, [0.3, 0.4, 0.5])  # 3 epochs of 36 s
    story.trial(2, control=0).run(2, [0.2], "asha")
    experiment = write(tmp_path, story.add("done"))
    answer = verdict(load(experiment.path))
    assert answer is not None
    assert answer.settling is not None
    assert answer.settling.trial == 1
    assert answer.settling.hours == pytest.approx(2 * 5 * 3 * 36 / 3600)
    assert answer.settling.command.endswith("--top 1 --seeds 5")
    assert str(answer.settle).endswith(f"(about 18.0 min of training): {answer.settling.command}")


def test_what_was_stopped_counts_as_if_trained_to_its_end(tmp_path: Path, story: Any) -> None:
    """Hours of a confirmation are those of full trainings."""
    story.sweep(trials=1, epochs=3).session()
    story.trial(0, teacher=None).run(0, [0.3, 0.3, 0.6])
    story.trial(1, control=0).run(1, [0.5], "asha")
    experiment = write(tmp_path, story.add("done"))
    answer = verdict(load(experiment.path))
    assert answer is not None
    assert answer.settling is not None
    assert answer.settling.hours == pytest.approx(2 * 5 * 3 * 36 / 3600)
    assert "0.200 ahead of it after 1 of 3 epochs" in answer.teacher
    assert "none ended above it" in answer.teacher
    assert "a single trial would be ahead of its control in 50 of 100 sweeps" in answer.teacher


def test_values_of_unlike_trainings_stand_with_their_epochs(tmp_path: Path, story: Any) -> None:
    experiment = write(tmp_path, noise(story, 0))
    results = load(experiment.path)
    said = {name: plain(text) for name, text in outputs(experiment).items()}
    assert "3 of 12" in said["page"]
    for width in (80, 200):
        text = plain(printed(lambda c: render(results, c, 20), width=width))
        assert text.count("3 of 12") >= 3, width
        assert "3 to 12 of 12" in text, width
    rows = to_json(results)
    short = [row for row in rows["trials"] if row["epochs"] < row["planned_epochs"]]
    assert {row["number"] for row in short} == {4, 8, 12}
    assert {(row["least_epochs"], row["most_epochs"]) for row in rows["pairs"]} == {
        (12, 12), (3, 12)
    }  # fmt: skip


def test_a_best_trial_that_was_stopped_says_after_how_many_epochs(
    tmp_path: Path, story: Any
) -> None:
    story.sweep(trials=2, epochs=12).session()
    story.trial(1, train={"epochs": 12}).run(1, [0.5], "asha")
    story.trial(2, train={"epochs": 12}).run(2, [0.3] * 12)
    said = outputs(write(tmp_path, story.add("done")))
    for name in ("page", "json", "live", "report 80", "run 80", "status 80", "list 200"):
        assert "after 1 of 12 epochs" in plain(said[name]), name


def test_a_confirmed_interval_takes_the_place_of_the_single_gain(
    tmp_path: Path, mixed: Any, new_story: Any
) -> None:
    source = write(tmp_path, mixed.add("done"), "roads")
    again = new_story().sweep(trials=3, num_controls=3, epochs=1).session()
    for seed, gain in enumerate((0.01, 0.03, 0.02)):
        number = 2 * seed
        again.trial(number, control=number + 1, params={"job": "trial 0001", "train.seed": seed})
        again.trial(number + 1, teacher=None)
        again.run(number + 1, [0.4]).run(number, [0.4 + gain])
    made = write(tmp_path, again.add("done"), "roads-confirm")
    origin = {"experiment": str(source.path), "trials": {"trial 0001": {}}}
    made.spec_json.write_text(json.dumps({"name": "again", "jobs": {}, "origin": origin}))
    results = load(source.path)
    answer = verdict(results)
    assert answer is not None
    (claim,) = results.summary.claims_of(1)
    assert claim.claim in answer.teacher
    assert "0.050" not in answer.teacher
    assert answer.settle is None
    page = outputs(source)["page"]
    assert "gain, validation +0.020 95 %: -0.005 to +0.045, trial 0001, 3 seeds" in page
    assert "0.050 ahead" not in page


@pytest.mark.ray
@pytest.mark.slow
def test_a_real_sweep_that_distils_nothing_shows_no_gain(tmp_path: Path, tiny_data: Path) -> None:
    """At a weight of 1e-12 the teacher changes nothing; the seeds alone do."""
    space = {
        "name": "nothing",
        "data": {
            "source": "folder",
            "path": str(tiny_data),
            "image_size": [32, 32],
            "split": {"val": 0.34, "block": 2},
            "cache": str(tmp_path / "cache"),
        },
        "teacher": {"encoder": "resnet18", "options": SMALL_NETWORK},
        "student": {"encoder": "mobilenet_v2", "options": SMALL_NETWORK},
        "distill": {"pixel_kl": {"weight": 1e-12}},
        "train": {"epochs": 3, "batch_size": 4, "lr": 0.003, "seed": {"values": [0, 1, 2, 3]}},
        "sweep": {"trials": 3, "reduction_factor": 2, "seed": 1, "max_concurrent": 2},
        "tracking": {"wandb": {"mode": "off"}},
    }
    kdsweep.run(space, experiments=tmp_path / "experiments")
    (ledger,) = (tmp_path / "experiments").glob("2*/ledger.jsonl")
    experiment = Experiment(ledger.parent)
    said = outputs(experiment)
    for number in (None, 0):  # the best one, and the control
        exported = kdsweep.export(experiment.path, trial=number, format="torch")
        said[f"card {number}"] = (exported.folder / "MODEL_CARD.md").read_text()
    for name, text in said.items():
        assert not AS_A_FACT.search(plain(text)), name
        assert not GREEN.search(text), name
    assert "Trained without a teacher." in said["card 0"]
    for name in ("page", "json", "report 80", "run 200"):
        assert "by luck alone" in plain(said[name]), name
