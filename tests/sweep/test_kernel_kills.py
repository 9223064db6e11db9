"""Workers that the kernel ends for lack of memory, told from those that crash."""

from kdsweep.sweep.ray import kernel_kills
from kdsweep.sweep.ray.kernel_kills import KernelKills


def test_each_kill_of_the_kernel_stands_for_one_worker(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(kernel_kills.time, "monotonic", lambda: now[0])
    counters = tmp_path / "vmstat"

    def count(kills):
        counters.write_text(f"nr_free_pages 1\noom_kill {kills}\noom_kill_other 9\n")

    count(7)
    kills = KernelKills(counters)
    assert not kills.take()
    count(9)
    assert [kills.take() for _ in range(3)] == [True, True, False]
    count(10)
    kills.look()
    now[0] += 31  # somebody else's, by now
    assert not kills.take()
    count(11)
    kills.look()
    now[0] += 5
    assert kills.take()


def test_systems_that_count_nothing(tmp_path):
    assert not KernelKills(tmp_path / "not there").take()
