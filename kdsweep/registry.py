"""The one registry class; each family of components holds one instance of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from kdsweep.errors import SpecError

T = TypeVar("T")


class Registry(Generic[T]):
    """Names to components of one family, for example distillation losses.

    Args:
        family: What the members are, in words that fit an error message ("distillation loss").
    """

    def __init__(self, family: str) -> None:
        self.family = family
        self._members: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that adds the decorated object under ``name``."""

        def add(member: T) -> T:
            if name in self._members:
                raise ValueError(f"{self.family} {name!r} is registered twice")
            self._members[name] = member
            return member

        return add

    def get(self, name: str, path: tuple[str | int, ...] = ()) -> T:
        """The member called ``name``.

        Raises:
            SpecError: No such member; the message lists the known names, nearest first.
        """
        if name not in self._members:
            raise SpecError(f"unknown {self.family}", path=path, value=name, allowed=self.names())
        return self._members[name]

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._members)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())
