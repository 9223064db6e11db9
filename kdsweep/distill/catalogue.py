"""The losses as a reader's catalogue, made from their docstrings and the schema of ``distill:``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdsweep.config.losses import LOSSES, LossConfig
from kdsweep.config.reference import Key, keys_of
from kdsweep.errors import ConfigError
from kdsweep.registry import warn_of_plugin

HEADINGS = ("Averaged over", "Defaults", "Taps", "Reference")
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
        config: The schema of its keys.
    """

    name: str
    compares: str
    formula: str
    sections: Mapping[str, str]
    config: type[LossConfig]

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
        shared = [name for name in LossConfig.model_fields if name != "weight"]
        return sorted(keys_of(self.config), key=lambda key: key.name in shared)

    def default(self, key: str) -> Any:
        """The default of one of its keys; ``None`` where there is no such key or no default."""
        field = self.config.model_fields.get(key)
        if field is None or field.is_required():
            return None
        return field.get_default(call_default_factory=True)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "name": self.name,
            "compares": self.compares,
            "formula": self.formula,
            "paper": self.paper,
            "defaults": {key.name: _plain(self.default(key.name)) for key in self.keys},
            "sections": {**self.sections, "Args": self._arguments()},
        }

    def _arguments(self) -> str:
        """The keys that only this loss has, and what they mean."""
        keys = {
            key.name: key.meaning for key in self.keys if key.name not in LossConfig.model_fields
        }
        return "\n".join(f"{name}: {meaning}" for name, meaning in keys.items())


def catalogue() -> list[Entry]:
    """All losses, in the order of the keys of ``distill:``.

    Of one whose package cannot be loaded only the keys are known, or nothing at all.
    """
    known = {name: config for name, config in LOSSES.members().items() if name not in LOSSES.broken}
    entries = []
    for name, config in known.items():
        try:
            entries.append(_entry(name, config))
        except ConfigError as error:
            warn_of_plugin(f"{name}: {error.problem}")
            entries.append(Entry(name, _compares(config), "", {}, config))
    return entries


def look_up(name: str) -> Entry:
    """One loss.

    Raises:
        ConfigError: There is none of this name, or its package cannot be loaded.
    """
    config = LOSSES.get(name)
    if name in LOSSES.broken:
        raise ConfigError(LOSSES.broken[name])
    return _entry(name, config)


def short_taps(taps: tuple[str, ...]) -> str:
    """Taps in few characters: ``encoder.1–4`` for four stages that follow each other."""
    stages = [tap.removeprefix("encoder.") for tap in taps]
    if len(taps) > 1 and all(stage.isdecimal() for stage in stages):
        first, last = int(stages[0]), int(stages[-1])
        if [int(stage) for stage in stages] == list(range(first, last + 1)):
            return f"encoder.{first}–{last}"
    return ", ".join(taps)


def _entry(name: str, config: type[LossConfig]) -> Entry:
    text = inspect.cleandoc(config.load_implementation().__doc__ or "")
    formula, *parts = _HEADING.split(text)
    sections = {
        heading: inspect.cleandoc(f"\n{body}")
        for heading, body in zip(parts[::2], parts[1::2], strict=True)
    }
    return Entry(name, _compares(config), formula.strip(), sections, config)


def _compares(config: type[LossConfig]) -> str:
    return inspect.cleandoc(config.__doc__ or "").partition("\n")[0]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
