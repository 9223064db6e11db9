"""Where a cohort stands, on disk: one part for each student, one for what they share.

Each student's part lies in its own folder, so one that leaves takes its part along and the others
go on without it. The shared part is written last: an epoch counts once it is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdsweep.config.distill import PART_KEYS
from kdsweep.errors import CheckpointError
from kdsweep.ledger.checkpoints import CheckpointFolder
from kdsweep.training.checkpoint import load_state, save_state

if TYPE_CHECKING:
    from kdsweep.config.job import Job
    from kdsweep.ledger.layout import TrialFolder

State = dict[str, Any]


class CohortCheckpoint:
    """The checkpoints of a cohort.

    Args:
        cohort_dir: Holds the shared part.
        keep: Checkpoints that are kept, at least 1.
    """

    def __init__(self, cohort_dir: TrialFolder, keep: int) -> None:
        self._shared = CheckpointFolder(cohort_dir.cohort, keep)
        self._keep = keep

    def save(
        self, epoch: int, shared: State, students: Sequence[tuple[Job, TrialFolder, State]]
    ) -> None:
        """Put the checkpoint of an epoch in place.

        Args:
            epoch: Number of finished epochs.
            shared: What the students have in common.
            students: Of each its job, its folder and its state.
        """
        for job, folder, state in students:
            own = {"fingerprint": fingerprint(job), "student": state}
            self._own(folder).save(epoch, partial(save_state, state=own))
        self._shared.save(epoch, partial(save_state, state=shared))

    def load(self, students: Sequence[tuple[Job, TrialFolder]]) -> tuple[State, list[State]] | None:
        """The newest checkpoint that can be read, or ``None`` if there is none.

        Args:
            students: Of each its job and its folder; may be fewer than were saved.

        Returns:
            What was shared, and the state of each student.

        Raises:
            CheckpointError: None of them can be read, or they belong to other jobs.
        """
        problem: CheckpointError | None = None
        for path in self._shared.newest_first():
            try:
                shared = load_state(path)
                states = [load_state(self._own(folder).path / path.name) for _, folder in students]
            except CheckpointError as error:
                problem = problem or error
                continue
            for (job, folder), state in zip(students, states, strict=True):
                if state.get("fingerprint") != fingerprint(job):
                    own = self._own(folder).path
                    raise CheckpointError(
                        f"{own / path.name}: this checkpoint belongs to another job; train into "
                        f"another folder, or delete {own} to start anew"
                    )
            return shared, [state["student"] for state in states]
        if problem is not None:
            raise problem
        return None

    def _own(self, folder: TrialFolder) -> CheckpointFolder:
        return CheckpointFolder(Path(folder.checkpoint), self._keep)


# Keys that have come since checkpoints were first written; at their defaults all is as it was.
_LATER = {
    "data": {
        *("classes", "image_bits", "images", "masks", "image_suffix", "mask_suffix", "pairs"),
        *("skip_unlabelled", "crop", "crop_scale"),
        *("unlabelled", "labelled", "num_labelled", "unlabelled_augment", "unlabelled_scenes"),
        "all_labels",
    },
    "train": {"validate_at", "unlabelled_ratio", "select"},
    "distill": {*PART_KEYS},
}


def fingerprint(job: Job) -> str:
    """Return what must be equal for a checkpoint of one job to go on in another.

    Batch size and accumulation may differ (a trial that ran out of memory goes on with half the
    batch), and so may where the data lie and how many processes load them.
    """
    relevant = job.model_dump(mode="json", exclude={"name": True})
    for key in ("path", "cache", "workers", "accept"):
        relevant["data"].pop(key, None)
    for section, keys in _LATER.items():
        fields = type(getattr(job, section)).model_fields
        for key in keys & fields.keys():
            if getattr(getattr(job, section), key) == fields[key].get_default():
                del relevant[section][key]
    for key in ("batch_size", "accumulate", "compile", "precision", "channels_last"):
        relevant["train"].pop(key, None)
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()
