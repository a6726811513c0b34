"""One demo from beginning to end."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from lakehouse_operator.local import spark
from lakehouse_operator.local import world as worlds
from lakehouse_operator.local.demo import findings, report
from lakehouse_operator.local.demo.findings import Findings
from lakehouse_operator.local.demo.screen import Screen
from lakehouse_operator.local.demo.watch import Batch, Sender, Watch
from lakehouse_operator.local.demo.world import CHECKPOINT_SECONDS, World, start, wait_for_bronze
from lakehouse_operator.local.directory import WorldDirectory, world_directory
from lakehouse_operator.local.engines import Engines
from lakehouse_operator.local.processes import Processes
from lakehouse_operator.local.topics import LiveCount
from lakehouse_operator.reference.traffic import DAY_MS, Traffic

EXAMPLE = Path("examples") / "roman-numerals.yaml"
END_OF_STREAM = datetime(2026, 2, 1, tzinfo=UTC)
"""When the simulated clock stops: the same events and the same results each time."""
SPAN_MS = 3 * DAY_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is asked of a demo.

    Attributes:
        events: How many events, repeats not counted.
        keep: Leave the engines up, and the stream running.
        world: Where it runs: a name below `.lakehouse`.
        json: A file for what came out, for a program to read.
    """

    events: int = 200_000
    keep: bool = False
    world: str = "demo"
    json: Path | None = None

    @property
    def rate(self) -> float:
        """Records per second: a stream of 20 seconds to two minutes, at 4,000 where that fits, at 20,000 at most."""
        return min(20_000.0, self.events / min(120.0, max(20.0, self.events / 4_000)))

    def traffic(self) -> Traffic:
        """The stream: always the same for the same number of events."""
        end_ms = int(END_OF_STREAM.timestamp() * 1000)
        return Traffic(end_ms=end_ms, span_ms=SPAN_MS, events=self.events, partitions=worlds.PARTITIONS)


@dataclass(slots=True)
class Demo:
    """A demo that is going on."""

    engines: Engines
    options: Options
    screen: Screen
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self) -> bool:
        """Run it; answers whether every check has passed.

        Raises:
            DemoFailed: Something went wrong.
            ProcessFailed: A process ended, or was not ready in time.
        """
        directory = world_directory(self.engines.home, self.options.world)
        with worlds.alone(directory):
            if ended := worlds.clear(directory):
                self.screen.say(f"ended what an earlier demo had left up: {', '.join(ended)}")
            with Processes(directory.records, directory.logs) as processes:
                return self._run(directory, processes)

    def _run(self, directory: WorldDirectory, processes: Processes) -> bool:
        screen, say, options = self.screen, self.screen.say, self.options
        manifest = self.engines.root / EXAMPLE
        say("starting Kafka and the operator")
        with screen.waiting(), self._timed("engines"):
            world = start(self.engines, directory, processes, manifest, logged=options.keep)
        with closing(world.catalog):
            say(f"Kafka at {world.bootstrap_servers}; {EXAMPLE} is applied, the operator starts Flink and bronze")
            with screen.waiting(), self._timed("bronze start"):
                url = wait_for_bronze(world)
            say(f"bronze is running, Flink at {url}; a checkpoint every {CHECKPOINT_SECONDS} s (the manifest says 60)")
            found = self._stream(world)
            report.show(screen.console, world, found, self.seconds)
            if options.json:
                options.json.write_text(findings.as_json(found, self.seconds))
            if options.keep:
                self._keep(world, url)
            return found.passed

    def _stream(self, world: World) -> Findings:
        options, say = self.options, self.screen.say
        silver, gold = Batch(world, "silver", say), Batch(world, "gold", say)
        dead_letters = LiveCount(world.bootstrap_servers, world.pipeline.dead_letter_topic)
        truth = world.directory.root / "truth"
        say(f"sending {options.events:,} events of three simulated days, {options.rate:,.0f} a second")
        with closing(dead_letters), Sender(world, options.traffic(), options.rate, truth) as sender:
            watch = Watch(world, sender, silver, gold, dead_letters, self.screen, options.events)
            with self.screen.progressing():
                with self._timed("stream"):
                    watch.until_sent()
                say(f"{sender.sent:,} records are sent, repeats among them; waiting until bronze has committed all")
                with self._timed("bronze catches up"):
                    watch.until_complete()
                say("bronze holds everything; silver takes what it has not seen yet")
                with self._timed("silver"):
                    watch.until_done(silver)
                    if not silver.has_come_to(world.catalog.head(world.pipeline.bronze_table)):
                        silver.start()
                        watch.until_done(silver)
                say("silver is done, computing gold")
                with self._timed("gold"):
                    gold.start()
                    watch.until_done(gold)
        if not options.keep:
            with self.screen.waiting(), self._timed("savepoint"):
                savepoint = world.suspend()
            say(f"suspended the pipeline; its recovery point: {savepoint}")
        say("asking the oracle")
        with self.screen.waiting(), self._timed("oracle"):
            return findings.gather(world)

    def _keep(self, world: World, url: str) -> None:
        history = spark.start_history_server(world.processes, world.engines, world.directory.spark)
        world.processes.keep()
        name = self.options.world
        self.screen.say(f"kept up: Kafka {world.bootstrap_servers}, Flink UI {url}, Spark UI {history}")
        self.screen.say(f"look at it with: {self.engines.command} status {world.pipeline.name} --world {name}")
        self.screen.say(f"end it with: {self.engines.command} local down {name}")

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[part] = time.monotonic() - began
