"""The Spark session of a batch job. Master, memory and jars come from spark-submit; this says how SQL is computed."""

import logging
from collections.abc import Mapping

from pyspark.sql import SparkSession

from lakehouse_contract.decoding import Problem, SettingsRefused
from lakehouse_contract.settings import CatalogSettings
from lakehouse_jobs.iceberg_catalog import catalog_properties

_EXTENSIONS = "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions"
_REDACTED = "(?i)secret|password|passwd|token|credential|access[-.]?key|jdbc[.]user"

_SQL = {
    "spark.sql.session.timeZone": "UTC",
    # Silver and gold must mean the same wherever they run, so what the expressions mean does not come from outside.
    "spark.sql.ansi.enabled": "true",
    "spark.sql.caseSensitive": "false",
    "spark.sql.storeAssignmentPolicy": "ANSI",
    "spark.sql.variant.allowDuplicateKeys": "false",
    # `${env:NAME}` in a model's SQL would read the driver's environment, where the secrets are.
    "spark.sql.variable.substitute": "false",
    # A common subexpression is computed before the expressions that share it: outside of their try (expressions).
    "spark.sql.subexpressionElimination.enabled": "false",
}
_SHUFFLE_PARTITIONS = "spark.sql.shuffle.partitions"
_FEW_PARTITIONS = 8  # adaptive execution merges small ones; large jobs set more at spark-submit


def open_session(catalog: CatalogSettings, environment: Mapping[str, str], name: str) -> SparkSession:
    """Start Spark, or take the session that is there, with the catalog as the current one.

    Raises:
        SettingsRefused: A secret's environment variable is not set.
    """
    builder = SparkSession.builder.appName(name)
    for key, value in session_options(catalog, environment).items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    if session.sparkContext.getConf().get(_SHUFFLE_PARTITIONS) is None:
        session.conf.set(_SHUFFLE_PARTITIONS, _FEW_PARTITIONS)
    if session.sparkContext.getConf().get("spark.log.level") is None:
        session.sparkContext.setLogLevel("WARN")  # INFO prints every plan of every query
    for noisy in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        logging.getLogger(noisy).disabled = True  # they print a stack for every refused expression
    session.catalog.setCurrentCatalog(catalog.name)
    return session


def session_options(catalog: CatalogSettings, environment: Mapping[str, str]) -> dict[str, str]:
    """The Spark options that a job needs, the catalog among them."""
    prefix = f"spark.sql.catalog.{catalog.name}"
    options = {
        **_SQL,
        "spark.sql.extensions": _EXTENSIONS,
        "spark.redaction.regex": _REDACTED,
        prefix: "org.apache.iceberg.spark.SparkCatalog",
        f"{prefix}.cache-enabled": "false",  # another process commits too: what is read must be what is there
    }
    for key, value in catalog_properties(catalog, secrets_of(catalog, environment)).items():
        options[f"{prefix}.{key}"] = value
    return options


def secrets_of(catalog: CatalogSettings, environment: Mapping[str, str]) -> dict[str, str]:
    """The catalog's secret properties with their values.

    Raises:
        SettingsRefused: An environment variable is not set.
    """
    problems = tuple(
        Problem(f"catalog.secretProperties.{key}", f"the environment variable {variable} is not set")
        for key, variable in catalog.secret_properties.items()
        if variable not in environment
    )
    if problems:
        raise SettingsRefused(problems)
    return {key: environment[variable] for key, variable in catalog.secret_properties.items()}
