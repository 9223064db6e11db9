"""What a sweep keeps on the disk, told before it starts."""

import torch
from tiny_job import make_job
from torch import nn

from kdsweep.sweep.room import bytes_to_keep, warn_of_room
from kdsweep.training.checkpoint import save_state
from kdsweep.trial import check_job, network_bytes, static_costs


def test_what_is_kept_is_about_what_is_written(tmp_path):
    network = nn.Conv2d(64, 64, 9)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.zeros(1, 64, 9, 9)).sum().backward()
    optimizer.step()
    state = {"weights": network.state_dict(), "moments": optimizer.state_dict()}
    save_state(tmp_path, state)
    written = sum(file.stat().st_size for file in tmp_path.iterdir())
    weights = sum(p.nbytes for p in network.parameters())
    # One slot with one student keeps three such checkpoints for a moment, and one trial's weights.
    expected = 3 * written + weights
    assert abs(bytes_to_keep((0, weights), 1, 1, 1) / expected - 1) < 0.02


def test_each_slot_has_a_teacher_and_its_students():
    teacher, student = 100, 10
    one = bytes_to_keep((teacher, student), 1, 2, 0)
    assert one == 9 * 120
    assert bytes_to_keep((teacher, student), 4, 2, 50) == 4 * one + 50 * student


def test_the_warning(tmp_path):
    assert warn_of_room(tmp_path, 0) is None
    said = warn_of_room(tmp_path, 10**18)
    assert "1000000000.0 GB" in said
    assert str(tmp_path) in said


def test_networks_that_were_checked(tmp_path):
    job = make_job(tmp_path, tmp_path)
    check_job(job)
    cost = static_costs([job], 2)[0]["student/params_m"]
    teacher, student = network_bytes([job])
    assert abs(student / (4e6 * cost) - 1) < 0.05
    assert teacher >= student
