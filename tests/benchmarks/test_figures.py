import subprocess
import sys

import pytest
from benchmarks.bronze.work import active, cpu_seconds, family, quantile


def test_seconds_at_work_leave_out_what_is_waited_for() -> None:
    half_a_core, resting = (0.0, 0.0), (1.0, 0.5)

    assert active([half_a_core, resting, (2.0, 0.6), (4.0, 2.6)]) == pytest.approx(1.0 + 2.0)


def test_one_sample_tells_nothing() -> None:
    assert active([(0.0, 0.0)]) == 0


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1.0), (0.25, 1.0), (0.26, 2.0), (0.5, 2.0), (0.95, 4.0), (1.0, 4.0)]
)
def test_a_quantile_is_a_value_that_was_measured(share: float, value: float) -> None:
    assert quantile([1.0, 2.0, 3.0, 4.0], share) == value


def test_the_work_of_a_program_counts_what_its_children_do() -> None:
    busy = "sum(range(3_000_000)); print('done', flush=True); input()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        members = family(process.pid)
        all_of_them, alone = cpu_seconds(members), cpu_seconds(members[:1])
        process.communicate(b"\n")

    assert members[0] == process.pid
    assert len(members) == 2
    assert all_of_them > alone


def test_the_cpu_time_of_a_process_that_has_ended_is_not_counted() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    assert cpu_seconds([ended.pid]) == 0
