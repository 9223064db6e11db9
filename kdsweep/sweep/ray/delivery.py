"""How what a worker makes reaches the experiment's folder, where the worker does not see it.

Ray carries it, through an actor on the driver's machine: no storage has to be shared. A worker
looks for itself whether it sees the folder, so both kinds of machines can be in one cluster.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kdsweep.ledger import Experiment, TrialFolder
from kdsweep.ledger.depot import Depot, LocalCopy
from kdsweep.ledger.fence import FencedError, fenced
from kdsweep.sweep.ray.survey import Word


@dataclass(frozen=True)
class Way:
    """The way to an experiment's folder, as a worker is told: a word beside it, and its actor."""

    word: Word
    depot: str

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> Way:
        """Return what :meth:`to_json` gave."""
        return cls(Word(**tree["word"]), tree["depot"])


@contextmanager
def open_depot(experiment: Experiment, word: Word) -> Iterator[Way]:
    """Start the actor on this machine, and end it."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    name = f"kdsweep-depot-{word.text[:12]}"
    options: dict[str, Any] = {"name": name, "scheduling_strategy": here, "num_cpus": 0}
    actor = (
        ray.remote(max_restarts=-1, max_task_retries=-1)(Depot)
        .options(**options)
        .remote(experiment.trials)
    )
    try:
        yield Way(word, name)
    finally:
        try:
            ray.get(actor.close.remote(), timeout=10)
        except Exception:
            for left in experiment.trials.glob(".arriving.*"):
                shutil.rmtree(left, ignore_errors=True)


class RemoteStore:
    """A :class:`~kdsweep.ledger.depot.Store` that passes everything on to the actor.

    One chunk at a time is on its way: the next call waits for the last one, so a slow network slows
    the worker down and fills no memory.
    """

    def __init__(self, name: str) -> None:
        import ray

        self._actor = ray.get_actor(name)

    def begin(self, cohort: str, attempt: str, trials: Sequence[str]) -> dict[str, int]:
        """See :class:`~kdsweep.ledger.depot.Store`."""
        found: dict[str, int] = _get(self._actor.begin.remote(cohort, attempt, list(trials)))
        return found

    def read(self, name: str, offset: int) -> bytes:
        """See :class:`~kdsweep.ledger.depot.Store`."""
        found: bytes = _get(self._actor.read.remote(name, offset))
        return found

    def stage(self, attempt: str, name: str, offset: int, data: bytes) -> None:
        """See :class:`~kdsweep.ledger.depot.Store`."""
        _get(self._actor.stage.remote(attempt, name, offset, data))

    def commit(self, cohort: str, attempt: str, puts: Sequence[str], gone: Sequence[str]) -> None:
        """See :class:`~kdsweep.ledger.depot.Store`."""
        _get(self._actor.commit.remote(cohort, attempt, list(puts), list(gone)))


class Workplace:
    """The trials' folders where an attempt trains, and that of what they share."""

    def __init__(
        self, folders: Sequence[TrialFolder], cohort_dir: TrialFolder, copy: LocalCopy | None
    ) -> None:
        self.folders = list(folders)
        self.cohort_dir = cohort_dir
        self._copy = copy

    def deliver(self) -> int:
        """Hand over what has changed; return bytes, none where the experiment is in sight."""
        return 0 if self._copy is None else self._copy.deliver()


@contextmanager
def workplace(
    folders: Sequence[str], cohort_dir: str, attempt: str, way: Way | None
) -> Iterator[Workplace]:
    """The folders that an attempt trains in: the experiment's, or copies on this machine.

    Args:
        folders: The trials' folders in the experiment.
        cohort_dir: That of what they share.
        attempt: Name of the attempt; it alone may write from now on.
        way: How to get there; ``None`` where all is on one machine.

    Raises:
        FencedError: A newer attempt has begun.
    """
    if way is None or way.word.is_seen():
        places = [TrialFolder(Path(folder)).create() for folder in folders]
        home = TrialFolder(Path(cohort_dir)).create()
        with fenced(home.fence, attempt):
            yield Workplace(places, home, None)
        return
    names = [Path(folder).name for folder in folders]
    shared = Path(cohort_dir).name
    with tempfile.TemporaryDirectory(prefix="kdsweep-trial-", ignore_cleanup_errors=True) as root:
        copy = LocalCopy(Path(root), RemoteStore(way.depot), shared, attempt, [shared, *names])
        copy.fetch()
        try:
            yield Workplace(
                [TrialFolder(Path(root) / name) for name in names],
                TrialFolder(Path(root) / shared),
                copy,
            )
        except Exception:
            traceback.print_exc()  # into the log, while that is there
            raise
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            with suppress(Exception):  # the log's last lines; all else has been handed over
                copy.deliver()


def _get(ref: Any) -> Any:
    import ray
    from ray.exceptions import RayTaskError

    try:
        return ray.get(ref)
    except RayTaskError as error:
        if isinstance(error.cause, FencedError):
            raise error.cause from None
        raise
