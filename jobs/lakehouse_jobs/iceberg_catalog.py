"""The Iceberg catalog, through Iceberg's own Java library in the JVM that PyFlink talks to."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lakehouse_contract.decoding import Problem, SettingsRefused
from lakehouse_contract.settings import CatalogSettings
from lakehouse_contract.tables import Table, iceberg_partition_spec, iceberg_schema

_JDBC_CATALOG = "org.apache.iceberg.jdbc.JdbcCatalog"
_SQLITE_BUSY_MILLISECONDS = "30000"


class TableRefused(SettingsRefused):
    """The table that the settings name is there, but it is not the table that the job writes."""


def catalog_properties(catalog: CatalogSettings, secrets: Mapping[str, str]) -> dict[str, str]:
    """The catalog's properties under Iceberg's own names. `secrets` are properties with their values."""
    properties = {"uri": catalog.uri, "warehouse": catalog.warehouse}
    if catalog.type == "jdbc":
        properties |= {"catalog-impl": _JDBC_CATALOG, "jdbc.schema-version": "V1"}
        if catalog.uri.startswith("jdbc:sqlite:"):
            # SQLite's default journal answers SQLITE_BUSY as soon as two engines meet (apache/iceberg #18043).
            properties |= {"jdbc.journal_mode": "WAL", "jdbc.busy_timeout": _SQLITE_BUSY_MILLISECONDS}
    else:
        properties["type"] = catalog.type
    return {**properties, **catalog.properties, **secrets}


def flink_catalog_options(properties: Mapping[str, str]) -> dict[str, str]:
    """The same catalog as options of Flink's `CREATE CATALOG`."""
    options = {"type": "iceberg", "cache-enabled": "false"}
    for key, value in properties.items():
        options["catalog-type" if key == "type" else key] = value
    return options


@contextmanager
def opened(jvm: Any, catalog: CatalogSettings, secrets: Mapping[str, str]) -> Iterator[Any]:
    """Iceberg's `Catalog` object for the settings, closed at the end."""
    properties = _java_map(jvm, catalog_properties(catalog, secrets))
    hadoop = jvm.org.apache.iceberg.flink.FlinkCatalogFactory.clusterHadoopConf()
    found = jvm.org.apache.iceberg.CatalogUtil.buildIcebergCatalog(catalog.name, properties, hadoop)
    try:
        yield found
    finally:
        if jvm.java.lang.Class.forName("java.io.Closeable").isInstance(found):
            found.close()


def ensure_table(jvm: Any, catalog: CatalogSettings, secrets: Mapping[str, str], table: Table) -> None:
    """Create the table, and its namespace, if they are not there; else check that it is the declared one.

    Raises:
        TableRefused: A table of that name has other columns or partitions.
    """
    iceberg = jvm.org.apache.iceberg
    schema = iceberg.SchemaParser.fromJson(iceberg_schema(table))
    partitions = iceberg.PartitionSpecParser.fromJson(schema, iceberg_partition_spec(table))
    identifier = iceberg.catalog.TableIdentifier.parse(table.name)
    with opened(jvm, catalog, secrets) as found:
        if not found.tableExists(identifier):
            _create(jvm, found, found.buildTable(identifier, schema).withPartitionSpec(partitions), table)
        problems = _differences(table, schema, partitions, found.loadTable(identifier))
    if problems:
        raise TableRefused(tuple(Problem("table", problem) for problem in problems))


def _create(jvm: Any, catalog: Any, builder: Any, table: Table) -> None:
    from py4j.protocol import Py4JJavaError  # noqa: PLC0415 - only where PyFlink is

    namespace = jvm.org.apache.iceberg.catalog.TableIdentifier.parse(table.name).namespace()
    creations: tuple[Callable[[], Any], ...] = (
        lambda: catalog.createNamespace(namespace),
        builder.withProperties(_java_map(jvm, table.properties)).create,
    )
    for create in creations:
        try:
            create()
        except Py4JJavaError as error:
            # Another pipeline's job may have been quicker; whether what is there now fits is checked afterwards.
            if error.java_exception.getClass().getSimpleName() != "AlreadyExistsException":
                raise


def _differences(table: Table, declared_schema: Any, declared_partitions: Any, found: Any) -> list[str]:
    """What keeps the job from writing `table` into the table that was found."""
    problems = []
    schema = found.schema()
    for column in table.columns:
        wanted = declared_schema.findField(column.name)
        there = schema.findField(column.name)
        if there is None:
            problems.append(f"{table.name} is there already, without the column {column.name}")
        elif there.type().toString() != wanted.type().toString():
            problems.append(
                f"{table.name} is there already, and its column {column.name} is {there.type().toString()},"
                f" not {wanted.type().toString()}"
            )
        elif there.isRequired() and not column.required:
            problems.append(f"{table.name} is there already, and its column {column.name} may not be null")
    declared = {column.name for column in table.columns}
    problems += [
        f"{table.name} is there already, and its column {there.name()}, which this job does not write, may not be null"
        for there in schema.columns()
        if there.isRequired() and there.name() not in declared
    ]
    wanted_partitions, found_partitions = _partitions(declared_partitions), _partitions(found.spec())
    if wanted_partitions != found_partitions:
        problems.append(
            f"{table.name} is there already, partitioned by {found_partitions or 'nothing'}, not {wanted_partitions}"
        )
    return [f"{problem}: name another table, or move that one away" for problem in problems]


def _partitions(spec: Any) -> str:
    schema = spec.schema()
    return ", ".join(
        f"{partition.transform().toString()}({schema.findColumnName(partition.sourceId())})"
        for partition in spec.fields()
        if not partition.transform().isVoid()
    )


def _java_map(jvm: Any, items: Mapping[str, str]) -> Any:
    java = jvm.java.util.HashMap()
    for key, value in items.items():
        java.put(key, value)
    return java
