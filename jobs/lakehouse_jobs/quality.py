"""Rules as data: which rows break which, what that does to a row, and what a run reports about it.

An `expression` is kept where it is true: NULL, or a condition that can't be computed for the row, breaks it. `range`,
`pattern` and `acceptedValues` say nothing about a missing value; `notNull` does. A payload that is no JSON breaks
`payload_json` and nothing else, because nothing else can be said about it. Rules over a whole table: `table_rules`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as fn

from lakehouse_contract import commits, layout
from lakehouse_contract.domain import (
    PAYLOAD_RULE,
    WHERE_RULE,
    KeyedTable,
    PayloadColumn,
    Rule,
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
    """A rule of severity `fail` is broken, or what a run prepared did not pass its audit. Nothing was published."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found in a run: of `checked` rows, `broken` broke it. `detail` is a whole table's, in a sentence."""

    table: str
    rule: str
    severity: Severity
    checked: int
    broken: int
    kind: str = "builtIn"
    detail: str | None = None

    def sentence(self) -> str:
        """The broken rule in words."""
        if self.detail is not None:
            return f"{self.table} breaks the rule {self.rule}: {self.detail}"
        return f"{self.broken} of {self.checked} rows of {self.table} break the rule {self.rule}"


def severities(table: KeyedTable, columns: Sequence[PayloadColumn]) -> Mapping[str, Severity]:
    """Every rule over a table's rows with its severity: the built-in ones, and those of the definition."""
    built_in: dict[str, Severity] = dict.fromkeys(built_in_rules(columns, table), "quarantine")
    return {**built_in, **{rule.name: rule.severity for rule in row_rules(table)}}


def row_rules(table: KeyedTable) -> tuple[Rule, ...]:
    """The rules of the definition that each row keeps or breaks by itself."""
    return tuple(rule for rule in table.rules if rule.is_about_rows)


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
    checks = [_unless(_keeps(rule), rule.name) for rule in row_rules(table)]
    checks += [
        _unless(fn.col(f"_attempt_{column.name}").isNotNull(), computable_rule(column.name)) for column in table.columns
    ]
    if table.where is not None:
        checks.append(_unless(expressions.attempt(fn.expr(table.where)).isNotNull(), WHERE_RULE))
    return checks


def _keeps(rule: Rule) -> Column:
    """Whether a row keeps a rule: true or false, never NULL."""
    if rule.expression is not None:
        return expressions.keeps(rule.expression)
    assert rule.column is not None
    value = fn.col(rule.column)
    if rule.not_null is not None:
        return value.isNotNull()
    if rule.pattern is not None:
        return fn.coalesce(value.rlike(whole(rule.pattern.regex)), fn.lit(True))
    if rule.accepted_values is not None:
        return fn.coalesce(value.cast("string").isin(list(rule.accepted_values.values)), fn.lit(True))
    assert rule.range is not None
    low, high = rule.range.min, rule.range.max
    within = fn.lit(True)
    if low is not None:
        within &= value >= _number(low)
    if high is not None:
        within &= value <= _number(high)
    return fn.coalesce(within, fn.lit(True))


def whole(regex: str) -> str:
    r"""The expression that finds what `regex` matches from the first character to the last (`$` stops at a newline)."""
    return rf"\A(?:{regex})\z"


def _number(bound: float) -> Column:
    """A bound as a literal of Spark SQL: 0.1 is a decimal there, so it is exact beside a decimal column."""
    return fn.expr(str(int(bound)) if bound.is_integer() else repr(bound))


def _unless(kept: Column, rule: str) -> Column:
    return fn.when(~kept, fn.lit(rule))


def stop_if_failing(findings: Sequence[Finding]) -> None:
    """Stop a run whose rows break a rule of severity `fail`.

    Raises:
        BadData: They do.
    """
    failing = [one for one in findings if one.severity == "fail" and one.broken]
    if failing:
        raise BadData(f"{'; '.join(one.sentence() for one in failing)}. No table was changed")


def record(run: BatchRun[SilverSettings], namespace: str, findings: Sequence[Finding], upto: int) -> None:
    """Write the findings of a run. A run that writes them again replaces its own."""
    table = layout.quality(namespace, run.settings.compression)
    run.lakehouse.ensure(table)
    schema = (
        "table_name string, rule string, severity string, rows_checked bigint, rows_broken bigint, "
        "kind string, detail string"
    )
    values = [(one.table, one.rule, one.severity, one.checked, one.broken, one.kind, one.detail) for one in findings]
    rows = run.lakehouse.few_rows(schema, values).select("*", *run.audit(upto))
    own_rows = ("_audit_run_id", run.settings.run.id)
    properties = {**run.properties({}, frozenset()), commits.QUALITY: summary(findings)}
    # The ledger takes a commit with an interval for one of a run that succeeded; this one may yet be stopped.
    properties.pop(commits.INTERVAL, None)
    run.lakehouse.upsert(rows, table.name, scope=own_rows, key=("table_name", "rule"), properties=properties)


def summary(findings: Sequence[Finding]) -> str:
    """What a commit says about the findings (`commits.QUALITY`)."""
    gravity = {"fail": 0, "quarantine": 1, "warn": 2}
    broken = sorted((one for one in findings if one.broken), key=lambda one: (gravity[one.severity], -one.broken))
    return json.dumps(
        {
            "rules": len(findings),
            "broken": [
                {
                    "table": one.table,
                    "rule": one.rule,
                    "severity": one.severity,
                    "rows": one.broken,
                    "of": one.checked,
                    **({} if one.detail is None else {"detail": one.detail[:500]}),
                }
                for one in broken[: commits.QUALITY_MOST]
            ],
        },
        separators=(",", ":"),
    )
