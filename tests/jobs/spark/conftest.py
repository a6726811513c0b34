"""One Spark session for all tests of silver and gold; each test has a catalog of its own."""

import os
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.spark.lakehouse_world import World, catalog_in
from lakehouse_jobs import spark_session
from lakehouse_operator.local import engines

_numbers = count(1)
# Small data and few repeats of any query: compiling less is worth more than running faster.
_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    installed = engines.find()
    # Not UTC, and with an hour that occurs twice: what the jobs do must not depend on the driver's own time zone.
    os.environ |= {**installed.java_environment(), "TZ": "America/New_York"}
    time.tzset()
    scratch = tmp_path_factory.mktemp("spark")
    options = {
        "spark.jars": ",".join(str(jar) for jar in sorted(installed.spark_jars.glob("*.jar"))),
        "spark.driver.memory": "1g",
        "spark.driver.extraJavaOptions": f"{_JAVA} -Djava.io.tmpdir={scratch} -Dderby.system.home={scratch}",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.local.dir": str(scratch),
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.ui.enabled": "false",
        # A handful of rows: planning again between stages costs more than it saves. What the jobs are given in
        # production is on in `test_reference_pipeline` and in the job that `test_command_line` submits.
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.shuffle.partitions": "1",
        "spark.log.level": "ERROR",
    }
    builder = SparkSession.builder.master("local[2]")
    for key, value in options.items():
        builder = builder.config(key, value)
    for key, value in spark_session.session_options(catalog_in(scratch, "unused"), {}).items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    yield session
    session.stop()


@pytest.fixture
def world(spark: SparkSession, tmp_path: Path) -> World:
    catalog = catalog_in(tmp_path, f"lakehouse{next(_numbers)}")
    return World(spark_session.open_session(catalog, {}, "tests"), catalog)
