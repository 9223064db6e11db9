"""The kind of all small facts of a report: typed here, plain JSON outside."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Record:
    """Facts that notebooks may also reach by name, as they stand in JSON."""

    # Fields that have come since the JSON form was first read, where there is nothing to say.
    left_out_if_empty: ClassVar[frozenset[str]] = frozenset()

    def __getitem__(self, name: str) -> Any:
        """Return a fact by its name."""
        try:
            return getattr(self, name)
        except AttributeError:
            raise KeyError(name) from None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {
            field.name: _plain(value)
            for field in fields(self)
            if (value := getattr(self, field.name)) or field.name not in self.left_out_if_empty
        }


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
