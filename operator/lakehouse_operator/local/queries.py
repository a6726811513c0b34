"""Command lines with which a person can look into the tables of a world."""

import shlex
from pathlib import Path

from lakehouse_operator.local.catalog import LocalCatalog
from lakehouse_operator.local.directory import WorldDirectory
from lakehouse_operator.local.engines import Engines
from lakehouse_operator.local.spark import spark_home, write_logging


def write_spark_properties(engines: Engines, directory: WorldDirectory, catalog: LocalCatalog) -> Path:
    """Write the file with which `spark-sql --properties-file` finds the tables."""
    prefix = f"spark.sql.catalog.{catalog.name}"
    # Hive's own metastore, which spark-sql opens and nobody uses, would otherwise lie where the person stands.
    temporary = directory.spark / "tmp"
    java_options = (
        f"-Dderby.system.home={temporary} -Djava.io.tmpdir={temporary} "
        f"-Dlog4j2.configurationFile={write_logging(directory.spark).as_uri()}"
    )
    settings = {
        "spark.master": "local[2]",
        "spark.driver.extraClassPath": f"{engines.spark_jars}/*",
        "spark.driver.extraJavaOptions": java_options,
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.sql.warehouse.dir": str(temporary / "spark-warehouse"),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        "spark.sql.defaultCatalog": catalog.name,
        prefix: "org.apache.iceberg.spark.SparkCatalog",
        f"{prefix}.catalog-impl": "org.apache.iceberg.jdbc.JdbcCatalog",
        f"{prefix}.uri": f"jdbc:sqlite:{directory.catalog}",
        f"{prefix}.jdbc.schema-version": "V1",
        f"{prefix}.warehouse": catalog.warehouse,
    }
    path = directory.root / "spark-sql.conf"
    path.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    return path


def duckdb(engines: Engines, catalog: LocalCatalog, table: str) -> str:
    """Query a table with DuckDB, as `t`."""
    return _python(engines, f'{_table(catalog, table)}.scan().to_duckdb("t").sql("FROM t LIMIT 10").show()')


def pyiceberg(engines: Engines, catalog: LocalCatalog, table: str) -> str:
    """Read a table with pyiceberg."""
    return _python(engines, f"print({_table(catalog, table)}.scan(limit=10).to_arrow())")


def spark_sql(engines: Engines, properties: Path, table: str) -> str:
    """Query a table with Spark SQL."""
    environment = f"JAVA_HOME={shlex.quote(str(engines.java.parent.parent))}"
    program = spark_home(engines) / "bin" / "spark-sql"
    statement = shlex.quote(f"SELECT * FROM {table} LIMIT 10")  # noqa: S608 - the name of a table that is there
    return f"{environment} {shlex.quote(str(program))} --properties-file {shlex.quote(str(properties))} -e {statement}"


def _table(catalog: LocalCatalog, table: str) -> str:
    # Double quotes, so that the whole can stand in a shell's single ones.
    return f'SqlCatalog("{catalog.name}", uri="{catalog.uri}").load_table("{table}")'


def _python(engines: Engines, expression: str) -> str:
    code = f"from pyiceberg.catalog.sql import SqlCatalog; {expression}"
    return f"{shlex.quote(str(engines.operator_python))} -c {shlex.quote(code)}"
