"""The domain as data: what a pipeline reads out of its events, and what silver and gold make of it.

The built-in jobs know nothing of numerals, users or orders. They know these shapes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lakehouse_contract.decoding import Problem, SettingsRefused, at_least, camel, checked, not_empty
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


def _not_empty_if_given(value: str | None) -> str | None:
    return None if value is None else not_empty(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotNull:
    """The column has a value in each row."""

    column: str = checked(identifier)


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The column's number is neither below `min` nor above `max`. A row without a value keeps the rule."""

    column: str = checked(identifier)
    min: float | None = None
    max: float | None = None

    def __post_init__(self) -> None:
        if found := bound_problems(self.min, self.max):
            raise SettingsRefused(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """The column's whole text matches a Java regular expression. A row without a value keeps the rule."""

    column: str = checked(identifier)
    regex: str = checked(not_empty)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedValues:
    """The column's value, as text, is one of these. A row without a value keeps the rule."""

    column: str = checked(identifier)
    values: tuple[str, ...] = checked(not_empty)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unique:
    """No two rows of the table have the same values in these columns of it on one event day.

    Looked at on the days that a run changes. A row without one of the values is left out, as SQL's UNIQUE does it.
    """

    columns: tuple[str, ...] = checked(not_empty)


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """The newest event of the table is not older than this, at the end of the run's interval, or else at its start.

    A run over days does not look at it.
    """

    max_age_seconds: int = checked(at_least(1))


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCount:
    """How many valid rows there are, from `min` to `max`: those that one run brings, or those of each day it changes.

    A day that is not over yet is not held against `min`.
    """

    per: Literal["run", "day"] = "run"
    min: int | None = checked(at_least(0), default=None)
    max: int | None = checked(at_least(0), default=None)

    def __post_init__(self) -> None:
        if found := bound_problems(self.min, self.max):
            raise SettingsRefused(found)


def bound_problems(low: float | None, high: float | None) -> tuple[Problem, ...]:
    """What is wrong with two bounds, of which at least one is to be given."""
    if low is None and high is None:
        return (Problem("min", "give min, max or both"),)
    if low is not None and high is not None and low > high:
        return (Problem("min", f"{low:g} lies above max, {high:g}: no value could keep the rule"),)
    return ()


ROW_KINDS = ("expression", "not_null", "range", "pattern", "accepted_values")
"""The kinds of rules that each row keeps or breaks by itself."""
TABLE_KINDS = ("unique", "freshness", "row_count")
"""The kinds of rules that only many rows together keep or break, so they can't set a row aside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule of one kind: exactly one of the fields besides `name` and `severity` is given.

    `expression` is a Spark SQL condition that is true (not null) for a good row.
    """

    name: str = checked(identifier)
    severity: Severity = "quarantine"
    expression: str | None = checked(_not_empty_if_given, default=None)
    not_null: NotNull | None = None
    range: Range | None = None
    pattern: Pattern | None = None
    accepted_values: AcceptedValues | None = None
    unique: Unique | None = None
    freshness: Freshness | None = None
    row_count: RowCount | None = None

    def __post_init__(self) -> None:
        given = [camel(name) for name in (*ROW_KINDS, *TABLE_KINDS) if getattr(self, name) is not None]
        kinds = ", ".join(camel(name) for name in (*ROW_KINDS, *TABLE_KINDS))
        if len(given) != 1:
            said = f"{' and '.join(given)} are given" if given else "none is given"
            raise SettingsRefused((Problem("", f"give exactly one of {kinds}; {said}"),))
        if self.severity == "quarantine" and not self.is_about_rows:
            raise SettingsRefused((Problem("severity", TABLE_RULE_QUARANTINES.format(given[0])),))

    @property
    def kind(self) -> str:
        """Which of the kinds it is, as the user writes it."""
        return next(camel(name) for name in (*ROW_KINDS, *TABLE_KINDS) if getattr(self, name) is not None)

    @property
    def is_about_rows(self) -> bool:
        """Whether each row keeps or breaks it by itself."""
        return any(getattr(self, name) is not None for name in ROW_KINDS)

    @property
    def column(self) -> str | None:
        """The column that a rule over one column looks at."""
        over = self.not_null or self.range or self.pattern or self.accepted_values
        return None if over is None else over.column


TABLE_RULE_QUARANTINES = "{} looks at many rows together, so no row can be set aside for it: say warn or fail"


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

    `when_changed` says what another text means for the days that are there: `rebuild` computes them all again, `keep`
    leaves them as they are, adds new columns to the table (NULL on those days) and widens types.
    """

    name: str = checked(qualified)
    kind: Literal["incrementalByDay", "full"]
    sql: str = checked(not_empty)
    day_column: str | None = checked(identifier, default=None)
    when_changed: Literal["rebuild", "keep"] = "rebuild"

    def __post_init__(self) -> None:
        if (self.kind == "incrementalByDay") != (self.day_column is not None):
            asked = "is required for" if self.day_column is None else "belongs only to"
            raise SettingsRefused((Problem("dayColumn", f"{asked} kind incrementalByDay"),))
        if self.when_changed == "keep" and self.day_column is None:
            raise SettingsRefused((Problem("whenChanged", "keep belongs only to kind incrementalByDay"),))
