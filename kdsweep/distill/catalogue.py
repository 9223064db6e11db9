"""The losses as a reader's catalogue, made from their docstrings and the schema of ``distill:``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdsweep.distill.base import DISTILLATION_LOSSES
from kdsweep.spec.distill import DistillSpec, LossSpec
from kdsweep.spec.places import Place
from kdsweep.spec.reference import Key, keys_of

HEADINGS = ("Averaged over", "Defaults", "Taps", "Reference", "Args")
"""What every loss's docstring says after the formula."""

_HEADING = re.compile(rf"^({'|'.join(HEADINGS)}):\n", re.MULTILINE)
_ARXIV = re.compile(r"arXiv[: ](\d{4}\.\d{4,5})")
_CONFERENCE = re.compile(r"\b(?:CVPR|ECCV|ICCV|ICLR|ICML|NeurIPS|AAAI|TPAMI) \d{4}\b")


@dataclass(frozen=True)
class Entry:
    """What the catalogue says of one loss.

    Attributes:
        name: Its name in ``distill:``.
        compares: What it compares, in a sentence.
        formula: The formula with its tensor shapes.
        sections: The docstring's text under each of :data:`HEADINGS`, paragraphs parted by an
            empty line.
        spec: The schema of its keys.
    """

    name: str
    compares: str
    formula: str
    sections: Mapping[str, str]
    spec: type[LossSpec]

    @property
    def paper(self) -> str:
        """The number on arXiv of the first paper named, or its conference."""
        reference = self.sections.get("Reference", "")
        arxiv = _ARXIV.search(reference)
        if arxiv is not None:
            return arxiv[1]
        conference = _CONFERENCE.search(reference)
        return conference[0] if conference else ""

    @property
    def keys(self) -> list[Key]:
        """Its keys in ``distill:``, its own ones first and what all losses understand last."""
        shared = [name for name in LossSpec.model_fields if name != "weight"]
        return sorted(keys_of(self.spec), key=lambda key: key.name in shared)

    def default(self, key: str) -> Any:
        """The default of one of its keys; ``None`` where it has no such key."""
        field = self.spec.model_fields.get(key)
        return None if field is None else field.get_default(call_default_factory=True)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "name": self.name,
            "compares": self.compares,
            "formula": self.formula,
            "paper": self.paper,
            "defaults": {key.name: _plain(self.default(key.name)) for key in self.keys},
            "sections": dict(self.sections),
        }


def catalogue() -> list[Entry]:
    """All losses, in the order of the keys of ``distill:``."""
    return [_entry(name, spec) for name, spec in _specs().items()]


def look_up(name: str) -> Entry:
    """One loss.

    Raises:
        SpecError: There is none of this name.
    """
    DISTILLATION_LOSSES.get(name)
    return _entry(name, _specs()[name])


def short_taps(taps: tuple[str, ...]) -> str:
    """Taps in few characters: ``encoder.1–4`` for four stages that follow each other."""
    stages = [tap.removeprefix("encoder.") for tap in taps]
    if len(taps) > 1 and all(stage.isdecimal() for stage in stages):
        first, last = int(stages[0]), int(stages[-1])
        if [int(stage) for stage in stages] == list(range(first, last + 1)):
            return f"encoder.{first}–{last}"
    return ", ".join(taps)


def _specs() -> dict[str, type[LossSpec]]:
    found: dict[str, type[LossSpec]] = {}
    for name, field in DistillSpec.model_fields.items():
        for section in Place.of_field(field).sections:
            if issubclass(section, LossSpec):
                found[name] = section
    return found


def _entry(name: str, spec: type[LossSpec]) -> Entry:
    text = inspect.cleandoc(DISTILLATION_LOSSES.get(name).__doc__ or "")
    formula, *parts = _HEADING.split(text)
    sections = {
        heading: inspect.cleandoc(f"\n{body}")
        for heading, body in zip(parts[::2], parts[1::2], strict=True)
    }
    compares = inspect.cleandoc(spec.__doc__ or "").partition("\n")[0]
    return Entry(name, compares, formula.strip(), sections, spec)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
