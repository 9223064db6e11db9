"""Encoders of timm that are built for one size of image: told the job's, or refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_job import make_job

import kdsweep
from kdsweep.config import load_space
from kdsweep.errors import ConfigError
from kdsweep.models import build_network, inspect_network
from kdsweep.models.fixed_size import size_options
from kdsweep.trial import check_job, check_jobs

SIZES = ((64, 96), (256, 512))
BUILT = (
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
    "maxvit_tiny_tf_224",
    "coatnet_nano_rw_224",
    "hiera_tiny_224",
    "gcvit_xxtiny",
    "efficientformerv2_s0",
)
REFUSED = ("nest_tiny", "efficientformer_l1")


@pytest.mark.parametrize("encoder", [pytest.param(e, marks=pytest.mark.slow) for e in BUILT[2:]]
                         + list(BUILT[:2]))  # fmt: skip
@pytest.mark.parametrize("size", SIZES)
def test_what_timm_can_build_for_a_size_is_built_for_it(
    encoder: str, size: tuple[int, int]
) -> None:
    network = inspect_network("fpn", f"tu-{encoder}", 3, image_size=size)
    images = torch.zeros((2, *size, 3), dtype=torch.uint8, device="meta")
    assert network(images).logits_BKHW.shape == (2, 3, *size)


@pytest.mark.parametrize("encoder", REFUSED)
def test_what_timm_cannot_build_is_refused_in_words(encoder: str) -> None:
    with pytest.raises(ConfigError) as caught:
        inspect_network("unet", f"tu-{encoder}", 3, image_size=(64, 96))
    error = caught.value
    assert error.path == ("encoder",)
    assert error.value == f"tu-{encoder}"
    assert "cannot be built for images of 64×96" in error.problem
    assert "[224, 224]" in str(error)


def test_at_the_size_it_was_made_for_nothing_is_told() -> None:
    assert inspect_network("unet", "tu-efficientformer_l1", 3, image_size=(224, 224))
    with pytest.raises(ConfigError, match="cannot be built"):  # it has too few stages
        inspect_network("unet", "tu-nest_tiny", 3, image_size=(224, 224))


def test_what_takes_images_as_they_come_is_told_nothing() -> None:
    assert size_options("tu-resnet18", (64, 96)) == {}
    assert size_options("tu-mobilevit_xxs", (64, 96)) == {}
    assert size_options("resnet18", (64, 96)) == {}
    # Its windows fit into this size: told it, they would be others, and so would the network.
    assert size_options("tu-maxvit_rmlp_pico_rw_256", (256, 512)) == {}
    assert size_options("tu-swin_tiny_patch4_window7_224", None) == {}


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["tu-efficientformerv2_s0", "tu-gcvit_xxtiny"])
def test_a_student_is_trained_scored_and_loaded(
    encoder: str, tiny_data: Path, tmp_path: Path
) -> None:
    job = make_job(
        tiny_data,
        tmp_path,
        teacher=None,
        distill={},
        student={"arch": "fpn", "encoder": encoder},
        train={"epochs": 1, "batch_size": 4, "lr": 1e-3},
    )
    data = job.data.model_copy(update={"image_size": (64, 96)})
    job = job.model_copy(update={"data": data})
    check_job(job)
    done = kdsweep.train(job, out=tmp_path / "out", device="cpu")
    scored = kdsweep.evaluate(done.folder, device="cpu")
    assert scored.scores["miou"].value == pytest.approx(done.best.metrics["student/miou"])


def test_building_in_memory_is_told_too() -> None:
    network = build_network("unet", "tu-swin_s3_tiny_224", 2, image_size=(64, 96))
    with torch.no_grad():
        logits = network(torch.zeros((1, 64, 96, 3), dtype=torch.uint8)).logits_BKHW
    assert logits.shape == (1, 2, 64, 96)


def test_all_that_cannot_be_built_is_named_with_its_line(tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(
        "data: {source: roadscenes, image_size: [64, 96]}\n"
        "student:\n"
        "  encoder:\n"
        "    values:\n"
        "      - resnet18\n"
        "      - tu-nest_tiny\n"
        "      - tu-gcvit_xxtiny\n"
        "      - tu-efficientformer_l1\n"
        "train: {epochs: 1}\n"
        "sweep: {trials: 2}\n"
    )
    loaded = load_space(space)
    with pytest.raises(ConfigError) as caught:
        check_jobs(loaded.jobs_to_check())
    text = str(loaded.locate(caught.value))
    assert "space.yaml:6: student.encoder" in text
    assert "space.yaml:8: student.encoder" in text
    assert "tu-nest_tiny" in text
    assert "tu-efficientformer_l1" in text
    assert "gcvit" not in text
