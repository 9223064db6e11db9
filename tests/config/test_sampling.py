"""Which sampler ``auto`` stands for."""

import copy

import pytest

from kdsweep.config import load_space
from kdsweep.config.sampling import sampler_of

RATE = {"min": 1.0e-4, "max": 1.0e-1, "distribution": "log_uniform_values"}
TREE = {
    "data": {"source": "roadscenes", "image_size": [32, 32]},
    "teacher": {"encoder": "resnet34"},
    "student": {"encoder": {"values": ["resnet18", "mobilenet_v2"]}},
    "distill": {"pixel_kl": {"weight": {"min": 0.1, "max": 10.0}}},
    "train": {"lr": RATE, "epochs": 3},
}


def space(**sections):
    tree = copy.deepcopy(TREE)
    for name, value in sections.items():
        tree.setdefault(name, {}).update(value)
    return load_space(tree)


def test_a_gaussian_process_draws_the_first_of_a_plain_space():
    plain = space()
    assert [sampler_of(plain, number) for number in (0, 199, 200)] == ["gp", "gp", "tpe"]


@pytest.mark.parametrize(
    "sections",
    [
        {"distill": {"pixel_kl": {"weight": {"values": [0, {"min": 1.0, "max": 2.0}]}}}},
        {"train": {"lr": 1.0e-3}, "distill": {"pixel_kl": {"weight": {"values": [1.0, 2.0]}}}},
        {"sweep": {"metric": ["student/miou", "student/params_m"]}},
        {"sweep": {"constraints": {"student/params_m": "<= 20"}}},
    ],
    ids=["conditional", "finite", "two metrics", "bounded"],
)
def test_tpe_draws_where_it_learns_more(sections):
    assert sampler_of(space(**sections)) == "tpe"


@pytest.mark.parametrize("name", ["tpe", "random", "gp", "nsga2"])
def test_a_named_sampler_is_kept(name):
    assert sampler_of(space(sweep={"sampler": name}), 500) == name
