"""The domain as data: what a pipeline reads out of its events, and what silver and gold make of it.

The built-in jobs know nothing of numerals, users or orders. They know these shapes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lakehouse_contract.decoding import Problem, SettingsRefused, checked, not_empty
from lakehouse_contract.names import identifier, json_path, qualified
from lakehouse_contract.tables import column_type

Severity = Literal["warn", "quarantine", "fail"]
"""What a broken rule does: `warn` counts it, `quarantine` sets the row aside, `fail` stops the run before it writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadColumn:
    """A value that silver reads out of the payload by a JSON path.

    A missing `required` value breaks the rule `<name>_required`; a value of another JSON type than the column's breaks
    `<name>_type`. Neither loses the row.
    """

    name: str = checked(identifier)
    type: str = checked(column_type)
    path: str = checked(json_path)
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TableColumn:
    """A column of a silver table: a Spark SQL expression over the payload columns and bronze's own columns."""

    name: str = checked(identifier)
    type: str = checked(column_type)
    expression: str = checked(not_empty)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule that each row must keep: a Spark SQL condition that is true (not null) for a good row."""

    name: str = checked(identifier)
    expression: str = checked(not_empty)
    severity: Severity = "quarantine"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedTable:
    """A silver table with one row per event: per `event_id` and event day, as a repeat carries the same event time.

    Besides its own columns it holds `event_id`, `event_time`, `is_late_arrival`, where the row came from in Kafka, and
    the `_audit` columns. Rows that break a rule are in `<name>_quarantine` instead. `where` is a condition over the
    payload columns and bronze's own columns: where it is false or null, the event does not belong to the table.
    """

    name: str = checked(qualified)
    columns: tuple[TableColumn, ...] = checked(not_empty)
    where: str | None = None
    rules: tuple[Rule, ...] = ()


PAYLOAD_RULE = "payload_json"
WHERE_RULE = "where_computable"


def required_rule(column: str) -> str:
    """The rule that a missing value of a required payload column breaks."""
    return f"{column}_required"


def type_rule(column: str) -> str:
    """The rule that a value of another JSON type than the payload column's breaks."""
    return f"{column}_type"


def computable_rule(column: str) -> str:
    """The rule that a row breaks for which a table column's expression fails."""
    return f"{column}_computable"


def built_in_rules(columns: Sequence[PayloadColumn], table: KeyedTable) -> tuple[str, ...]:
    """The rules that every row of a table must keep besides the table's own. All of them quarantine."""
    return (
        PAYLOAD_RULE,
        *(required_rule(column.name) for column in columns if column.required),
        *(type_rule(column.name) for column in columns),
        *(computable_rule(column.name) for column in table.columns),
        *((WHERE_RULE,) if table.where is not None else ()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """A slowly changing dimension, type 2: one row per `key` and period in which no `tracked` column changed.

    It is derived from the rows of the silver table `source` alone, ordered by event time and then event id, so the
    order of arrival makes no difference. Of several rows of a key at one instant the one with the largest event id
    counts, so no version is empty. `valid_from` is inclusive, `valid_to` exclusive.
    """

    name: str = checked(qualified)
    source: str = checked(qualified)
    key: str = checked(identifier)
    tracked: tuple[str, ...] = checked(not_empty)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A gold table computed by one SELECT over silver and gold tables.

    `incrementalByDay`: the table is partitioned by `day_column`, a date; a refresh replaces the days whose events
    changed, so its rows of a day must follow from the events of that day, and from a dimension as of those events (its
    `valid_to` and `is_current` change with later events: they belong into join conditions, not into such a model's
    columns). `full`: the table is replaced when a table that it reads has changed.
    """

    name: str = checked(qualified)
    kind: Literal["incrementalByDay", "full"]
    sql: str = checked(not_empty)
    day_column: str | None = checked(identifier, default=None)

    def __post_init__(self) -> None:
        if (self.kind == "incrementalByDay") != (self.day_column is not None):
            asked = "is required for" if self.day_column is None else "belongs only to"
            raise SettingsRefused((Problem("dayColumn", f"{asked} kind incrementalByDay"),))
