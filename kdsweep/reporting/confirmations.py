"""Which experiments confirm which: told by the confirming one's ``spec.json``, looked up beside.

A sweep knows nothing of its confirmations, which come later and in folders of their own; they are
looked for among the folders next to it.
"""

from __future__ import annotations

import json
from pathlib import Path

from kdsweep.ledger import Experiment


def confirmed_source(experiment: Experiment) -> Path | None:
    """Return the folder of the experiment whose jobs this one confirms, still there or not.

    ``None`` for one that confirms nothing, or whose ``spec.json`` cannot be read.
    """
    try:
        written = experiment.spec_json.read_bytes()
        if b'"origin"' not in written:  # spares reading most of them
            return None
        return _located(Path(json.loads(written)["origin"]["experiment"]), experiment)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def confirming(experiment: Experiment) -> list[Experiment]:
    """Return the experiments beside this one that confirm jobs of it, oldest first."""
    return sources_of(experiment.path.parent).get(experiment.path, [])


def sources_of(folder: Path) -> dict[Path, list[Experiment]]:
    """Return the confirmed experiments of a folder with those that confirm each, oldest first."""
    found: dict[Path, list[Experiment]] = {}
    for ledger in sorted(folder.glob("*/ledger.jsonl")):
        if ledger.parent.is_symlink():
            continue
        experiment = Experiment(ledger.parent.resolve())
        source = confirmed_source(experiment)
        if source is not None:
            found.setdefault(source, []).append(experiment)
    return found


def _located(source: Path, experiment: Experiment) -> Path:
    """Return where a source is now: beside the experiment that confirms it, or else where it was.

    Folders of experiments are moved and copied to other machines as a whole.
    """
    beside = experiment.path.parent / source.name
    return (beside if beside.exists() else source).resolve()
