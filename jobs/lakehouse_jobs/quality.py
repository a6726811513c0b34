"""Rules as data: which rows break which, what that does to a row, and what a run reports about it.

A rule is kept where its condition is true. NULL, or a condition that can't be computed for the row, breaks it. A
payload that is no JSON breaks `payload_json` and nothing else, because nothing else can be said about it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as fn

from lakehouse_contract import layout
from lakehouse_contract.domain import (
    PAYLOAD_RULE,
    WHERE_RULE,
    KeyedTable,
    PayloadColumn,
    Severity,
    built_in_rules,
    computable_rule,
)
from lakehouse_contract.settings import SilverSettings
from lakehouse_contract.tables import spark_type
from lakehouse_jobs import expressions, payload
from lakehouse_jobs.batch_run import BatchRun

BROKEN = "broken_rules"
"""The column with the sorted names of all rules that a row breaks, of whatever severity."""
QUARANTINED = "_quarantined"


class BadData(Exception):
    """A rule of severity `fail` is broken. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found in a run: of `checked` rows, `broken` broke it."""

    table: str
    rule: str
    severity: Severity
    checked: int
    broken: int


def severities(table: KeyedTable, columns: Sequence[PayloadColumn]) -> Mapping[str, Severity]:
    """Every rule of a table with its severity: the built-in ones, and those of the definition."""
    built_in: dict[str, Severity] = dict.fromkeys(built_in_rules(columns, table), "quarantine")
    return {**built_in, **{rule.name: rule.severity for rule in table.rules}}


def belonging(rows: DataFrame, table: KeyedTable) -> DataFrame:
    """The rows that belong to a table.

    A row whose `where` can't be computed does, and one whose payload can't be read belongs to every table, so that
    neither is lost.
    """
    if table.where is None:
        return rows
    found = expressions.attempt(fn.expr(table.where).cast("boolean"))
    unreadable = fn.array_contains(payload.BROKEN, PAYLOAD_RULE)
    return rows.where(found.isNull() | fn.coalesce(found["value"], fn.lit(False)) | unreadable)


def judged(rows: DataFrame, table: KeyedTable, columns: Sequence[PayloadColumn]) -> DataFrame:
    """Add the table's own columns under `_column_<name>`, `BROKEN` and `QUARANTINED` to parsed rows."""
    attempts = [
        expressions.attempt(fn.expr(column.expression).cast(spark_type(column.type))).alias(f"_attempt_{column.name}")
        for column in table.columns
    ]
    unreadable = fn.array_contains(payload.BROKEN, PAYLOAD_RULE)
    broken = fn.array_sort(fn.concat(payload.BROKEN, fn.array_compact(fn.array(*_checks(table)))))
    quarantining = [rule for rule, how in severities(table, columns).items() if how == "quarantine"]
    return (
        rows.select("*", *attempts)
        .select(
            *rows.columns,
            *(fn.col(f"_attempt_{column.name}")["value"].alias(f"_column_{column.name}") for column in table.columns),
            fn.when(unreadable, fn.col(payload.BROKEN)).otherwise(broken).alias(BROKEN),
        )
        .withColumn(QUARANTINED, fn.arrays_overlap(BROKEN, fn.array(*map(fn.lit, quarantining))))
    )


def _checks(table: KeyedTable) -> list[Column]:
    checks = [_unless(expressions.keeps(rule.expression), rule.name) for rule in table.rules]
    checks += [
        _unless(fn.col(f"_attempt_{column.name}").isNotNull(), computable_rule(column.name)) for column in table.columns
    ]
    if table.where is not None:
        checks.append(_unless(expressions.attempt(fn.expr(table.where)).isNotNull(), WHERE_RULE))
    return checks


def _unless(kept: Column, rule: str) -> Column:
    return fn.when(~kept, fn.lit(rule))


def stop_if_failing(findings: Sequence[Finding]) -> None:
    """Stop a run whose rows break a rule of severity `fail`.

    Raises:
        BadData: They do.
    """
    failing = [one for one in findings if one.severity == "fail" and one.broken]
    if failing:
        said = "; ".join(
            f"{one.broken} of {one.checked} rows of {one.table} break the rule {one.rule}" for one in failing
        )
        raise BadData(f"{said}. Nothing was written")


def record(run: BatchRun[SilverSettings], namespace: str, findings: Sequence[Finding], upto: int) -> None:
    """Write the findings of a run. A run that writes them again replaces its own."""
    table = layout.quality(namespace, run.settings.compression)
    run.lakehouse.ensure(table)
    schema = "table_name string, rule string, severity string, rows_checked bigint, rows_broken bigint"
    values = [(one.table, one.rule, one.severity, one.checked, one.broken) for one in findings]
    rows = run.lakehouse.spark.createDataFrame(values, schema).coalesce(1).select("*", *run.audit(upto))
    own_rows = ("_audit_run_id", run.settings.run.id)
    properties = run.properties({}, frozenset())
    run.lakehouse.upsert(rows, table.name, scope=own_rows, key=("table_name", "rule"), properties=properties)
