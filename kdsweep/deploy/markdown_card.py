"""``MODEL_CARD.md``: what a model is, what it was trained on, how good and how fast it is."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kdsweep.deploy.bootstrap import Estimate
from kdsweep.deploy.card import Card
from kdsweep.deploy.choosing import ChosenStudent, TrialProgress
from kdsweep.deploy.export_check import ExportCheck, Written
from kdsweep.deploy.onnx_writing import OPSET
from kdsweep.deploy.quantizing import CALIBRATION_FRAMES
from kdsweep.deploy.tables import milliseconds, scored_text
from kdsweep.deploy.test_split_log import score_of_training, scorings
from kdsweep.errors import ExperimentError
from kdsweep.ledger.events import Stop
from kdsweep.plain_text import counted, markdown

if TYPE_CHECKING:
    from kdsweep.config import Job
    from kdsweep.config.distill import LossConfig
    from kdsweep.data import SegmentationData

_FACTS = {"epoch": "weights of epoch", "miou": "mIoU when it was trained"}
_MEASURED = {"macs_g", "inference_mb", "image_size", "precision", "device", "num_threads"} | {
    "latency_ms",
    "latency_p95_ms",
}

_FORMATS = {
    "onnx": f"ONNX (opset {OPSET}), float32",
    "int8": f"ONNX (opset {OPSET}), weights and activations in 8 bits (static quantisation)",
    "torch": "safetensors and JSON, for PyTorch",
}


def model_card(
    card: Card,
    job: Job,
    chosen: ChosenStudent,
    data: SegmentationData,
    check: ExportCheck,
    written: Written,
    claims: Sequence[str],
) -> str:
    """The card as Markdown.

    Args:
        card: What the student says of itself.
        job: What it was trained by.
        chosen: Where it lies.
        data: What it was trained on.
        check: What the export did on validation frames.
        written: What was exported.
        claims: Lines on what repeated seeds have shown.
    """
    progress = chosen.progress()
    sections = [
        _head(card, written),
        _data(card, data, written),
        _recipe(card, job, progress),
        _scores(card, job, chosen, check, written, claims),
        _costs(chosen, check, written),
        _limits(card, data, job, check, progress, claims),
        _provenance(card, check),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _head(card: Card, written: Written) -> list[str]:
    height, width = card.image_size
    lines = [
        f"# {card.model.label} for {len(card.classes)} classes of road scenes",
        "",
        f"{card.model.arch} with encoder {card.model.encoder}, trained by kdsweep. "
        f"{_FORMATS[written.format]}.",
        "",
    ]
    if written.format == "torch":
        takes = (
            "Safetensors hold the weights, `student.json` all that is needed to build the network."
        )
    else:
        size = (
            f"of {height}×{width} only"
            if written.fixed_size
            else f"trained on {height}×{width}; others may do"
        )
        takes = (
            f"The graph takes `images` (uint8 RGB, N×H×W×3, {size}) and gives `classes` (uint8 "
            "ids, N×H×W) and `logits` (float32, N×K×H×W). Normalisation is inside."
        )
    return [
        *lines,
        takes,
        "",
        "```python",
        "import kdsweep.deploy",
        "",
        'model = kdsweep.deploy.load("PATH")  # this folder, or the file in it',
        "class_ids = model(image)  # uint8 RGB, any size → uint8 of the same height and width",
        "```",
    ]


def _data(card: Card, data: SegmentationData, written: Written) -> list[str]:
    test = "" if data.test is None else f", {len(data.test)} test"
    more = "" if data.unlabelled is None else f" and {len(data.unlabelled)} without labels"
    lines = [
        "## Data",
        "",
        f"Source `{card.source or data.name}`: {len(data.train)} training frames{more}, "
        f"{len(data.val)} validation{test}, resized to {card.image_size[0]}×{card.image_size[1]}.",
    ]
    if card.data is not None:
        trained = f"Trained on `{card.data.short}` (fingerprint `{card.data.fingerprint}`)."
        if data.identity is not None and data.identity.fingerprint != card.data.fingerprint:
            trained += f" The frames that it was checked on are others: `{data.identity.short}`."
        lines += ["", trained]
    if written.format == "int8":
        count = min(CALIBRATION_FRAMES, len(data.train))
        lines += ["", f"Ranges of the activations are those of {count} training frames."]
    return [*lines, "", f"**{card.notice}**"] if card.notice else lines


def _recipe(card: Card, job: Job, progress: TrialProgress | None) -> list[str]:
    train = job.train
    if job.is_self_taught:
        taught = "Taught by the running average of its own weights."
    elif job.teacher is None:
        taught = "Trained without a teacher."
    else:
        taught = f"Teacher: {job.teacher.label}, {_ways(job)}."
    terms = ", ".join(_term(name, config) for name, config in job.distill.terms().items())
    epochs = counted(train.epochs, "epoch")
    if progress is not None and progress.epochs < train.epochs:
        epochs = f"{progress.epochs} of {train.epochs} epochs"
    if job.data.crop is not None:
        size = "{}×{}".format(*job.data.crop)
        taught += " On crops of {} from frames scaled by {:g} to {:g}.".format(
            size, *job.data.crop_scale
        )
    lines = [
        taught,
        f"Distillation: {terms or 'none'}.",
        f"Encoder weights at the start: {card.model.encoder_weights or 'random'}.",
        f"{epochs} in batches of {train.batch_size}, optimiser {train.optimizer}, learning rate "
        f"{train.lr:g}, seed {train.seed}; weights of epoch {card.epoch}, the best on validation "
        "frames.",
    ]
    return ["## Recipe", "", *(f"- {line}" for line in lines)]


def _ways(job: Job) -> str:
    return {
        "online": "trained at the same time",
        "frozen": "frozen",
        "ema": "the running average of one trained at the same time",
    }.get(job.distill.teacher, job.distill.teacher)


def _term(name: str, config: LossConfig) -> str:
    """A loss with its weight, and what else of it is not as it is by default."""
    fields = type(config).model_fields
    changed = {k: v for k, v in config.options().items() if v != fields[k].get_default()}
    shown = ", ".join(f"{key} {_option(value)}" for key, value in changed.items())
    return f"`{name}` × {config.weight:g}" + (f" ({shown})" if shown else "")


def _option(value: Any) -> str:
    if isinstance(value, tuple | list):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _scores(
    card: Card,
    job: Job,
    chosen: ChosenStudent,
    check: ExportCheck,
    written: Written,
    claims: Sequence[str],
) -> list[str]:
    lines = [
        "## Scores",
        "",
        f"On {check.num_frames} validation frames at the size above, labels and all, with 95 % "
        "intervals from resampling frames:",
        "",
        "| | mIoU | 95 % |",
        "| --- | ---: | --- |",
        f"| in PyTorch, float32 | {_with_interval(check.miou_before, ' | ')} |",
    ]
    if written.format != "torch":
        lines.append(f"| this file | {_with_interval(check.miou, ' | ')} |")
    lines += [
        "",
        f"Same class as in PyTorch on {check.agreement:.3%} of all pixels.",
        "",
        "| class | IoU of this file | 95 % | colour |",
        "| --- | ---: | --- | --- |",
    ]
    for name, iou, colour in zip(card.classes, check.ious, card.palette, strict=True):
        lines.append(
            f"| {markdown(name)} | {_with_interval(iou, ' | ')} | `#{bytes(colour).hex()}` |"
        )
    for said in _test_scores(card, job, chosen):
        lines += ["", said]
    lines += ["", *(f"- {claim}" for claim in claims)] if claims else []
    return lines


def _with_interval(found: Estimate, between: str) -> str:
    if math.isnan(found.value):
        return f"not seen{between}"
    known = not math.isnan(found.low)
    interval = f"{found.low:.4f} to {found.high:.4f}" if known else "too few frames"
    return f"{found.value:.4f}{between}{interval}"


def _test_scores(card: Card, job: Job, chosen: ChosenStudent) -> list[str]:
    """Return what the student scored on the test split and how, a sentence for each way."""
    home = chosen.folder.evaluation
    lines = []
    for native, windows in ((False, False), (True, False), (True, True)):
        try:
            file = home.scores("test", native=native, windows=windows)
            found = json.loads(file.read_text(encoding="utf-8"))
            how = scored_text({"image_size": card.image_size, **found})
            if found["epoch"] == card.epoch:
                miou = Estimate(
                    *(float(found["scores"]["miou"][k]) for k in ("value", "low", "high"))
                )
                lines.append(
                    f"Test split, {found['num_frames']} frames, in PyTorch, {how}: "
                    f"mIoU {_with_interval(miou, ', 95 % ')}."
                )
        except (OSError, ValueError, KeyError, TypeError):
            pass  # never scored, or by a file that says nothing to rely on
    if lines:
        try:
            times = len(scorings(home))
        except ExperimentError:
            return lines
        looks = "once" if times == 1 else f"{times} times, for this student or others"
        return [*lines[:-1], f"{lines[-1]} It was looked at {looks}."]
    trial = score_of_training(chosen)
    if trial is None:
        return []
    said = scored_text({"protocol": job.train.validate_at, "image_size": card.image_size})
    return [
        f"Test split, in PyTorch, {said}: mIoU {trial:.4f}, scored once, at the end of the "
        "training."
    ]


def _costs(chosen: ChosenStudent, check: ExportCheck, written: Written) -> list[str]:
    trained = _measured(chosen)
    amounts = [f"{check.params_m:.3g} million parameters"]
    if trained:
        height, width = trained["image_size"]
        amounts.append(
            f"{trained['macs_g']:.3g} billion multiply-accumulates and "
            f"{trained['inference_mb']:.3g} MB of memory (weights and activations) a frame of "
            f"{height}×{width}"
        )
    rows = [("in PyTorch, float32", check.latency_before)]
    if check.runtime != "PyTorch":
        rows.append((f"this file, in {check.runtime}", check.latency))
    lines = [
        "## Costs",
        "",
        f"{', '.join(amounts)}; a file of {written.file_mb:.3g} MB.",
        "",
        "| one frame, from pixels to class ids | median | 95th percentile | on |",
        "| --- | ---: | ---: | --- |",
        *(
            f"| {name} | {milliseconds(took.p50_ms)} | {milliseconds(took.p95_ms)} | {took.place} |"
            for name, took in rows
        ),
    ]
    if trained:
        lines.append(
            f"| in PyTorch, {trained['precision']}, as training began | "
            f"{milliseconds(trained['latency_ms'])} | {milliseconds(trained['latency_p95_ms'])} | "
            f"{trained['device']}, {counted(trained['num_threads'], 'CPU thread')} |"
        )
    return [*lines, "", "Measured beside whatever else the machine was doing."]


def _measured(chosen: ChosenStudent) -> dict[str, Any]:
    """Return what a frame cost the student as its training began; nothing if unknown."""
    try:
        found = dict(json.loads(chosen.folder.inference.read_text(encoding="utf-8"))["student"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if set(found) >= _MEASURED else {}


def _limits(
    card: Card,
    data: SegmentationData,
    job: Job,
    check: ExportCheck,
    progress: TrialProgress | None,
    claims: Sequence[str],
) -> list[str]:
    lines = [
        "It knows these classes only and gives each pixel one of them, whatever is there.",
        "The weights were chosen on the validation frames that are scored above, which flatters "
        "them a little; a test split that is scored once does not.",
        "Intervals take frames as independent. Frames of one drive resemble each other: another "
        "drive may lie outside.",
        f"Pictures are resized to {card.image_size[0]}×{card.image_size[1]}, so what is thinner "
        "than a pixel there is lost.",
    ]
    if not claims:
        lines.append(
            "It is one training with one seed: another seed may lie outside of the intervals "
            "(`kdsweep confirm` trains several)."
        )
    if progress is not None and progress.epochs < job.train.epochs:
        why: dict[str | None, str] = {
            Stop.EARLY: "its sweep went on with better ones",
            Stop.CONSTRAINT: "it costs more than its sweep allows",
            Stop.UNNEEDED: "its sweep had no more use for it",
            Stop.DATA: "its sweep went on with other data",
            Stop.HOURS: "its sweep's hours were used",
            None: "it was still in training, or had been interrupted, when it was exported",
        }
        lines.append(
            f"It was trained for {progress.epochs} of {job.train.epochs} epochs: "
            f"{why.get(progress.stop, progress.stop)}."
        )
    elif progress is not None and progress.stop == Stop.CONSTRAINT:
        lines.append("It costs more than its sweep allows.")
    if data.embedded:
        lines.append("It was trained on generated pictures and is not made for real roads.")
    zipped = zip(card.classes, check.ious, strict=True)
    if unseen := [markdown(name) for name, iou in zipped if math.isnan(iou.value)]:
        lines.append(f"Not in the validation frames, so nothing is known of: {', '.join(unseen)}.")
    return ["## Limits", "", *(f"- {line}" for line in lines)]


def _provenance(card: Card, check: ExportCheck) -> list[str]:
    facts = {**card.provenance, **{f"{name} of export": v for name, v in check.versions.items()}}
    rows = [
        f"| {_FACTS.get(key, key.replace('_', ' '))} | {_fact(v)} |" for key, v in facts.items()
    ]
    return ["## Provenance", "", "| | |", "| --- | --- |", *rows]


def _fact(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
