"""What all configs have in common: they are frozen and closed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

RULE = "kdsweep_rule"


class Config(BaseModel):
    """A frozen, closed piece of a job: unknown keys and silent type changes are errors."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        defer_build=True,  # built at first use: half the time that the import takes
    )

    @classmethod
    def dependent_defaults(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Defaults that depend on other keys.

        Args:
            given: The section as it was written, perhaps with ranges.

        Returns:
            By key; ``None`` where a range has to be drawn first.
        """
        return {}


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise broken_rule("named twice", at=(index,), hint="take one of the two out")
    return names


# Lists become tuples, so that a config cannot be changed through them.
Names = Annotated[tuple[str, ...], Field(strict=False), AfterValidator(_distinct)]


def broken_rule(
    problem: str,
    *,
    at: Sequence[str | int] = (),
    allowed: str | None = None,
    hint: str | None = None,
) -> PydanticCustomError:
    """The error that a check across several fields raises.

    Args:
        problem: What is wrong, in words.
        at: Path of the culprit, relative to the config that checks.
        allowed: What is allowed, in words.
        hint: What to do next.
    """
    # Pydantic formats the message with the context, so braces in the text never reach it.
    context = {"problem": problem, "at": tuple(at), "allowed": allowed, "hint": hint}
    return PydanticCustomError(RULE, "{problem}", context)
