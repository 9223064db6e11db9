"""Exporting a trained student: written, checked on validation frames, then put in place."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from kdsweep.data import SegmentationData
from kdsweep.data.source import Progress
from kdsweep.deploy.card import Card
from kdsweep.deploy.choosing import ChosenStudent
from kdsweep.deploy.export_check import ExportCheck, Written, compare
from kdsweep.deploy.loading import load
from kdsweep.deploy.markdown_card import model_card
from kdsweep.deploy.optional_dependencies import require_extra
from kdsweep.deploy.torch_model import TorchModel
from kdsweep.deploy.trained_student import open_training
from kdsweep.errors import ConfigError, KdsweepError
from kdsweep.ledger.atomic import new_directory, write_json, write_text
from kdsweep.ledger.layout import CARD, WEIGHTS
from kdsweep.ledger.provenance import installed_versions
from kdsweep.user_folders import new_folder

Format = Literal["onnx", "torch", "int8"]
FORMATS: tuple[Format, ...] = ("onnx", "torch", "int8")
FILES: dict[Format, str] = {"onnx": "student.onnx", "int8": "student.int8.onnx", "torch": WEIGHTS}
MODEL_CARD, CHECKS, JOB = "MODEL_CARD.md", "export.json", "job.yaml"
LEAST_AGREEMENT = 0.999
MOST_POINTS_LOST = 2.0
_PACKAGES = ("torch", "onnx", "onnxruntime", "onnxscript")


@dataclass(frozen=True)
class Exported:
    """An export that is in place.

    Attributes:
        model: What to load or to ship: an ONNX file, or safetensors beside its card.
        check: What it did on validation frames.
    """

    folder: Path
    model: Path
    check: ExportCheck
    written: Written


def export_student(
    chosen: ChosenStudent,
    *,
    format: Format = "onnx",
    out: Path | str | None = None,
    data: Sequence[str] = (),
    max_loss: float = MOST_POINTS_LOST,
    claims: Sequence[str] = (),
    advance: Progress = lambda doing, done, total: None,
) -> Exported:
    """Export a trained student to a new folder; see :func:`kdsweep.export`.

    ``claims`` are lines for the model card on what repeated seeds have shown.

    Raises:
        ConfigError: No such format, the folder is there, or a package is missing.
        DataError: The data for checks and calibration are missing.
        KdsweepError: The network cannot be exported, or the export is not as good as the student.
    """
    if format not in FORMATS:
        raise ConfigError("no such format", path=("format",), value=format, allowed=FORMATS)
    if format != "torch":
        require_extra("onnx", "onnxruntime", "onnxscript")
    folder = _folder(chosen, format, out)
    job, card, opened = open_training(chosen, data, advance)
    num_threads = torch.get_num_threads()
    reference = TorchModel(card, chosen.weights, "cpu")
    with new_directory(folder) as temporary:
        advance(f"writing {format}", 0, 1)
        fixed = _write(format, temporary, chosen, card, opened)
        file = temporary / FILES[format]
        check = compare(
            reference,
            load(file, device="cpu", num_threads=num_threads),
            opened.val,
            num_threads=num_threads,
            runtime="PyTorch" if format == "torch" else "onnxruntime",
            versions=installed_versions(_PACKAGES),
            advance=lambda done, total: advance("checking", done, total),
        )
        _judge(format, check, max_loss)
        written = Written(format, file.stat().st_size / 1e6, fixed)
        write_json(temporary / CHECKS, {**written.to_json(), **check.to_json()})
        text = model_card(card, job, chosen, opened, check, written, claims)
        write_text(temporary / MODEL_CARD, text)
        # Checked again at the last moment: another export may have taken the name meanwhile.
        if folder.exists():
            raise _taken(folder)
    return Exported(folder, folder / FILES[format], check, written)


def _write(
    format: Format, folder: Path, chosen: ChosenStudent, card: Card, data: SegmentationData
) -> str | None:
    """Write the model; says why its image size is fixed, if it is."""
    if format == "torch":
        shutil.copyfile(chosen.weights, folder / WEIGHTS)
        write_json(folder / CARD, card.to_json())
        shutil.copyfile(chosen.folder.job_yaml, folder / JOB)
        return None
    import onnx

    from kdsweep.deploy.onnx_writing import to_onnx
    from kdsweep.deploy.torch_model import read_network

    # A network of its own: exporting changes how weights lie in memory.
    model, fixed = to_onnx(read_network(card, chosen.weights), card)
    if format == "int8":
        from kdsweep.deploy.quantizing import calibration_frames, quantize

        model = quantize(model, calibration_frames(data.train.images_NHWC))
    contents: bytes = model.SerializeToString()
    onnx.checker.check_model(contents)
    (folder / FILES[format]).write_bytes(contents)
    return fixed


def _judge(format: Format, check: ExportCheck, max_loss: float) -> None:
    """Refuse an export that is not the student."""
    if format == "int8":
        if not check.points_lost <= max_loss:
            raise KdsweepError(
                f"the int8 student is {check.points_lost:.1f} points of mIoU worse on "
                f"{check.num_frames} validation frames ({check.miou_before.value:.4f} before, "
                f"{check.miou.value:.4f} after); it was not kept\n"
                f"  allowed: {max_loss:g} points\n"
                "  try:     --max-loss to allow more, or --format onnx"
            )
    elif check.agreement < LEAST_AGREEMENT:
        raise KdsweepError(
            f"the exported student gives the same class as PyTorch on {check.agreement:.4%} of the "
            f"pixels of {check.num_frames} validation frames; it was not kept\n"
            f"  allowed: {LEAST_AGREEMENT:.1%} or more"
        )


def _folder(chosen: ChosenStudent, format: Format, out: Path | str | None) -> Path:
    """A folder that is not there yet."""
    if out is not None:
        folder = Path(out).expanduser().absolute()
        if folder.exists():
            raise _taken(folder)
        return folder
    experiment, trial = chosen.experiment, chosen.folder
    parent = trial.path / "exports" if experiment is None else experiment.exports
    return new_folder(parent / (format if experiment is None else f"{trial.path.name}-{format}"))


def _taken(folder: Path) -> ConfigError:
    return ConfigError(
        "this folder is there already; exports are never overwritten",
        path=("out",),
        value=str(folder),
        allowed="a folder that is not there yet",
        hint="leave --out out, which makes a new numbered one",
    )
