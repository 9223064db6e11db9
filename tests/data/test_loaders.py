"""Batches: the same ones whatever the number of loader processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import make_data
import numpy as np
import pytest
import torch

from kdsweep.data import Batch, EvalLoader, Split, TrainLoader

SIZE = (24, 32)
NUM_FRAMES = 11


@pytest.fixture
def split(tmp_path: Path) -> Split:
    names = [f"frame_{i}" for i in range(NUM_FRAMES)]
    made = Split.create(tmp_path, names, SIZE)
    for index in range(NUM_FRAMES):
        made.images_NHWC[index] = make_data.picture(index, SIZE)
        made.labels_NHW[index] = make_data.ids(index, 5, SIZE)
    made.flush()
    return Split.open(tmp_path)


@pytest.fixture
def loaders() -> Iterator[list[TrainLoader | EvalLoader]]:
    """Collects loaders, and ends their processes."""
    made: list[TrainLoader | EvalLoader] = []
    yield made
    for loader in made:
        loader.close()


def _same(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a, b)
        for x, y in zip(first, second, strict=True)
        for a, b in zip(x, y, strict=True)
    )


def test_short_epochs_go_on_where_the_last_one_ended(split: Split) -> None:
    loader = TrainLoader(split, 2, "none", seed=3, epoch_frames=5)
    whole = TrainLoader(split, 2, "none", seed=3)
    assert (len(loader), len(whole)) == (2, 5)
    short = [batch for epoch in range(5) for batch in loader.epoch(epoch)]
    assert _same(short, [batch for epoch in range(2) for batch in whole.epoch(epoch)])


@pytest.mark.parametrize("preset", ["none", "standard", "strong"])
def test_worker_count_changes_nothing(
    split: Split, preset: str, loaders: list[TrainLoader | EvalLoader]
) -> None:
    here = TrainLoader(split, 3, preset, seed=7, workers=0)
    there = TrainLoader(split, 3, preset, seed=7, workers=2)
    loaders.append(there)
    for epoch in (0, 1, 4):
        assert _same(list(here.epoch(epoch)), list(there.epoch(epoch)))


@pytest.mark.parametrize("preset", ["none", "standard", "strong"])
def test_worker_count_changes_nothing_on_a_device(
    split: Split, preset: str, loaders: list[TrainLoader | EvalLoader]
) -> None:
    device = torch.device("cpu")
    here = TrainLoader(split, 3, preset, seed=7, workers=0, device=device)
    there = TrainLoader(split, 3, preset, seed=7, workers=2, device=device)
    loaders.append(there)
    for epoch in (0, 1, 4):
        assert _same(list(here.epoch(epoch)), list(there.epoch(epoch)))


def test_batches_augmented_on_a_device_hold_the_frames_of_the_cpu(split: Split) -> None:
    here = list(TrainLoader(split, 3, "light", seed=7).epoch(2))
    there = list(TrainLoader(split, 3, "light", seed=7, device=torch.device("cpu")).epoch(2))
    assert _same(here, there)
    plain = list(TrainLoader(split, 3, "none", seed=7).epoch(2))
    assert not _same(here, plain)


def test_a_frame_on_a_device_does_not_depend_on_the_batch_size(split: Split) -> None:
    frames = []
    for batch_size in (2, 5):
        loader = TrainLoader(split, batch_size, "strong", seed=7, device=torch.device("cpu"))
        frames.append(
            {
                index: (image, labels)
                for batch in loader.epoch(0)
                for image, labels, index in zip(
                    batch.images_BHWC, batch.labels_BHW, batch.indices_B.tolist(), strict=True
                )
            }
        )
    both = frames[0].keys() & frames[1].keys()
    assert len(both) > 5
    for index in both:
        for first, second in zip(frames[0][index], frames[1][index], strict=True):
            assert torch.equal(first, second)


def test_a_batch_depends_on_seed_epoch_and_place_alone(split: Split) -> None:
    loader = TrainLoader(split, 4, "standard", seed=1)
    later = list(loader.epoch(5))
    list(loader.epoch(2))
    again = list(TrainLoader(split, 4, "standard", seed=1).epoch(5))
    assert _same(later, again)
    assert not _same(later, list(loader.epoch(6)))
    assert not _same(later, list(TrainLoader(split, 4, "standard", seed=2).epoch(5)))


def test_epochs_shuffle_and_leave_out_the_rest(split: Split) -> None:
    loader = TrainLoader(split, 4, "none", seed=0)
    assert len(loader) == 2
    orders = []
    for epoch in range(6):
        batches = list(loader.epoch(epoch))
        assert [len(batch.indices_B) for batch in batches] == [4, 4]
        orders.append(torch.cat([batch.indices_B for batch in batches]).tolist())
        assert len(set(orders[-1])) == 8
    assert len({tuple(order) for order in orders}) == 6
    # Whatever is left out differs from epoch to epoch.
    assert {i for order in orders for i in order} == set(range(NUM_FRAMES))


def test_a_split_smaller_than_a_batch_gives_one(split: Split) -> None:
    loader = TrainLoader(split, 64, "light", seed=0)
    assert len(loader) == 1
    (batch,) = loader.epoch(0)
    assert sorted(batch.indices_B.tolist()) == list(range(NUM_FRAMES))


def test_batches_hold_what_the_split_holds(split: Split) -> None:
    for batch in TrainLoader(split, 4, "none", seed=0).epoch(0):
        assert batch.images_BHWC.dtype == batch.labels_BHW.dtype == torch.uint8
        assert batch.indices_B.dtype == torch.int64
        assert batch.images_BHWC.shape == (4, *SIZE, 3)
        for place, index in enumerate(batch.indices_B.tolist()):
            assert np.array_equal(batch.images_BHWC[place].numpy(), split.images_NHWC[index])
            assert np.array_equal(batch.labels_BHW[place].numpy(), split.labels_NHW[index])


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_sees_all_frames_in_order(
    split: Split, workers: int, loaders: list[TrainLoader | EvalLoader]
) -> None:
    loader = EvalLoader(split, 4, workers=workers)
    loaders.append(loader)
    for _ in range(2):
        batches = list(loader)
        assert [len(batch.indices_B) for batch in batches] == [4, 4, 3]
        assert torch.cat([b.indices_B for b in batches]).tolist() == list(range(NUM_FRAMES))
        images = torch.cat([batch.images_BHWC for batch in batches]).numpy()
        assert np.array_equal(images, split.images_NHWC)
    assert len(loader) == 3


def test_batches_do_not_share_memory(split: Split) -> None:
    batches = list(EvalLoader(split, 4))
    batches[0].images_BHWC.zero_()
    assert batches[1].images_BHWC.any()
    assert split.images_NHWC[0].any()


def test_an_epoch_may_be_left_early(split: Split, loaders: list[TrainLoader | EvalLoader]) -> None:
    loader = TrainLoader(split, 2, "standard", seed=3, workers=2)
    loaders.append(loader)
    next(iter(loader.epoch(0)))
    full = list(TrainLoader(split, 2, "standard", seed=3).epoch(1))
    assert _same(list(loader.epoch(1)), full)


def test_closing_ends_the_processes_and_can_be_undone(split: Split) -> None:
    import multiprocessing

    before = set(multiprocessing.active_children())
    loader = TrainLoader(split, 3, "none", seed=0, workers=2)
    first = list(loader.epoch(0))
    started = set(multiprocessing.active_children()) - before
    assert len(started) == 2
    list(loader.epoch(1))
    assert set(multiprocessing.active_children()) - before == started
    loader.close()
    deadline = time.monotonic() + 20
    while any(process.is_alive() for process in started) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(process.is_alive() for process in started)
    assert _same(list(loader.epoch(0)), first)
    loader.close()


@pytest.mark.parametrize("device", [None, torch.device("cpu")])
@pytest.mark.parametrize("workers", [0, 2])
def test_global_generators_are_left_alone(
    split: Split,
    workers: int,
    device: torch.device | None,
    loaders: list[TrainLoader | EvalLoader],
) -> None:
    # Dropout draws from torch's generator: it must not depend on how batches are made.
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    loader = TrainLoader(split, 3, "strong", seed=0, workers=workers, device=device)
    loaders.append(loader)
    list(loader.epoch(0))
    list(loader.epoch(1))
    assert torch.equal(torch.rand(3), expected)


def test_pinned_memory_without_cuda_is_passed_over(split: Split) -> None:
    (batch, *_) = TrainLoader(split, 3, "none", seed=0, pin_memory=True).epoch(0)
    assert batch.images_BHWC.is_pinned() == torch.cuda.is_available()


@pytest.mark.parametrize("workers", [0, 2])
def test_what_goes_to_a_device_is_pinned_too(
    split: Split, workers: int, loaders: list[TrainLoader | EvalLoader]
) -> None:
    device = torch.device("cpu")
    loader = TrainLoader(
        split, 3, "standard", seed=0, workers=workers, pin_memory=True, device=device
    )
    loaders.append(loader)
    (made, *_) = loader.host_batches(0)
    assert made.draws is not None
    assert made.draws.numbers.is_pinned() == torch.cuda.is_available()


KILLED = """
import os, signal, sys
from pathlib import Path
from kdsweep.data import Split, TrainLoader

if __name__ == "__main__":
    split = Split.create(Path(sys.argv[1]), ["a", "b"], (8, 8))
    batches = TrainLoader(split, 1, "none", seed=0, workers=1).epoch(0)
    next(batches)
    (child,) = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    os.kill(int(child), signal.SIGSTOP)
    print(child, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_a_stopped_process_goes_with_its_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(KILLED)
    folder = tmp_path / "split"
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        child = process.stdout.readline().strip()
    assert process.wait() == -signal.SIGKILL
    stat = Path(f"/proc/{child}/stat")
    deadline = time.monotonic() + 20
    while stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z":
        assert time.monotonic() < deadline, "it is still there"
        time.sleep(0.1)
