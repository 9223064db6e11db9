"""Faults of ``mutants.py`` that change nothing that anybody could see."""

from __future__ import annotations

_LOCK_PAUSES = "for pause in (0.02, 0.05, 0.1, 0.0):"
# (module, line of code, fault) -> why nobody can tell.
EQUIVALENT: dict[tuple[str, str, str], str] = {
    (
        "data/splitting.py",
        "if num is None or num >= len(frames):",
        "num >= len(frames) -> num > len(frames)",
    ): "as many, evenly spaced, are all of them",
    (
        "data/splitting.py",
        "return [(0, int(piece)) if piece.isdecimal() else (1, piece) "
        "for piece in pieces if piece]",
        "1 -> 2",
    ): "only the order of the two counts",
    (
        "distill/gate.py",
        "self.means_2.mul_(keep).add_(torch.stack([student_loss, teacher_loss]), alpha=1.0 - keep)",
        "1.0 - keep -> 1.0 + keep",
    ): "a factor of both means, which drops out of their ratio",
    (
        "distill/gate.py",
        "self.means_2.mul_(keep).add_(torch.stack([student_loss, teacher_loss]), alpha=1.0 - keep)",
        "1.0 -> 2.0",
    ): "a factor of both means, which drops out of their ratio",
    (
        "reporting/statistics.py",
        "random_state=np.random.default_rng(0),",
        "0 -> 1",
    ): "one seed is as good as another",
    ("training/metrics.py", "_COPIES = 32", "32 -> 33"): "a number of places to count in",
    ("ledger/file.py", "_TAIL_LENGTH = len(_TAIL % 0)", "0 -> 1"): "eight digits either way",
    (
        "ledger/file.py",
        "return pids.pop() if len(pids) == 1 and min(pids) > 0 else None",
        "min -> max",
    ): "of one number",
    ("ledger/file.py", "if self._descriptor >= 0:", "0 -> 1"): "0 and 1 are taken from the start",
    (
        "ledger/file.py",
        "if self._descriptor >= 0:",
        "self._descriptor >= 0 -> self._descriptor > 0",
    ): "0 is taken from the start",
    ("ledger/file.py", "self._descriptor = -1", "1 -> 2"): "negative either way",
    (
        "ledger/file.py",
        'file = self.path.open("rb", buffering=1 << 20)',
        "1 -> 2",
    ): "the size of a buffer",
    (
        "ledger/file.py",
        'file = self.path.open("rb", buffering=1 << 20)',
        "20 -> 21",
    ): "the size of a buffer",
    ("ledger/file.py", _LOCK_PAUSES, "0.02 -> 1.02"): "only how long a second driver waits",
    ("ledger/file.py", _LOCK_PAUSES, "0.05 -> 1.05"): "only how long a second driver waits",
    ("ledger/file.py", _LOCK_PAUSES, "0.1 -> 1.1"): "only how long a second driver waits",
    ("ledger/file.py", _LOCK_PAUSES, "0.0 -> 1.0"): "only how long a second driver waits",
    (
        "sweep/first.py",
        "MAX_LISTED_POINTS = 10_000",
        "10000 -> 10001",
    ): "a limit of effort, of which nobody counts the last point",
    (
        "sweep/study.py",
        "if num_points is not None and num_points <= MAX_LISTED_POINTS:",
        "num_points <= MAX_LISTED_POINTS -> num_points < MAX_LISTED_POINTS",
    ): "a limit of effort, of which nobody counts the last point",
    (
        "sweep/study.py",
        "if num_siblings is not None and num_siblings <= MAX_LISTED_POINTS:",
        "num_siblings <= MAX_LISTED_POINTS -> num_siblings < MAX_LISTED_POINTS",
    ): "a limit of effort, of which nobody counts the last point",
    (
        "sweep/study.py",
        "self._num_rejected[number] = self._num_rejected.get(number, 0) + 1",
        "1 -> 2",
    ): "each number that differs makes another seed",
    (
        "sweep/study.py",
        "self._num_rejected[number] = self._num_rejected.get(number, 0) + 1",
        "0 -> 1",
    ): "each number that differs makes another seed",
    (
        "sweep/recorder.py",
        "self, name: str, low: int, high: int, *, step: int = 1, log: bool = False",
        "1 -> 2",
    ): "a space says each time which step it wants",
    (
        "reporting/statistics.py",
        'return said if mean > 0 else f"a loss: {said}"',
        "mean > 0 -> mean >= 0",
    ): "its interval leaves zero out, so the mean is not zero",
}
