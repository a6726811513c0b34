"""One world under fire for all tests of a file: to start it costs more than many a fault."""

from collections.abc import Iterator

import pytest

from chaos.arena import Arena
from lakehouse_operator.local import engines
from lakehouse_operator.local.directory import WorldDirectory
from lakehouse_operator.local.processes import Processes


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """A stream that runs; each test lets events flow as it needs them, and leaves it running."""
    directory = WorldDirectory(tmp_path_factory.mktemp("arena") / "world")
    directory.make()
    with Processes(directory.records, directory.logs) as processes:
        started = Arena(engines.find(), directory, processes, say=print)
        started.start()
        yield started
        if started.events is not None:
            started.events.finish()
