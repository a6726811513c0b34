"""Spark on this machine, as the benchmarks of batch jobs want it."""

import os

from pyspark.sql import SparkSession

from lakehouse_contract.settings import CatalogSettings
from lakehouse_jobs import spark_session
from lakehouse_operator.local import engines


def session(catalog: CatalogSettings, scratch: str, memory: str) -> SparkSession:
    """Start Spark with two cores and so much memory for the driver, with what the jobs set; it writes to `scratch`."""
    installed = engines.find()
    os.environ |= installed.java_environment()
    builder = SparkSession.builder.master("local[2]")
    own = {
        "spark.jars": ",".join(str(jar) for jar in sorted(installed.spark_jars.glob("*.jar"))),
        "spark.driver.memory": memory,
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.local.dir": scratch,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
    }
    for key, value in {**own, **spark_session.session_options(catalog, {})}.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()
