"""Sharing machines out among trials."""

import pytest

from kdsweep.config.sweep import ResourcesConfig
from kdsweep.errors import ResourceError
from kdsweep.sweep.resources import Node, Plan, plan


@pytest.mark.parametrize(
    ("nodes", "config", "max_concurrent", "expected"),
    [
        # Without GPUs: a quarter of the cores, at most four.
        ([(1, 0)], {}, None, Plan(1, 1, 0.0)),
        ([(2, 0)], {}, None, Plan(2, 1, 0.0)),
        ([(8, 0)], {}, None, Plan(4, 2, 0.0)),
        ([(16, 0)], {}, None, Plan(4, 4, 0.0)),
        ([(64, 0)], {}, None, Plan(16, 4, 0.0)),
        ([(8, 0)], {"cpus_per_trial": 3}, None, Plan(2, 3, 0.0)),
        ([(8, 0)], {}, 2, Plan(2, 4, 0.0)),
        ([(2, 0)], {}, 5, Plan(2, 1, 0.0)),
        ([(8, 0), (8, 0)], {}, None, Plan(8, 2, 0.0)),
        # With GPUs: an even share of the machine's cores.
        ([(16, 1)], {}, None, Plan(1, 16, 1.0)),
        ([(16, 4)], {}, None, Plan(4, 4, 1.0)),
        ([(16, 1)], {"gpus_per_trial": 0.25}, None, Plan(4, 4, 0.25)),
        ([(16, 1)], {"gpus_per_trial": 0.2}, None, Plan(5, 3, 0.2)),
        ([(12, 1)], {"gpus_per_trial": 1 / 3}, None, Plan(3, 4, 1 / 3)),
        ([(16, 2)], {"gpus_per_trial": 0.4}, None, Plan(4, 4, 0.4)),
        ([(16, 2)], {"gpus_per_trial": 0.7}, None, Plan(2, 8, 0.7)),
        ([(16, 4)], {"gpus_per_trial": 2.0}, None, Plan(2, 8, 2.0)),
        ([(16, 3)], {"gpus_per_trial": 2.0}, None, Plan(1, 16, 2.0)),
        ([(4, 1)], {"gpus_per_trial": 0.1}, None, Plan(4, 1, 0.1)),
        ([(16, 4), (64, 0)], {}, None, Plan(4, 4, 1.0)),
        ([(16, 4), (8, 4)], {}, None, Plan(8, 2, 1.0)),
        ([(16, 4)], {}, 3, Plan(3, 4, 1.0)),
    ],
)
def test_plans(nodes, config, max_concurrent, expected):
    machines = [Node(f"node{i}", cpus, gpus) for i, (cpus, gpus) in enumerate(nodes)]
    assert plan(machines, ResourcesConfig(**config), max_concurrent) == expected
    assert expected.device == ("cuda" if expected.gpus_per_trial else "cpu")


@pytest.mark.parametrize(
    ("nodes", "config"),
    [
        ([(2, 0)], {"cpus_per_trial": 3}),
        # Enough in all, but on no single machine.
        ([(4, 0), (4, 0)], {"cpus_per_trial": 6}),
        ([(16, 1), (16, 1)], {"gpus_per_trial": 2.0}),
        ([(16, 4), (64, 0)], {"gpus_per_trial": 8.0}),
        ([(2, 1)], {"cpus_per_trial": 4}),
    ],
)
def test_a_trial_that_fits_on_no_machine_is_an_error_that_names_the_machines(nodes, config):
    machines = [Node(f"node{i}", cpus, gpus) for i, (cpus, gpus) in enumerate(nodes)]
    with pytest.raises(ResourceError, match="wait for ever") as raised:
        plan(machines, ResourcesConfig(**config))
    assert all(f"node{i}" in str(raised.value) for i in range(len(nodes)))
    assert raised.value.exit_code == 2


def test_more_than_one_gpu_must_be_whole():
    config = ResourcesConfig.model_construct(gpus_per_trial=1.5, cpus_per_trial=None)
    with pytest.raises(ResourceError, match=r"1\.5 GPUs"):
        plan([Node("a", 8, 4)], config)
