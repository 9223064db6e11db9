"""Settings of a space: those that its user wants to be tried first, and those of given jobs.

A setting names some ranges of a space and what each takes, in the words of tables.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from kdsweep.config.job import Job
from kdsweep.config.ranges import Choice, Given, Interval, Range, Scalar
from kdsweep.config.template import Branch, Hole, Items, Node, Options, ranges
from kdsweep.errors import ConfigError, ConfigPath, did_you_mean, nearest_first, shown

if TYPE_CHECKING:
    from kdsweep.config.space import Space

# What two jobs may differ in and still come to the same, up to chance: their data are told by
# their contents, not by where they lie.
_FREE = (
    ("name",),
    ("train", "seed"),
    *(("data", key) for key in ("path", "unlabelled", "cache", "workers")),
)
# Options that give a job are tried at most so many times; more than a few means chance likeness.
_MOST_TRIES = 200


def compile_settings(
    root: Branch,
    settings: Sequence[Mapping[str, Scalar]],
    is_changed: Callable[[str], bool] = lambda name: False,
) -> list[tuple[dict[str, Scalar], dict[str, Scalar]]]:
    """Each setting, and the sampler's parameters of its ranges and of the choices around them.

    Args:
        root: The compiled space.
        settings: Values by the names of ranges.
        is_changed: Whether a range has been changed from the command line; where a value does not
            fit it any more, the setting goes without.

    Raises:
        ConfigError: A setting names no range, or what a range cannot take; with all such errors.
    """
    known = {range_.name: (range_, around) for range_, around in ranges(root)}
    errors: list[ConfigError] = []
    found: list[tuple[dict[str, Scalar], dict[str, Scalar]]] = []
    for index, setting in enumerate(settings):
        options: Options = {}
        kept = dict(setting)
        for name, value in setting.items():
            path = ("sweep", "try_first", index, name)
            try:
                taken = _taken(known, name, value, path)
                _refuse_conflict(options, taken, known, value, path)
            except ConfigError as error:
                del kept[name]
                errors += [] if is_changed(name) else [error]
            else:
                options |= taken
        # What is left of two may be the same.
        is_new = kept == setting or all(kept != other for other, _ in found)
        if kept and is_new:
            found.append((kept, _params(root, options)))
    if errors:
        errors[0].others = tuple(errors[1:])
        raise errors[0]
    return found


def params_of(space: Space, job: Mapping[str, Any]) -> dict[str, Scalar] | None:
    """The sampler's parameters with which a space draws a job: the inverse of ``space.draw``.

    Args:
        space: The space.
        job: The job as plain JSON. Its name, its seed and where its data lie may be others.

    Returns:
        ``None`` if the space cannot draw it.
    """
    wanted = _complete(job)
    if wanted is None:
        return None
    for options in itertools.islice(_matches(space.root, wanted, ()), _MOST_TRIES):
        try:
            draw = space.draw(Given(_params(space.root, options)))
        except (ConfigError, KeyError):
            continue
        if _bare(draw.job.model_dump(mode="json")) == _bare(wanted):
            return draw.params
    return None


def setting_of(space: Space, job: Mapping[str, Any]) -> dict[str, Scalar]:
    """What the ranges of a space stand at in a job (JSON) of another one, as far as they can."""
    wanted = _complete(job)
    if wanted is None:
        return {}
    options = _taken_by(space.root, wanted, ())
    known = {range_.name: range_ for range_, _ in ranges(space.root)}
    return {name: known[name].show(option) for name, option in options.items()}


def _taken(
    known: Mapping[str, tuple[Range, Options]], name: str, value: Scalar, path: ConfigPath
) -> Options:
    """The options that a range and the choices around it take for a value."""
    if name not in known:
        raise ConfigError(
            "no range of this space has this name",
            path=path,
            allowed=nearest_first(name, known),
            hint=did_you_mean(name, known),
        )
    range_, around = known[name]
    option = range_.find(value)
    if option is not None:
        return {**around, name: option}
    # `weight: 3`, where 3 lies in a range that is one of the choices.
    inner = next(_matches(Hole(range_.path, range_), value, ()), None)
    if inner is None:
        raise ConfigError(
            "not a value of this range", path=path, value=value, allowed=_allowed(range_)
        )
    return {**around, **inner}


def _refuse_conflict(
    options: Options,
    taken: Options,
    known: Mapping[str, tuple[Range, Options]],
    value: Scalar,
    path: ConfigPath,
) -> None:
    for name, option in taken.items():
        if options.get(name, option) != option:
            range_ = known[name][0]
            raise ConfigError(
                f"this needs {name} to be {shown(range_.show(option), 40)}, and the setting has "
                f"{shown(range_.show(options[name]), 40)}",
                path=path,
                value=value,
                hint="two settings",
            )


def _allowed(range_: Range) -> str | list[str]:
    if isinstance(range_, Choice):
        return [label if isinstance(label, str) else shown(label) for label in range_.labels]
    assert isinstance(range_, Interval)
    kind = "a whole number" if range_.whole else "a number"
    steps = range_.step is not None and range_.step != 1
    if steps:
        kind = f"a multiple of {shown(range_.step)}"
    return f"{kind} from {shown(range_.low)} to {shown(range_.high)}"


def _params(root: Node, options: Options) -> dict[str, Scalar]:
    return dict(r.param(options[r.name]) for r, _ in ranges(root) if r.name in options)


def _complete(job: Mapping[str, Any]) -> dict[str, Any] | None:
    """A job, which an older version may have written, with today's keys; ``None`` if it is none."""
    try:
        return Job.model_validate_json(json.dumps(job)).model_dump(mode="json")
    except ValidationError:
        return None


def _bare(job: Mapping[str, Any]) -> dict[str, Any]:
    """A job without what may differ."""
    bare = {key: dict(v) if isinstance(v, Mapping) else v for key, v in job.items()}
    for *section, key in _FREE:
        (bare[section[0]] if section else bare).pop(key, None)
    return bare


def _matches(node: Node, value: Any, at: ConfigPath) -> Iterator[Options]:
    """Options for which a node may come to what a job has in its place; drawing tells whether."""
    if isinstance(node, Hole):
        option = node.range.find(value)
        if option is None and at in _FREE:
            option = node.range.middle()
        if isinstance(node.range, Interval) or at in _FREE:
            if option is not None:
                yield {node.range.name: option}
            return
        assert isinstance(node.range, Choice)
        for index, choice in enumerate(node.range.nodes):
            for inner in _matches(choice, value, at):
                yield {node.range.name: index, **inner}
    elif isinstance(node, Branch | Items):
        places = _places(node, value)
        if places is not None:
            found = [list(_matches(child, v, (*at, key))) for key, child, v in places]
            for parts in itertools.product(*found):
                yield {name: option for part in parts for name, option in part.items()}
    elif at in _FREE or node.value == value:
        yield {}


def _places(node: Branch | Items, value: Any) -> list[tuple[str | int, Node, Any]] | None:
    """The children with what stands in their places; ``None`` if the value is not of that form."""
    if isinstance(node, Items):
        fits = isinstance(value, list) and len(value) == len(node.children)
        pairs = zip(node.children, value, strict=True) if fits else ()
        return [(i, *pair) for i, pair in enumerate(pairs)] if fits else None
    if not isinstance(value, Mapping):
        return None
    missing = [child for key, child in node.children.items() if key not in value]
    if any(True for child in missing for _ in ranges(child)):
        return None
    return [(key, child, value[key]) for key, child in node.children.items() if key in value]


def _taken_by(node: Node, value: Any, at: ConfigPath) -> Options:
    """The options of those ranges that can come to what stands in their places."""
    if isinstance(node, Hole):
        return {} if at in _FREE else next(_matches(node, value, at), {})
    options: Options = {}
    if isinstance(node, Branch) and isinstance(value, Mapping):
        for key, child in node.children.items():
            options |= _taken_by(child, value.get(key), (*at, key))
    elif isinstance(node, Items):
        for key_, child, inner in _places(node, value) or ():
            options |= _taken_by(child, inner, (*at, key_))
    return options
