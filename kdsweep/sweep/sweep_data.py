"""What the data of a sweep are, and whether they still are what they were."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdsweep.config.job import data_section
from kdsweep.errors import DataError
from kdsweep.ledger import Experiment, Ledger
from kdsweep.ledger.atomic import write_json
from kdsweep.ledger.state import Sweep

if TYPE_CHECKING:
    from kdsweep.config import Job
    from kdsweep.data.identity import Identity

Names = Sequence[Mapping[str, str]]
"""As a session's event has them: ``section``, ``fingerprint`` and ``short``."""


@dataclass(frozen=True)
class SweepData:
    """The data that were found before the trials.

    Attributes:
        facts: What reports say of the first of them.
        identities: By section ``data`` of the jobs; empty where they are not known.
    """

    facts: dict[str, Any]
    identities: Mapping[str, Identity]

    @classmethod
    def of(cls, prepared: Mapping[str, Any]) -> SweepData:
        """Return what a runner's ``prepare`` has found."""
        from kdsweep.data.identity import Identity

        facts = {key: value for key, value in prepared.items() if key != "identities"}
        known = prepared.get("identities", {})
        read = {section: Identity.from_json(json.loads(text)) for section, text in known.items()}
        return cls(facts, read)

    @property
    def names(self) -> list[dict[str, str]]:
        """Their names, for the ledger."""
        return [{"section": section, **i.name} for section, i in self.identities.items()]

    @property
    def shorts(self) -> list[str]:
        """Their names for people."""
        return shorts(self.names)

    def fingerprint(self, job: Mapping[str, Any]) -> str | None:
        """Return the fingerprint of the data of a job, as JSON, if they were looked at."""
        found = self.identities.get(data_section(job["data"]))
        return None if found is None else found.fingerprint

    def keep(self, experiment: Experiment) -> None:
        """Write down what they are, once for each fingerprint."""
        for identity in self.identities.values():
            path = experiment.data(identity.fingerprint)
            if not path.is_file():
                path.parent.mkdir(exist_ok=True)
                write_json(path, identity.to_json())

    def changes(
        self,
        before: Names,
        experiment: Experiment,
        whose: str,
        consequence: str,
        accept: bool,
        note: Callable[[str], None],
    ) -> list[str]:
        """Return in which ways they differ from those of before, and say so.

        Args:
            before: Names of those.
            experiment: Where it was written down what those were.
            whose: Who was trained on them.
            consequence: What it means to go on nevertheless.
            accept: Whether to.
            note: Told what there is to be said.

        Raises:
            DataError: They differ, and that was not accepted.
        """
        if not before or not self.identities:
            note(
                f"warning: it was not written down which data {whose} was trained on; whether "
                "they have changed cannot be told"
            )
            return []
        found = self.differences(before, experiment)
        if not found:
            return []
        text = (
            f"the data are not those that {whose} was trained on\n"
            f"  before:  {'; '.join(shorts(before))}\n"
            f"  now:     {'; '.join(self.shorts)}\n"
            + "".join(f"  differs: {line}\n" for line in found)
        )
        if not accept:
            hint = f"put the data back as they were; --accept-changed-data {consequence}"
            raise DataError(f"{text}  try:     {hint}")
        note(f"warning: {text}  this {consequence}")
        return found

    def differences(self, before: Names, experiment: Experiment) -> list[str]:
        """Return in which ways they differ from those of before; empty where they do not."""
        from kdsweep.data.identity import Identity, differences

        old = {_placeless(name["section"]): name for name in before}  # they may lie elsewhere
        old |= {name["section"]: name for name in before}
        found, pairs = [], []
        for section, now in self.identities.items():
            name = old.get(section) or old.get(_placeless(section))
            if name is not None:
                pairs.append((name, now))
        for name, now in pairs:
            if name["fingerprint"] == now.fingerprint:
                continue
            kept = Identity.read(experiment.data(name["fingerprint"]))
            words = ["which files is not known"] if kept is None else differences(kept, now)
            found += [word if len(pairs) == 1 else f"{now.short}: {word}" for word in words]
        return found


def _placeless(section: str) -> str:
    tree = json.loads(section)
    places = ("path", "unlabelled")
    return json.dumps({key: v for key, v in tree.items() if key not in places}, sort_keys=True)


def shorts(names: Names) -> list[str]:
    """Return the names for people, each once."""
    return list(dict.fromkeys(name["short"] for name in names))


def known_teachers(jobs: Sequence[Job], ledger: Ledger | None) -> list[dict[str, Any]]:
    """Return what a ledger knows already of the trained teachers of jobs."""
    if ledger is None or not any(job.distill.checkpoint for job in jobs):
        return []
    known: list[dict[str, Any]] = Sweep(ledger.replay()).header.data.get("teachers", [])
    return known
