"""Whether a training that was started goes on with the data that it was started with."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from kdsweep.data.identity import Identity, changed_data
from kdsweep.errors import DataError
from kdsweep.ledger.atomic import write_json
from kdsweep.ledger.checkpoints import CheckpointFolder

if TYPE_CHECKING:
    from kdsweep.ledger.layout import TrialFolder


def note_data(
    folder: TrialFolder,
    prepared: Mapping[str, Any],
    accept: bool,
    warn: Callable[[str], None],
) -> dict[str, str] | None:
    """Write down in a training's folder which data it is trained on.

    Args:
        folder: The folder, in which a training may have been started.
        prepared: What :func:`~kdsweep.trial.checking.prepare` found for its job.
        accept: Whether a training that was started goes on with other data.
        warn: Told that it does, and where it is not known what it was started with.

    Returns:
        ``fingerprint`` and ``short`` of the data; ``None`` where they are not known.

    Raises:
        DataError: They are not those of before, and that was not accepted, or cannot be.
    """
    known = [Identity.from_json(json.loads(text)) for text in prepared["identities"].values()]
    if not known:
        return None
    (now,) = known
    used: list[dict[str, str]] = []
    if any(CheckpointFolder(path).newest_first() for path in (folder.checkpoint, folder.cohort)):
        used = _used(folder)
        if not used:
            warn(
                "it was not written down which data this training was started with; whether they "
                "have changed cannot be told"
            )
        elif used[-1]["fingerprint"] != now.fingerprint:
            _accept_change(folder, used[-1], now, accept, warn)
    if not used or used[-1] != now.name:
        path = folder.data(now.fingerprint)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, now.to_json())
        write_json(folder.data_used, [*used, now.name])
    return now.name


def _accept_change(
    folder: TrialFolder,
    before: Mapping[str, str],
    now: Identity,
    accept: bool,
    warn: Callable[[str], None],
) -> None:
    kept = Identity.read(folder.data(before["fingerprint"]))
    other_folder = "--out with a new folder trains from the start"
    if kept is not None and len(kept.classes) != len(now.classes):
        raise changed_data("this training", before, kept, now, other_folder)
    hint = (
        f"put the data back as they were; {other_folder}; --accept-changed-data goes on, and "
        "looks for the best epoch from here on only"
    )
    error = changed_data("this training", before, kept, now, hint)
    if not accept:
        raise error
    warn(str(error).rpartition("\n")[0])


def _used(folder: TrialFolder) -> list[dict[str, str]]:
    """Return the names of the data so far, oldest first; empty where none were written down.

    Raises:
        DataError: The file is damaged.
    """
    path = folder.data_used
    if not path.is_file():
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [{key: str(name[key]) for key in ("fingerprint", "short")} for name in found]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); it says which data the training was started with\n"
            "  try:     remove it to go on with whatever the data are"
        ) from error
