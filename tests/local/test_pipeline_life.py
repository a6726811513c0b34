"""The life of a pipeline on one machine: the planner of the cluster, real engines, real kills, and the oracle."""

import asyncio
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any, cast

import pyarrow.dataset as ds
import pytest

from lakehouse_operator.cluster.kinds import LAKEHOUSE_BACKFILL
from lakehouse_operator.local import engines as find_engines
from lakehouse_operator.local import world as worlds
from lakehouse_operator.local.catalog import LocalCatalog
from lakehouse_operator.local.demo import findings
from lakehouse_operator.local.demo import world as demo_world
from lakehouse_operator.local.directory import WorldDirectory, world_directory
from lakehouse_operator.local.engines import Engines
from lakehouse_operator.local.flink_rest import FlinkRest
from lakehouse_operator.local.processes import recorded
from lakehouse_operator.local.topics import Topics
from lakehouse_operator.local.world import World
from lakehouse_operator.reference.kinds import MALFORMED, RULE_BREAKING, UNUSUAL
from lakehouse_operator.reference.produce import generate_to_kafka
from lakehouse_operator.reference.traffic import DAY_MS, Traffic

WORLD = "test-life"
NAME = "roman-numerals"
TOPIC = "roman-numeral-events"
BRONZE = "bronze.conversion_events"
EVENTS = 40_000
END_MS = 1_769_904_000_000
"""The stream ends with January 2026."""
DEADLINE_SECONDS = 1800
RUNNING = ("Running", "Soaking")
STALE = {("silver", "Rewind"), ("gold", "Rewind")}
"""What a rewind leaves behind."""
WATCHED_BRIEFLY = "    upgrade: {soak: {duration: 0s}}\n    flinkConfiguration: {}\n"
"""So that a revision is good once it has completed a checkpoint, and there is one to return to."""


@pytest.fixture(scope="module")
def engines() -> Engines:
    return find_engines.find()


@pytest.fixture
def directory(engines: Engines) -> Iterator[WorldDirectory]:
    made = world_directory(engines.home, WORLD)
    yield made
    worlds.end(made)
    made.clear()
    made.root.with_suffix(".lock").unlink(missing_ok=True)


class Life:
    """The commands that a person uses, and what can be seen from outside."""

    def __init__(self, engines: Engines, directory: WorldDirectory, manifest: Path) -> None:
        self.engines = engines
        self.directory = directory
        self.manifest = manifest

    def lakehouse(self, *arguments: str, code: int = 0) -> str:
        command = [self.engines.operator_python, "-m", "lakehouse_operator.cli", *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert done.returncode == code, done.stdout + self.operator_log()
        return done.stdout

    def up(self, code: int = 0, **edits: str) -> str:
        """Apply the manifest, with some lines of it changed."""
        text = self.manifest.read_text()
        for field, value in {"interval": "5s", **edits}.items():
            text, count = re.subn(rf"^(\s+{field}:) .*$", rf"\1 {value}", text, count=1, flags=re.MULTILINE)
            assert count == 1, field
        self.manifest.write_text(text)
        return self.lakehouse("local", "up", "-f", str(self.manifest), "--world", WORLD, code=code)

    @property
    def world(self) -> World:
        return worlds.find(self.engines, self.directory)

    @property
    def status(self) -> dict[str, Any]:
        return cast("dict[str, Any]", self.world.pipeline(NAME).get("status", {}))

    @property
    def job(self) -> str | None:
        stream = self.status.get("stream", {})
        return stream.get("jobId") if stream.get("state") in RUNNING else None

    def condition(self, kind: str) -> str | None:
        return next((each["status"] for each in self.status.get("conditions", ()) if each["type"] == kind), None)

    def kill(self, name: str) -> None:
        [record] = [record for _, record in recorded(self.directory.records) if record.name == name]
        os.kill(record.process.pid, signal.SIGKILL)

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 240) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}\n{self.status}\n{self.operator_log()}"
            time.sleep(0.3)

    def operator_log(self) -> str:
        log = self.directory.logs / "operator.log"
        return log.read_text()[-3000:] if log.exists() else ""

    def run(self, stage: str) -> dict[str, Any]:
        """Run a stage by hand and wait for its end."""
        asked = self.lakehouse("run", NAME, "--stage", stage, "--world", WORLD).split()[-1]

        def told() -> dict[str, Any]:
            runs = json.loads(self.lakehouse("runs", NAME, "--world", WORLD, "-o", "json"))
            return cast("dict[str, Any]", next(run["status"] for run in runs if run["name"] == asked))

        self.until(lambda: told().get("phase") in ("Succeeded", "Failed"), f"{asked} is over", seconds=400)
        return told()

    @contextmanager
    def catalog(self) -> Iterator[LocalCatalog]:
        catalog = LocalCatalog(self.directory, "lakehouse")
        try:
            yield catalog
        finally:
            catalog.close()

    def rows(self, table: str = BRONZE) -> int:
        with self.catalog() as catalog:
            return catalog.rows_of_summary(table) if table == BRONZE else catalog.count(table)

    def lose(self, day: str, table: str, column: str) -> int:
        """Somebody deletes a day of a table; answers how many rows that were."""
        before, following = self.rows(table), date.fromisoformat(day) + timedelta(days=1)
        midnight = "" if column.endswith("date") else "T00:00:00+00:00"
        with self.catalog() as catalog:
            found = catalog.find(table)
            assert found is not None
            found.delete(f"{column} >= '{day}{midnight}' and {column} < '{following}{midnight}'")
        return before - self.rows(table)

    def head(self) -> int:
        with self.catalog() as catalog:
            return catalog.head(BRONZE) or 0

    def tags(self) -> dict[str, int]:
        with self.catalog() as catalog:
            found = catalog.find(BRONZE)
            return {name: ref.snapshot_id for name, ref in found.refs().items()} if found else {}

    def is_ancestor(self, snapshot: int, of: int | None = None) -> bool:
        """Whether a snapshot of bronze is an ancestor of another one; of the head, if none is named."""
        with self.catalog() as catalog:
            found = catalog.find(BRONZE)
            assert found is not None
            at = of if of is not None else catalog.head(BRONZE)
            while at is not None and at != snapshot:
                seen = found.snapshot_by_id(at)
                at = seen.parent_snapshot_id if seen else None
            return at == snapshot

    def restored_from(self) -> str | None:
        """The path that the job was started from."""
        rest = FlinkRest(self.world.flink_url(NAME) or "")
        restored = rest.get(f"/jobs/{self.status['stream']['jobId']}/checkpoints")["latest"]["restored"]
        return cast("str | None", restored["external_path"] if restored else None)

    def backfill(self, name: str) -> dict[str, Any]:
        found = asyncio.run(self.world.cluster.read(LAKEHOUSE_BACKFILL, worlds.NAMESPACE, name))
        return cast("dict[str, Any]", found.get("status", {}))


class Sending:
    """Sends a stream of events in portions, so that some are always under way when something happens."""

    def __init__(self, world: World, truth: Path) -> None:
        self._allowed, self._more = 0, threading.Condition()
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._send, args=(world.bootstrap_servers, truth), daemon=True)
        self._thread.start()

    def _send(self, bootstrap_servers: str, truth: Path) -> None:
        traffic = Traffic(end_ms=END_MS, span_ms=3 * DAY_MS, events=EVENTS, partitions=worlds.PARTITIONS)
        try:
            generate_to_kafka(
                traffic, bootstrap_servers=bootstrap_servers, topic=TOPIC, truth_directory=truth, stop=self._stop,
                progress=self._wait_while_enough,
            )  # fmt: skip
        except BaseException as error:
            self._error = error

    def _wait_while_enough(self, sent: int) -> None:
        with self._more:
            self._more.wait_for(lambda: sent < self._allowed or self._stop.is_set())

    def more(self, records: int = 3_000) -> None:
        with self._more:
            self._allowed += records
            self._more.notify()

    def finish(self) -> None:
        self.more(10 * EVENTS)
        self._thread.join(120)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error

    def break_off(self) -> None:
        self._stop.set()
        self.more(0)
        self._thread.join(30)


@pytest.mark.timeout(DEADLINE_SECONDS)
def test_edits_kills_rewinds_and_a_new_start_lose_nothing_and_double_nothing(
    engines: Engines, directory: WorldDirectory, tmp_path: Path
) -> None:
    manifest = tmp_path / "pipeline.yaml"
    text = (engines.root / "examples" / "roman-numerals.yaml").read_text()
    manifest.write_text(text.replace("    restart: {", f"{WATCHED_BRIEFLY}    restart: {{"))
    life = Life(engines, directory, manifest)
    assert "Soaking" in life.up()
    first = life.job
    sending = Sending(life.world, directory.root / "truth")

    def goes_on() -> None:
        before = life.rows()
        sending.more()
        life.until(lambda: life.rows() > before, "bronze has more rows")
        sending.more()  # what happens next happens while records are under way

    try:
        goes_on()
        life.kill("flink-taskmanager")
        goes_on()

        assert "Stopping" in life.up(restart="{attempts: 3, delay: 20s}")
        second = life.job
        assert second not in {None, first}
        points = life.status["recoveryPoints"]
        assert (points[0]["trigger"], points[0]["proven"]) == ("upgrade", True)
        assert points[0]["bronzeSnapshot"]
        assert life.restored_from() == points[0]["path"]
        goes_on()

        silver = life.run("silver")
        assert silver["phase"] == "Succeeded", silver
        goes_back_to(life, points[0])
        goes_on()

        before = life.job
        life.kill("flink-jobmanager")
        life.until(lambda: life.job not in {None, before}, "the job is recovered")
        goes_on()

        returns_from_a_revision_that_crashes(life)
        goes_on()

        life.kill("operator")  # and with it all that it has started
        life.up(flinkConfiguration="{}")
        goes_on()
        sending.finish()
    finally:
        sending.break_off()

    valid = worlds.check(life.world.load(manifest))
    topics = Topics(life.world.bootstrap_servers)
    life.until(
        lambda: topics.committed(valid.consumer_group, TOPIC) == topics.ends(TOPIC), "bronze has read everything"
    )
    life.lakehouse("suspend", NAME, "--world", WORLD)
    life.until(lambda: life.status["stream"]["state"] == "Suspended", "it rests")
    assert life.status["recoveryPoints"][0]["trigger"] == "suspend"
    assert "Everything is there" in life.lakehouse("verify", "-f", str(manifest), "--world", WORLD)

    for stage in ("silver", "gold"):
        outcome = life.run(stage)
        assert outcome["phase"] == "Succeeded", outcome
    a_backfill_renews_what_is_stale(life)

    catalog = LocalCatalog(directory, valid.spec.catalog.name)
    seen = demo_world.World(
        engines=engines, directory=directory, processes=cast("Any", None), operator=cast("Any", None), world=life.world,
        topics=topics, catalog=catalog, pipeline=valid,
    )  # fmt: skip
    found = findings.gather(seen, rewound=True)
    catalog.close()
    assert [check.report() for check in found.checks if not check.passed] == []
    assert found.produced > EVENTS
    truth = ds.dataset(sorted(map(str, (directory.root / "truth").glob("truth-*.parquet")))).to_table(columns=["kind"])[
        "kind"
    ]
    kinds = {kind.name for kind in (*MALFORMED, *RULE_BREAKING, *UNUSUAL)}
    assert kinds - set(truth.unique().to_pylist()) == set(), "every kind of event went through all engines"

    assert "operator" in life.lakehouse("local", "down", WORLD)


def goes_back_to(life: Life, point: dict[str, Any]) -> None:
    """A person restores the stream to a recovery point: bronze is rolled back with it, and what followed is stale."""
    before, head = life.job, life.head()
    life.lakehouse("restore", NAME, point["name"], "--world", WORLD)
    life.until(lambda: life.job not in {None, before}, "it has gone back")
    assert life.restored_from() == point["path"]
    tags = life.tags()
    discarded = [snapshot for tag, snapshot in tags.items() if tag.startswith("discarded-")]
    assert int(point["bronzeSnapshot"]) in tags.values()
    assert len(discarded) == 1, "the discarded head is kept under a tag"
    assert life.is_ancestor(int(point["bronzeSnapshot"]))
    assert not life.is_ancestor(discarded[0])
    assert life.is_ancestor(head, of=discarded[0])
    assert {(each["stage"], each["reason"]) for each in life.status["stale"]} == STALE


def returns_from_a_revision_that_crashes(life: Life) -> None:
    """A change that passes every check and can't restore the state: the last good revision goes on, by itself."""
    good = life.status["stream"]["lastGood"]["revision"]
    told = life.up(code=1, flinkConfiguration="{state.backend.rocksdb.options-factory: no.such.Factory}")
    assert "was rolled back" in told
    life.until(lambda: life.condition("StreamRunning") == "True", "the good revision runs")
    assert life.status["stream"]["revision"] == good
    assert life.status["recoveryPoints"][0]["trigger"] == "upgrade"
    assert life.restored_from() == life.status["recoveryPoints"][0]["path"]


def a_backfill_renews_what_is_stale(life: Life) -> None:
    """What the rewind left behind, and a day that somebody lost, is put together again once a person approves it."""
    stale = life.status["stale"]
    assert {(each["stage"], each["reason"]) for each in stale} == STALE
    first, last = min(each["first"] for each in stale), max(each["last"] for each in stale)
    facts = life.rows("silver.conversions")
    assert life.lose(last, "silver.conversions", "event_time") > 0
    assert life.lose(last, "gold.fact_conversions", "event_date") > 0
    days = ("--from", first, "--to", last, "--days-per-run", "30")
    asked = life.lakehouse("backfill", NAME, *days, "--world", WORLD).split()[2]
    life.until(lambda: life.backfill(asked).get("phase") == "Proposed", "it is planned")
    assert [
        (each["stage"], each["first"], each["last"], each["state"]) for each in life.backfill(asked)["intervals"]
    ] == [
        ("silver", first, last, "Planned"),
        ("gold", first, last, "Planned"),
    ]
    life.lakehouse("approve", asked, "--world", WORLD)
    life.until(lambda: "suspend" in life.backfill(asked).get("message", ""), "it waits while all is suspended")
    life.lakehouse("resume", NAME, "--world", WORLD)
    life.until(lambda: life.backfill(asked).get("phase") in ("Succeeded", "Failed"), "it is over", seconds=400)
    assert life.backfill(asked)["phase"] == "Succeeded", life.backfill(asked)
    assert life.rows("silver.conversions") == facts
    life.until(lambda: not life.status.get("stale"), "nothing is stale any more")


def test_a_manifest_that_is_refused_starts_nothing_and_names_the_field(
    engines: Engines, directory: WorldDirectory, tmp_path: Path
) -> None:
    manifest = tmp_path / "pipeline.yaml"
    text = (engines.root / "examples" / "minimal.yaml").read_text()
    manifest.write_text(text + "\n  suspend: perhaps\n")
    life = Life(engines, directory, manifest)
    told = life.lakehouse("local", "up", "-f", str(manifest), "--world", WORLD, code=1)
    assert told == 'error: the pipeline is refused:\nspec.suspend: must be true or false, not "perhaps"\n'
    assert not worlds.is_up(directory)
