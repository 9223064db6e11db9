"""What ``kdsweep init`` gives up where hours are few, on made-up steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from step_costs import GIB, make_cost

from kdsweep.config import Job, load_space
from kdsweep.errors import ConfigError
from kdsweep.sweep.first_size import fit
from kdsweep.training.step_cost import StepCost
from kdsweep.trial import machine as machines
from kdsweep.trial import parallel_timing
from kdsweep.trial.machine import Machine

SIZE = [128, 192]


def cost_of(job: Job) -> StepCost:
    """Steps of which two seconds do not depend on the image, and the rest on its pixels."""
    height, width = job.data.image_size
    step_s = 2.0 + 3.5 * height * width / (SIZE[0] * SIZE[1])
    return make_cost(
        num_batches=10,
        teacher_s=step_s,
        student_s=step_s / 2,
        control_s=step_s / 4,
        head_start_s=step_s,
        student_bytes=GIB,
        start_s=5.0,
    )


@pytest.fixture(autouse=True)
def timed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The image sizes that steps were timed at."""
    sizes: list[tuple[int, int]] = []

    def measure(jobs: Sequence[Job], *_: Any, **__: Any) -> list[StepCost]:
        sizes.append(jobs[0].data.image_size)
        return [cost_of(job) for job in jobs]

    machine = Machine(2, "a processor", 100 * GIB, (), 0)
    monkeypatch.setattr(machines, "this_machine", lambda: machine)
    monkeypatch.setattr(parallel_timing, "measure_in_parallel", measure)
    return sizes


def make_tree(**distill: Any) -> dict[str, Any]:
    return {
        "name": "mine",
        "data": {"source": "roadscenes", "scenes": 40, "image_size": list(SIZE)},
        "teacher": {"encoder": "resnet18"},
        "student": {"encoder": "resnet18"},
        "distill": {
            **distill,
            "pixel_kl": {"weight": {"min": 0.1, "max": 10, "distribution": "log_uniform_values"}},
        },
        "train": {"epochs": 90, "batch_size": 4},
        "sweep": {"trials": 40, "students_per_teacher": "auto", "controls": "paired"},
    }


def fitted(tree: dict[str, Any], hours: float, *, fixed: bool = False) -> str:
    lines = fit(tree, hours, lambda doing: None, fixed_size=fixed)
    load_space(tree)
    return "\n".join(lines)


def test_with_many_hours_nothing_is_given_up() -> None:
    tree = make_tree()
    said = fitted(tree, 8)
    assert (tree["data"]["image_size"], tree["train"]["epochs"]) == (SIZE, 90)
    assert tree["sweep"]["trials"] > 4
    assert "not 90" not in said


def test_with_fewer_hours_the_images_are_smaller(timed: list[tuple[int, int]]) -> None:
    tree = make_tree()
    fitted(tree, 1.1)
    assert 64 <= tree["data"]["image_size"][0] < SIZE[0]
    assert len(timed) > 1
    assert tree["train"]["epochs"] >= 30
    assert tree["sweep"]["trials"] >= 5


def test_with_few_hours_the_epochs_are_fewer_and_nothing_is_timed_again(
    timed: list[tuple[int, int]],
) -> None:
    tree = make_tree()
    said = fitted(tree, 0.6, fixed=True)
    epochs = tree["train"]["epochs"]
    assert tree["data"]["image_size"] == SIZE
    assert 5 <= epochs < 30
    assert f"{epochs} epochs, not 90" in said
    assert len(timed) == 1


def test_smaller_images_and_fewer_epochs_together(timed: list[tuple[int, int]]) -> None:
    tree = make_tree()
    said = fitted(tree, 0.8)
    assert tree["data"]["image_size"] < SIZE
    assert f"{tree['train']['epochs']} epochs, not 90" in said
    assert len(timed) > 1


def test_a_teacher_that_trains_first_does_so_for_as_few_epochs() -> None:
    tree = make_tree(teacher="frozen", head_start_epochs=90)
    fitted(tree, 1, fixed=True)
    assert 5 <= tree["train"]["epochs"] < 30
    assert tree["distill"]["head_start_epochs"] == tree["train"]["epochs"]


def test_below_the_least_it_refuses_by_its_own_flags() -> None:
    with pytest.raises(ConfigError) as raised:
        fitted(make_tree(), 0.01, fixed=True)
    said = str(raised.value)
    assert "even 4 trials of 5 epochs on images of 128×192" in said
    assert "at least --hours" in said
    assert "--image-size" in said
    assert "train.epochs" not in said
    least = float(said.split("at least --hours ")[1].split()[0])
    tree = make_tree()
    assert "are no real choice" in fitted(tree, least + 0.01, fixed=True)
    assert (tree["train"]["epochs"], tree["sweep"]["trials"]) == (5, 4)
