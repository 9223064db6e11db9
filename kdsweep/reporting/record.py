"""The kind of all small facts of a report: typed here, plain JSON outside."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Record:
    """Facts that notebooks may also reach by name, as they stand in JSON."""

    def __getitem__(self, name: str) -> Any:
        """Return a fact by its name."""
        try:
            return getattr(self, name)
        except AttributeError:
            raise KeyError(name) from None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return asdict(self)
