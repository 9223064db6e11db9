"""Which post-processing pays: tried on validation frames, stage by stage.

At each stage every option is tried on top of what was chosen before, and the best of those is kept
whose mIoU is higher with an interval above zero. So each stage asks whether a step adds something
to those before it, and as many chains are tried as there are options, not their product.

Shape legend: R resamples.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdsweep.deploy.bootstrap import LEVEL, NUM_RESAMPLES, SEED, Estimate, estimate, resample
from kdsweep.deploy.chain import apply_chains, median_ms, warm_up
from kdsweep.deploy.evaluation import new_counts, write_with_table
from kdsweep.deploy.steps import (
    KINDS,
    STAGES,
    Step,
    Steps,
    in_order,
    missing_for,
    parse_steps,
    step_text,
)
from kdsweep.deploy.trained_student import TrainedStudent
from kdsweep.deploy.tta import FramePredictor, Views
from kdsweep.errors import ConfigError
from kdsweep.models.inference_cost import device_name
from kdsweep.plain_text import csv_cell

if TYPE_CHECKING:
    from kdsweep.models import SegmentationNetwork

METRIC = "miou"
Say = Callable[[int, int], None]
"""Told how many chains have been tried, and of how many."""


@dataclass(frozen=True)
class Tried:
    """A chain of steps that was tried.

    Attributes:
        stage: The stage it was tried at.
        builds_on: The chain it adds a step to.
        scores: Its values of ``miou``, ``boundary_f``, ``pixel_accuracy`` and ``ece``.
        against_none: Its mIoU minus that without post-processing.
        added: Its mIoU minus that of the chain it builds on.
        ms: Milliseconds of a frame, from pixels to labels.
        added_ms: Minus those without post-processing.
        chosen: Whether the search went on from it.
    """

    steps: Steps
    stage: str
    builds_on: Steps
    scores: dict[str, float]
    against_none: Estimate
    added: Estimate
    ms: float
    added_ms: float
    chosen: bool = False

    @property
    def pays(self) -> bool:
        """Whether it adds to what it builds on, with an interval above zero."""
        return self.added.low > 0

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "postprocess": step_text(self.steps),
            "stage": self.stage,
            "builds_on": step_text(self.builds_on),
            **{name: value if value == value else None for name, value in self.scores.items()},
            "against_none": self.against_none.to_json(),
            "added": self.added.to_json(),
            "ms": round(self.ms, 3),
            "added_ms": round(self.added_ms, 3),
            "pays": self.pays,
            "chosen": self.chosen,
        }


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
        facts: What was searched, on which frames and how, as plain JSON.
        baseline: mIoU and the like without post-processing.
        baseline_ms: Milliseconds of a frame without it.
        tried: All chains, in the order in which they were tried.
        chosen: The chain that pays; empty where none does.
        not_tried: Steps that were left out, with the reason.
    """

    facts: dict[str, Any]
    baseline: dict[str, float]
    baseline_ms: float
    tried: tuple[Tried, ...]
    chosen: Steps
    not_tried: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        baseline = {name: v if v == v else None for name, v in self.baseline.items()}
        return {
            **self.facts,
            "chosen": step_text(self.chosen),
            "num_tried": len(self.tried),
            "without": {**baseline, "ms": round(self.baseline_ms, 3)},
            "tried": [one.to_json() for one in self.tried],
            "not_tried": self.not_tried,
        }

    def to_csv(self) -> str:
        """A row for each chain."""
        out = io.StringIO()
        rows = csv.writer(out, lineterminator="\n")
        names = list(self.baseline)
        intervals = [f"{name}{end}" for name in ("against_none", "added") for end in _ENDS]
        head = ["postprocess", "stage", "builds_on", *names, *intervals]
        rows.writerow([*head, "ms", "added_ms", "pays", "chosen"])
        for one in self.tried:
            plain = one.to_json()
            ends = [
                plain[name][end]
                for name in ("against_none", "added")
                for end in ("value", "low", "high")
            ]
            rows.writerow(
                [csv_cell(plain[name]) for name in ("postprocess", "stage", "builds_on")]
                + [plain[name] for name in names]
                + ends
                + [plain["ms"], plain["added_ms"], plain["pays"], plain["chosen"]]
            )
        return out.getvalue()

    def write(self, path: Path) -> list[Path]:
        """Write JSON, and CSV beside it; return both paths."""
        return write_with_table(path, self.to_json(), self.to_csv())


_ENDS = ("", "_low", "_high")
_SHOWN = ("miou", "boundary_f", "pixel_accuracy", "ece")


def search_postprocessing(
    student: TrainedStudent,
    teacher: SegmentationNetwork | None,
    about_teacher: str,
    *,
    num_resamples: int = NUM_RESAMPLES,
    say: Say | None = None,
) -> Search:
    """Try post-processing on the validation frames of a student.

    Args:
        student: The student.
        teacher: Its teacher, where there is one.
        about_teacher: Where it comes from, or what is missing.
        num_resamples: Resamples of the frames that the intervals rest on.
        say: Told how far it is.
    """
    predictor, frames = FramePredictor(student, teacher), student.split("val")
    missing = {} if teacher is not None else {"teacher": about_teacher}
    if not _takes_other_sizes(predictor, np.asarray(frames.images_NHWC[0]), teacher is not None):
        missing["scale"] = "the network takes frames of one size only"
    options, not_tried = _options(missing)
    total = sum(len(found) for found in options.values())
    weights_RN = resample(len(frames), num_resamples)
    chosen: Steps = ()
    tried: list[Tried] = []
    baseline: dict[str, np.ndarray] = {}
    baseline_ms = 0.0
    for stage in STAGES:
        chains = [in_order([*chosen, *option]) for option in options[stage]]
        if not chains:
            continue
        # What they are compared with runs along, so that all are timed under one load.
        run: list[Steps] = list(dict.fromkeys([(), chosen, *chains]))
        values, ms = _run(predictor, student, run, weights_RN)
        if not baseline:
            baseline, baseline_ms = values[()], ms[()]
        found = [
            Tried(
                steps=chain,
                stage=stage,
                builds_on=chosen,
                scores=_first(values[chain]),
                against_none=estimate(values[chain][METRIC] - values[()][METRIC], len(frames)),
                added=estimate(values[chain][METRIC] - values[chosen][METRIC], len(frames)),
                ms=ms[chain],
                added_ms=ms[chain] - ms[()],
            )
            for chain in chains
        ]
        best = max(
            (one for one in found if one.pays), key=lambda one: one.scores[METRIC], default=None
        )
        tried += [replace(one, chosen=True) if one is best else one for one in found]
        if best is not None:
            chosen = best.steps
        if say is not None:
            say(len(tried), total)
    facts = {
        "folder": str(student.folder.path),
        "student": student.job.student.label,
        "epoch": student.card.epoch,
        "source": student.data.name,
        "notice": student.data.notice,
        "split": "val",
        "num_frames": len(frames),
        "image_size": list(frames.image_size),
        "metric": METRIC,
        "interval": {
            "level": LEVEL,
            "method": "paired percentile bootstrap over frames",
            "num_resamples": num_resamples,
            "seed": SEED,
        },
        "teacher": about_teacher,
        "device": device_name(student.device),
    }
    return Search(facts, _first(baseline), baseline_ms, tuple(tried), chosen, not_tried)


@dataclass(frozen=True)
class Choice:
    """What a search has chosen.

    Attributes:
        epoch: That of the weights which it was searched for; ``None`` where that is not known.
    """

    steps: Steps
    epoch: int | None


def read_choice(path: Path) -> Choice:
    """The chain that a search has chosen, from what :meth:`Search.write` wrote.

    Raises:
        ConfigError: There was no search yet, or its file is damaged.
    """
    place = ("postprocess",)
    if not path.is_file():
        raise ConfigError(
            "no post-processing was searched for this student yet",
            path=place,
            value="auto",
            allowed="steps by name, or auto after a search",
            hint="kdsweep postprocess EXPERIMENT",
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        text, epoch = str(found["chosen"]), found.get("epoch")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"what the search has found cannot be read ({error})", path=place, value=str(path)
        ) from error
    return Choice(parse_steps(text), epoch)


def _takes_other_sizes(
    predictor: FramePredictor, image_HWC: np.ndarray, with_teacher: bool
) -> bool:
    """Return whether networks run on enlarged and reduced frames; some transformers do not."""
    scale = KINDS.get("scale").tried[0]
    try:
        predictor.probabilities(image_HWC, Views(scale=scale, teacher=0.5 * with_teacher))
    except (RuntimeError, AssertionError, ValueError):
        return False
    return True


def _options(missing: dict[str, str]) -> tuple[dict[str, list[Steps]], dict[str, str]]:
    """Return what is tried at each stage, and which steps cannot be, with the reason."""
    options: dict[str, list[Steps]] = {stage: [] for stage in STAGES}
    not_tried: dict[str, str] = {}
    for name in KINDS:
        kind = KINDS.get(name)
        why = missing.get(name) or missing_for(name)
        if why is not None:
            not_tried[name] = why
            continue
        amounts: Sequence[float] = kind.tried or (0.0,)
        options[kind.stage] += [(Step(name, amount),) for amount in amounts]
    if len(options["views"]) > 1:  # kinds of views go together
        options["views"].append(in_order([step for option in options["views"] for step in option]))
    return options, not_tried


def _run(
    predictor: FramePredictor,
    student: TrainedStudent,
    chains: Sequence[Steps],
    weights_RN: np.ndarray,
) -> tuple[dict[Steps, dict[str, np.ndarray]], dict[Steps, float]]:
    """Scores of each chain on all resamples, and its milliseconds of a frame."""
    frames = student.split("val")
    counts = [new_counts(student) for _ in chains]
    times: list[list[float]] = [[] for _ in chains]
    warm_up(predictor, frames, chains)
    for index, found in apply_chains(predictor, frames, chains):
        labels_HW = np.asarray(frames.labels_NHW[index])
        for place, one in enumerate(found):
            counts[place].add(labels_HW, one.labels_HW, one.confidence_HW)
            times[place].append(one.ms)
    values = {chain: counts[i].scores(weights_RN) for i, chain in enumerate(chains)}
    return values, {chain: median_ms(times[i]) for i, chain in enumerate(chains)}


def _first(values: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: float(values[name][0]) for name in _SHOWN}
