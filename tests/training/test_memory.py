"""Memory of a step: the teacher's activations and one student's, whatever the number of students.

Counted are the bytes of all tensor storages alive on the CPU after each operation: unlike the
memory of the process, they are the same in every run.
"""

from __future__ import annotations

from live_bytes import LiveBytes
from toy_task import ALL, Memory, engine


def measure(num_students: int, *, teacher: bool = True) -> tuple[int, int]:
    """Peak bytes in an epoch, training and validation; those that stay from epoch to epoch."""
    # Many pixels and small networks: a second graph would stand out from weights and the like.
    batches = Memory(num_batches=2, batch_size=12)
    made = engine([ALL if teacher else None] * num_students, teacher=teacher, batches=batches)
    with LiveBytes() as live:
        epochs = made.epochs()
        next(epochs)
    peak, kept = live.peak, live.now
    epochs.close()
    return peak, kept


def test_memory_holds_one_students_graph_whatever_the_number_of_students() -> None:
    graph, _ = measure(1, teacher=False)
    one, kept_by_one = measure(1)
    four, kept_by_four = measure(4)
    # What stays of a student are its optimiser's two moments.
    own = (kept_by_four - kept_by_one) / 3
    gradients = own / 2
    assert graph > 5 * own > 0  # so that a second graph would show
    assert four - one < 3 * own + gradients
