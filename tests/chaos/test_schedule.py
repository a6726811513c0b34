"""The schedule of faults: what a seed decides, and what every schedule holds."""

from collections import Counter

import pytest

from chaos.schedule import (
    AGAIN_SECONDS,
    DISTURBANCES,
    DRIVER_SECONDS,
    KILLS,
    LOCK_SECONDS,
    LONGEST_WAIT_SECONDS,
    ON_STORE,
    VICTIMS,
    Disturb,
    Kill,
    count,
    make,
)

IN_A_FAULT = [len(victims) * (1 + again) for victims, _, again in KILLS]


def test_equal_seeds_give_equal_faults_and_others_others() -> None:
    assert make(7, 100) == make(7, 100)
    assert make(7, 100) != make(8, 100)


@pytest.mark.parametrize("kills", [0, 1, 30, 300])
def test_it_holds_as_many_kills_as_asked_for_and_at_most_one_fault_more(kills: int) -> None:
    killed = sum(count(make(3, kills)).values())
    assert kills <= killed < kills + max(IN_A_FAULT)


def test_whatever_the_seed_every_point_is_met_before_any_comes_again() -> None:
    for seed in range(20):
        faults = [fault for fault in make(seed, sum(IN_A_FAULT), ()) if isinstance(fault, Kill)]
        assert Counter((fault.victims, fault.point, len(fault.again)) for fault in faults) == Counter(KILLS)
        assert set(count(faults)) == set(VICTIMS)


def test_disturbances_come_between_kills_each_before_any_comes_again() -> None:
    for seed in range(20):
        disturbed = [fault.what for fault in make(seed, 80) if isinstance(fault, Disturb)]
        assert Counter(disturbed[: 2 * len(DISTURBANCES)]) == Counter(2 * DISTURBANCES)
    assert all(isinstance(fault, Kill) for fault in make(1, 80, ()))


def test_waits_and_locks_stay_within_their_bounds() -> None:
    for fault in make(5, 300, ON_STORE):
        if isinstance(fault, Kill):
            assert all(AGAIN_SECONDS[0] <= pause <= AGAIN_SECONDS[1] for pause in fault.again)
        match fault:
            case Kill(victims=("sparkDriver",), point="anytime"):
                assert 0 <= fault.seconds <= DRIVER_SECONDS
            case Kill(point="anytime"):
                assert 0 <= fault.seconds <= LONGEST_WAIT_SECONDS
            case Disturb(what="catalogLock" | "storeFaults"):
                assert LOCK_SECONDS[0] <= fault.seconds <= LOCK_SECONDS[1]
            case _:
                assert fault.seconds == 0
