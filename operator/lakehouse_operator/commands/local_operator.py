"""The operator of a world on one machine: `python -m lakehouse_operator.commands.local_operator DIRECTORY`.

The same rounds as in a cluster, over a local cluster. Beside them run the broker and what stands in for the Flink
operator, the Spark operator and Kubernetes' garbage collector.
"""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

from lakehouse_operator.cluster.kinds import LAKEHOUSE_PIPELINE
from lakehouse_operator.handlers.bells import Bells
from lakehouse_operator.handlers.sight import Sight
from lakehouse_operator.handlers.tender import Tender
from lakehouse_operator.local import engines, garbage, kafka
from lakehouse_operator.local.cluster import LocalCluster
from lakehouse_operator.local.directory import WorldDirectory
from lakehouse_operator.local.flink_operator import LocalFlinkOperator
from lakehouse_operator.local.objects import InFiles
from lakehouse_operator.local.processes import Processes
from lakehouse_operator.local.spark_operator import LocalSparkOperator

_LOOK_SECONDS = 0.25
_STEP_SECONDS = 0.5
_GARBAGE_SECONDS = 5.0

_log = logging.getLogger(__name__)


class LocalOperator:
    """Everything that goes on in a world.

    Args:
        directory: the world.
        processes: who ends the engines.
        logged: whether Spark's runs can be looked at afterwards.
    """

    def __init__(self, directory: WorldDirectory, processes: Processes, *, logged: bool) -> None:
        installed = engines.find()
        self._directory = directory
        self._objects = InFiles(directory.objects)
        cluster = LocalCluster(self._objects)
        self._cluster = cluster
        self._flink = LocalFlinkOperator(cluster, processes, installed, directory.flink)
        self._spark = LocalSparkOperator(cluster, processes, installed, directory.spark, logged=logged)
        sight = Sight(cluster, ("127.0.0.1:*",), self._flink.rest_url)
        self._bells = Bells(Tender(cluster, sight).round, concurrency=4)
        self._start_broker = partial(kafka.start, processes, installed, directory.kafka)
        self._broker: kafka.Broker | None = None
        self._seen = -1

    async def run(self, stop: asyncio.Event) -> None:
        """Run until told to stop."""
        await self._keep_broker()
        loops = (
            (self._look, _LOOK_SECONDS),
            (self._flink.step, _STEP_SECONDS),
            (self._spark.step, _STEP_SECONDS),
            (self._keep_broker, _STEP_SECONDS),
            (lambda: garbage.collect(self._cluster), _GARBAGE_SECONDS),
        )
        tasks = [asyncio.create_task(_again_and_again(step, seconds)) for step, seconds in loops]
        await stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._bells.stop()

    async def _look(self) -> None:
        """Ring for every pipeline when anything has changed; there are few in a world."""
        version = self._objects.version()
        if version == self._seen:
            return
        self._seen = version
        for pipeline in await self._cluster.list_labelled(LAKEHOUSE_PIPELINE, None, {}):
            self._bells.begin((pipeline["metadata"]["namespace"], pipeline["metadata"]["name"]))

    async def _keep_broker(self) -> None:
        """Start the broker, and start it again if it has ended, with its data and on its port."""
        if self._broker is not None and self._broker.process.exit_code() is None:
            return
        if self._broker is not None:
            _log.warning("the broker has ended; starting it again")
        self._broker = self._start_broker(port=self._known_port())
        await asyncio.to_thread(self._broker.wait_until_ready)
        self._directory.broker.write_text(self._broker.bootstrap_servers)

    def _known_port(self) -> int | None:
        """The port that the pipelines know the broker by."""
        properties = self._directory.kafka / "server.properties"
        if not properties.exists():
            return None
        line = next(line for line in properties.read_text().splitlines() if line.startswith("advertised.listeners="))
        return int(line.rpartition(":")[2])


async def _again_and_again(step: Callable[[], Awaitable[None]], seconds: float) -> None:
    while True:
        try:
            await step()
        except Exception:  # noqa: BLE001 - see below
            # One failed step must not end the care of everything else; the next one looks at the world anew.
            _log.exception("a step failed")
        await asyncio.sleep(seconds)


async def _main(directory: WorldDirectory, *, logged: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with Processes(directory.records, directory.logs) as processes:
        await LocalOperator(directory, processes, logged=logged).run(stop)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the operator of the world that the command line names."""
    parser = argparse.ArgumentParser(prog="local_operator", description="The operator of a world on this machine.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--logged", action="store_true", help="keep what Spark's history server shows")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(_main(WorldDirectory(options.directory), logged=options.logged))
    return 0


if __name__ == "__main__":
    sys.exit(main())
