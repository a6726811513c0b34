"""A store that answers 5xx, hangs and loses answers, under a stream that goes on and a silver run."""

from collections.abc import Iterator

import pytest

from chaos import faults, store
from chaos.arena import Arena, prove
from lakehouse_operator.local.directory import WorldDirectory
from lakehouse_operator.local.processes import Processes

DEADLINE_SECONDS = 1200
MOOD_SECONDS = 3.0
"""Longer than all retries of the engines together (`store.IMPATIENCE`)."""


@pytest.fixture
def on_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """A stream whose tables are on an S3 store."""
    home = tmp_path_factory.mktemp("on-s3")
    directory = WorldDirectory(home / "world")
    directory.make()
    with store.keys(), Processes(directory.records, directory.logs) as processes:
        own = store.start(processes, home / "store", seed=5)
        arena = Arena(store.lay_out(home / "checkout"), directory, processes, seed=50, store=own, say=print)
        arena.start()
        yield arena
        own.be("well")
        if arena.events is not None:
            arena.events.finish()


@pytest.mark.timeout(DEADLINE_SECONDS)
def test_a_store_that_fails_in_every_way_loses_nothing_and_doubles_nothing(on_s3: Arena) -> None:
    on_s3.begin()
    on_s3.until_well()
    on_s3.run_silver()
    faults.upset_store(on_s3, MOOD_SECONDS)
    on_s3.until_well()
    assert on_s3.store is not None
    assert set(on_s3.store.met) >= {"unavailable", "broken", "forgetful", "silent"}, "every fault met a request"
    prove(on_s3, with_silver=True)
