"""``kdsweep init``: from a folder of data to a search space that runs."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import make_data
import numpy as np
import pytest
from cli_run import Run

from kdsweep.config import load_space
from kdsweep.data.dataset import count_frames
from kdsweep.models.pretrained import can_fetch

STEMS = [f"{number:03d}" for number in range(12)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDSWEEP_CACHE", str(tmp_path / "cache"))


def voc(root: Path) -> Path:
    for number, stem in enumerate(STEMS):
        make_data.save(root / "JPEGImages" / f"{stem}.jpg", make_data.picture(number))
        make_data.save(root / "SegmentationClass" / f"{stem}.png", make_data.ids(number, 3))
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("\n".join(STEMS[:8]))
    (lists / "val.txt").write_text("\n".join(STEMS[8:]))
    return root


def own_split(root: Path) -> Path:
    for number, stem in enumerate(STEMS):
        part = "val" if number > 8 else "train"
        make_data.save(root / part / "images" / f"{stem}.png", make_data.picture(number))
        make_data.save(root / part / "masks" / f"{stem}.png", make_data.ids(number, 3))
    return root


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "folder": lambda root: make_data.folder(root, STEMS),
    "folder_with_names": lambda root: make_data.folder(root, STEMS, classes="names: [a, b, c]"),
    "camvid": lambda root: make_data.camvid(root, num_train=8),
    "cityscapes": lambda root: make_data.cityscapes(root, num_train=8),
    "lyft": lambda root: make_data.lyft_part(root / "dataA", STEMS).parent,
    "voc": voc,
    "own_split": own_split,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_gives_a_space_that_validates(
    kdsweep: Run, tmp_path: Path, layout: str
) -> None:
    root = LAYOUTS[layout](tmp_path / "data")
    done = kdsweep(
        *("init", root, "--no-weights", "--no-measure", "--to", "mine.yaml"),
        *("--set", "data.accept=[overlap]"),  # the frames of both splits are made alike
    )
    assert done.returncode == 0, done.stderr
    assert "kdsweep run mine.yaml --hours 8" in done.stdout
    assert "Hours that the sweep may take: 8 (change it with --hours)" in done.stdout
    text = (tmp_path / "mine.yaml").read_text()
    assert len([line for line in text.splitlines() if " # " in line]) > 3
    checked = kdsweep("validate", "mine.yaml")
    assert checked.returncode == 0, checked.stderr
    assert "validation frames found" in checked.stdout
    space = load_space(tmp_path / "mine.yaml")
    assert space.name == "mine"
    assert not any(side % 32 for side in space.tree["data"]["image_size"])


def test_wishes_stand_in_the_space(kdsweep: Run, tmp_path: Path) -> None:
    root = make_data.folder(tmp_path / "data", STEMS)
    more = tmp_path / "more"
    for number in range(4):
        make_data.save(more / f"{number}.png", make_data.picture(100 + number))
    done = kdsweep(
        *("init", root, "--no-weights", "--no-measure", "--image-size", "64,96"),
        *("--unlabelled", more, "--max-params", "5", "--hours", "3"),
    )
    assert done.returncode == 0, done.stderr
    assert "kdsweep run data.yaml --hours 3" in done.stdout
    space = load_space(tmp_path / "data.yaml")
    tree = space.tree
    assert tree["data"]["image_size"] == [64, 96]
    assert tree["data"]["unlabelled"] == str(more)
    assert tree["distill"]["teacher"] == "frozen"
    assert space.sweep.constraints == {"student/params_m": "<= 5"}
    assert kdsweep("validate", "data.yaml").returncode == 0


def test_images_without_masks_are_learnt_from(kdsweep: Run, tmp_path: Path) -> None:
    root = make_data.folder(tmp_path / "data", STEMS)
    for stem in STEMS[8:]:
        (root / "masks" / f"{stem}.png").unlink()
    done = kdsweep("init", root, "--no-weights", "--no-measure")
    assert done.returncode == 0, done.stderr
    assert "4 images have no mask" in done.stdout
    tree = load_space(tmp_path / "data.yaml").tree
    assert tree["data"]["skip_unlabelled"] is True
    assert tree["data"]["unlabelled"] == str(root / "images")
    assert tree["distill"]["teacher"] == "frozen"
    checked = kdsweep("validate", "data.yaml")
    assert checked.returncode == 0, checked.stderr
    counts = count_frames(next(load_space(tmp_path / "data.yaml").corners()).data)
    # Frames with a mask, those of validation above all, are not among them.
    assert (counts.num_train + counts.num_val, counts.num_unlabelled) == (8, 4)


def test_images_without_masks_can_be_left_out(kdsweep: Run, tmp_path: Path) -> None:
    root = make_data.folder(tmp_path / "data", STEMS)
    for stem in STEMS[8:]:
        (root / "masks" / f"{stem}.png").unlink()
    done = kdsweep("init", root, "--no-weights", "--no-measure", "--unlabelled", "none")
    assert done.returncode == 0, done.stderr
    tree = load_space(tmp_path / "data.yaml").tree
    assert tree["data"].get("unlabelled") is None
    assert tree["distill"].get("teacher") != "frozen"


def test_nothing_is_overwritten(kdsweep: Run, tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("mine")
    root = make_data.folder(tmp_path / "data", STEMS)
    done = kdsweep("init", root, "--no-measure")
    assert done.returncode == 2
    assert "data.yaml: there already" in done.stderr
    assert (tmp_path / "data.yaml").read_text() == "mine"


def test_data_that_a_sweep_would_refuse_are_refused(kdsweep: Run, tmp_path: Path) -> None:
    root = make_data.folder(tmp_path / "data", STEMS, classes="names: [background, road]")
    for number, stem in enumerate(STEMS):
        mask = np.where(make_data.ids(number, 2) == 1, np.uint8(255), np.uint8(0))
        make_data.save(root / "masks" / f"{stem}.png", mask)
    done = kdsweep("init", root, "--no-measure")
    assert done.returncode == 2
    assert "should not be trained on" in done.stderr
    assert not (tmp_path / "data.yaml").exists()


def test_no_network_is_noticed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert not can_fetch()


def test_a_terminal_is_asked(tmp_path: Path) -> None:
    make_data.folder(tmp_path / "data", STEMS)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "kdsweep", "init", "data", "--no-measure", "--no-weights"]
    os.write(ours, b"2\nnowhere\nnone\nmany\n7\n")
    with subprocess.Popen(
        command, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                said += os.read(ours, 4096)
            except OSError:  # it has ended
                break
    os.close(ours)
    assert process.returncode == 0, said.decode()
    assert b"no folder nowhere" in said
    assert b"not a number: many" in said
    assert b"--hours 2" in said
    constraints = load_space(tmp_path / "data.yaml").sweep.constraints
    assert constraints == {"student/params_m": "<= 7"}


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_what_was_written_runs(kdsweep: Run, tmp_path: Path) -> None:
    root = make_data.folder(tmp_path / "data", STEMS)
    done = kdsweep("init", root, "--no-weights", "--hours", "0.5")
    assert done.returncode == 0, done.stderr
    assert "trials of" in done.stdout
    small = ("train.epochs=2", "sweep.trials=2", "tracking.wandb.mode=off")
    run = kdsweep("run", "data.yaml", *(word for text in small for word in ("--set", text)))
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "experiments" / "latest" / "report" / "index.html").is_file()
