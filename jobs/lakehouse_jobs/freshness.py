"""Freshness: a view beside the models that says, whenever it is read, which of them lag behind silver.

A run that changed a model writes down which snapshot of each silver table the models now hold (`model_refreshes`). The
view compares that with the metadata of the silver tables as they are when it is read. Compaction, and commits that
touched no day, change no rows and make nothing stale. A run that crashed before it wrote this down leaves its models
stale in this view until the next run: the view never calls fresh what is not.
"""

import hashlib
from collections.abc import Iterator, Mapping

from pyspark.errors import PySparkException
from pyspark.sql import functions as fn

from lakehouse_contract import commits, layout
from lakehouse_contract.names import quoted_name, spark_literal, split
from lakehouse_contract.settings import GoldSettings
from lakehouse_jobs.batch_run import BatchRun
from lakehouse_jobs.iceberg_commits import Lakehouse
from lakehouse_jobs.table_history import KEEPS_ROWS, History

GoldRun = BatchRun[GoldSettings]
_DEFINITION = "lakehouse.definition"


def record(run: GoldRun, reads: Mapping[str, tuple[str, ...]], sources: Mapping[str, History]) -> None:
    """Write down what the models hold, unless that is written already.

    Args:
        run: The run.
        reads: The tables that each model reads, the models in their order.
        sources: The silver tables as the run read them.
    """
    lakehouse = run.lakehouse
    table = layout.refreshes(split(next(iter(reads))).namespace, run.settings.compression)
    models = {model: lakehouse.history(model) for model in reads}
    state = hashlib.sha256(repr([(name, history.head) for name, history in models.items()]).encode()).hexdigest()
    target = lakehouse.ensure(table)
    if target.newest(commits.MODEL) == state:
        return
    rows = []
    for model, history in models.items():
        for source in sorted(_rests_on(model, reads)) or (None,):
            pinned = None if source is None else sources[source]
            head = None if pinned is None else pinned.head
            rows.append((model, _refreshed(history), source, head, _committed(pinned, head)))
    schema = (
        "model string, refreshed_at bigint, source_table string, source_snapshot bigint, source_committed_at bigint"
    )
    frame = lakehouse.few_rows(schema, rows)
    instants = {name: fn.timestamp_millis(name) for name in ("refreshed_at", "source_committed_at")}
    audited = frame.withColumns(instants).select("*", *run.audit())
    properties = {**run.properties({}, frozenset()), commits.MODEL: state}
    lakehouse.replace(audited, table.name, fn.lit(True), target.head, properties)


def describe(lakehouse: Lakehouse, namespace: str, sources: tuple[str, ...]) -> str | None:
    """Create the view, or replace it if it must look at other tables by now; answer its name.

    None where the catalog has no views.
    """
    text = sql(lakehouse, namespace, sources)
    definition = hashlib.sha256(text.encode()).hexdigest()
    name = quoted_name(lakehouse.catalog, namespace, layout.FRESHNESS_VIEW)
    if _definition(lakehouse, name) != definition:
        try:
            lakehouse.spark.sql(
                f"CREATE OR REPLACE VIEW {name} "
                f"TBLPROPERTIES ({spark_literal(_DEFINITION)} = {spark_literal(definition)}) AS {text}"
            )
        except PySparkException as error:
            if "MISSING_CATALOG_ABILITY" in (error.getCondition() or ""):
                return None
            raise
    return f"{namespace}.{layout.FRESHNESS_VIEW}"


def sql(lakehouse: Lakehouse, namespace: str, sources: tuple[str, ...]) -> str:
    """The view's SELECT over what was written down and the metadata of the silver tables."""
    changes = " UNION ALL ".join(_last_change(lakehouse, source) for source in sources)
    return f"""
SELECT r.model, r.refreshed_at, r.source_table, r.source_snapshot, c.changed_at AS source_changed_at,
       c.changed_at IS NULL OR coalesce(c.changed_at <= r.source_committed_at, false) AS is_fresh
FROM {lakehouse.identifier(f"{namespace}.{layout.REFRESHES_TABLE}")} r
LEFT JOIN ({changes}) c ON c.source_table = r.source_table"""  # noqa: S608 - checked names, quoted literals


def _last_change(lakehouse: Lakehouse, source: str) -> str:
    name = lakehouse.identifier(source)
    kept = ", ".join(spark_literal(operation) for operation in sorted(KEEPS_ROWS))
    return (
        f"SELECT {spark_literal(source)} AS source_table, max(s.committed_at) AS changed_at "  # noqa: S608
        f"FROM {name}.snapshots s JOIN {name}.history h ON h.snapshot_id = s.snapshot_id "
        f"WHERE h.is_current_ancestor AND s.operation NOT IN ({kept}) "
        f"AND coalesce(s.summary[{spark_literal(commits.TOUCHED_DAYS)}], '?') <> ''"
    )


def _rests_on(model: str, reads: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    """The silver tables that a model reads, directly or through other models."""
    return frozenset(_silver(model, reads))


def _silver(model: str, reads: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    for table in reads[model]:
        if table in reads:
            yield from _silver(table, reads)
        else:
            yield table


def _refreshed(history: History) -> int:
    """When its rows last changed, in milliseconds since 1970."""
    return next((snapshot.committed_at for snapshot in history.ancestors() if not snapshot.keeps_rows), 0)


def _committed(history: History | None, snapshot: int | None) -> int | None:
    return None if history is None or snapshot is None else history.snapshots[snapshot].committed_at


def _definition(lakehouse: Lakehouse, view: str) -> str | None:
    try:
        found = lakehouse.spark.sql(f"SHOW TBLPROPERTIES {view}").collect()
    except PySparkException:
        return None
    return next((row["value"] for row in found if row["key"] == _DEFINITION), None)
