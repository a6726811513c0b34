"""What all catalogs and stores are tried with: a broker, a Flink cluster and a Spark, with the jars of the images."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import override

from catalogs import servers
from lakehouse_operator.local import engines, flink, kafka, spark
from lakehouse_operator.local.processes import Process, Processes

ROOT = Path(__file__).resolve().parents[2]
AWS_KEYS = {"AWS_ACCESS_KEY_ID": "catalog-tests", "AWS_SECRET_ACCESS_KEY": "the-stores-secret-key"}
"""Both stores know this user."""
MINIO_BUCKET, VERSITYGW_BUCKET = "on-minio", "on-versitygw"
_SECONDS = 300.0
_LITTLE_DATA = {
    # A handful of rows: planning again between stages costs more than it saves.
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.shuffle.partitions": "1",
    "spark.ui.enabled": "false",
}


def programs() -> dict[str, Path]:
    """Where PostgreSQL, the stores and the rest are; whatever has to be built is built now."""
    told = subprocess.run(
        [sys.executable, ROOT / "setup" / "catalog_programs.py"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    return {name: Path(path) for name, _, path in (line.partition("=") for line in told.splitlines())}


@dataclass(frozen=True)
class Engines(engines.Engines):
    """The engines of this checkout with the jars that the images add."""

    laid_out: Path

    @property
    @override
    def flink_home(self) -> Path:
        return self.laid_out / "flink"

    @property
    @override
    def spark_jars(self) -> Path:
        return self.laid_out / "spark"


def lay_out(found: Mapping[str, Path], directory: Path) -> Engines:
    """Make a FLINK_HOME and a folder of Spark's jars out of links."""
    own = engines.find(ROOT)
    for name in ("bin", "conf"):
        shutil.copytree(own.flink_home / name, directory / "flink" / name)
    for name in ("lib", "opt", "plugins"):
        shutil.copytree(own.flink_home / name, directory / "flink" / name, symlinks=True)
    (directory / "flink" / "log").mkdir()
    _link(found["flink-lib"], directory / "flink" / "lib")
    _link(found["flink-s3"], directory / "flink" / "plugins" / "s3-fs-hadoop")
    for folder in (own.spark_jars, found["spark-jars"]):
        _link(folder, directory / "spark")
    return Engines(own.root, directory)


def _link(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for jar in source.glob("*.jar"):
        if not (target / jar.name).exists():
            (target / jar.name).symlink_to(jar.resolve())


class Spark:
    """One Spark that answers one request after another (`spark_worker`)."""

    def __init__(
        self,
        processes: Processes,
        laid_out: engines.Engines,
        directory: Path,
        name: str,
        environment: Mapping[str, str],
    ) -> None:
        self._requests = directory / "requests"
        self._requests.mkdir(parents=True)
        self._number = 0
        self.run = spark.submit(
            processes, laid_out, directory, name=name, script=Path(__file__).with_name("spark_worker.py"),
            arguments=[str(self._requests)], environment=environment, options=_LITTLE_DATA,
        )  # fmt: skip

    def ask(self, **request: Any) -> Callable[[], Any]:
        """Ask for something, without waiting; answers how to wait for the answer."""
        number, self._number = self._number, self._number + 1
        draft = self._requests / f"{number}.new"
        draft.write_text(json.dumps(request))
        draft.rename(self._requests / f"{number}.request")

        def wait() -> Any:
            there = self._requests / f"{number}.answer"
            self.run.process.until(there.exists, what="done", seconds=_SECONDS)
            found = json.loads(there.read_text())
            assert "error" not in found, found["error"]
            return found["answer"]

        return wait

    def stop(self) -> None:
        """Let it end by itself."""
        (self._requests / "stop").touch()
        self.run.process.wait(60)


@dataclass
class Machine:
    """Everything that the catalogs of this run share."""

    programs: Mapping[str, Path]
    processes: Processes
    directory: Path
    broker: kafka.Broker
    flink: flink.FlinkCluster
    minio: servers.Store
    versitygw: servers.Store
    postgres: servers.Postgres
    java: Path

    def spark(self, name: str, environment: Mapping[str, str]) -> Spark:
        """A Spark with these variables, where a pod has its secrets."""
        return Spark(self.processes, self.flink.engines, self.directory / name, name, environment)


class WithKeys(Processes):
    """Processes that all have the keys of the stores in their environment, as pods have."""

    @override
    def start(self, name: str, command: Any, *, environment: Any = None, **more: Any) -> Process:
        return super().start(
            name, command, environment={"AWS_REGION": "us-east-1", **AWS_KEYS, **(environment or {})}, **more
        )


@contextmanager
def running(directory: Path) -> Iterator[Machine]:
    """Start everything, and stop it at the end."""
    found = programs()
    laid_out = lay_out(found, directory / "engines")
    with WithKeys(directory / "records", directory / "logs") as processes:
        key, secret = AWS_KEYS.values()
        broker = kafka.start(processes, laid_out, directory / "kafka")
        stores = [
            start(processes, found[name], directory / name, bucket=bucket, key=key, secret=secret)
            for name, start, bucket in (
                ("minio", servers.minio, MINIO_BUCKET),
                ("versitygw", servers.versitygw, VERSITYGW_BUCKET),
            )
        ]
        for store in stores:
            store.filesystem.create_dir(store.bucket)
        buckets = {
            f"fs.s3a.bucket.{store.bucket}.{name}": value
            for store in stores
            for name, value in (("endpoint", store.endpoint), ("path.style.access", "true"))
        }
        options = {**buckets, "fs.s3a.directory.marker.retention": "keep"}  # as the planner sets it
        cluster = flink.start(processes, laid_out, directory / "flink", port=None, slots=2, options=options)
        postgres = servers.Postgres(processes, found["postgres"], user="lakehouse", password="the-password-of-postgres")
        try:
            postgres.start()
            broker.wait_until_ready()
            cluster.wait_until_ready()
            yield Machine(found, processes, directory, broker, cluster, *stores, postgres, laid_out.java)
        finally:
            processes.stop()
            postgres.remove()
