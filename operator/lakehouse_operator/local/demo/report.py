"""The report at the end of a demo, for a person."""

from collections.abc import Mapping

from rich.columns import Columns
from rich.console import Console
from rich.table import Table

from lakehouse_operator.local import queries
from lakehouse_operator.local.demo.findings import DAILY, USERS, Findings
from lakehouse_operator.local.demo.world import World

_QUERIED = DAILY
_SHOWN = 14


def show(console: Console, world: World, findings: Findings, seconds: Mapping[str, float]) -> None:
    """Print the report: gold first, then where everything went, then the verdict."""
    console.print()
    console.print(Columns([_daily(findings), _popular(findings)], padding=(0, 3)))
    dead_letters = _counts("Dead letters", "why", "records", findings.dead_letters)
    quarantined = _counts("Quarantine", "rule that was broken", "rows", findings.quarantined)
    console.print(Columns([_layers(world, findings), dead_letters, quarantined], padding=(0, 3)))
    _line(
        console,
        f"{USERS}: {findings.users:,} users in {findings.tables[USERS]:,} versions; "
        f"{findings.changed_users:,} users changed plan, country or email domain.",
    )
    _where(console, world)
    console.print(_verdict(findings))
    for check in findings.checks:
        if not check.passed:
            _line(console, str(check))
    taken = ", ".join(f"{part} {taken:.0f} s" for part, taken in seconds.items())
    _line(console, f"Time: {sum(seconds.values()):.0f} s ({taken}).")


def _daily(findings: Findings) -> Table:
    table = _table("Gold: daily metrics", "day", "conversions", "succeeded", "failed", "users", "late", "p95 ms")
    for row in findings.daily:
        counts = [f"{row[name]:,}" for name in ("conversions", "succeeded", "failed", "users", "late_arrivals")]
        table.add_row(str(row["event_date"]), *counts, f"{row['p95_duration_ms']:.0f}")
    return table


def _popular(findings: Findings) -> Table:
    table = _table("Gold: the most popular numbers", "number", "numeral", "conversions")
    for row in findings.popular:
        table.add_row(str(row["input_number"]), row["numeral"], f"{row['conversions']:,}")
    return table


def _layers(world: World, findings: Findings) -> Table:
    table = _table("Layers", "table or topic", "rows")
    table.add_row(f"{world.topic} (Kafka)", f"{findings.produced:,}")
    table.add_row(f"{world.pipeline.dead_letter_topic} (Kafka)", f"{sum(findings.dead_letters.values()):,}")
    for name, rows in findings.tables.items():
        table.add_row(name, f"{rows:,}")
    return table


def _counts(title: str, what: str, number: str, counts: Mapping[str, int]) -> Table:
    table = _table(title, what, number)
    for name, count in list(counts.items())[:_SHOWN]:
        table.add_row(name, f"{count:,}")
    if len(counts) > _SHOWN:
        table.add_row(f"({len(counts) - _SHOWN} more)", "")
    return table


def _verdict(findings: Findings) -> Table:
    passed = sum(1 for check in findings.checks if check.passed)
    table = Table(title=f"Oracle: {passed} of {len(findings.checks)} checks passed", title_justify="left")
    for heading in ("", "check", "looked at"):
        table.add_column(heading, overflow="fold")
    for check in findings.checks:
        verdict = "[green]pass[/]" if check.passed else "[bold red]FAIL[/]"
        counted = ", ".join(f"{name} {count:,}" for name, count in check.counts.items())
        table.add_row(verdict, f"{check.name}: {check.meaning}", counted)
    return table


def _where(console: Console, world: World) -> None:
    engines, catalog = world.engines, world.catalog
    properties = queries.write_spark_properties(engines, world.directory, catalog)
    _line(console, f"\nThe tables lie in {world.directory.warehouse}, their catalog is {world.directory.catalog}.")
    for name, command in (
        ("DuckDB", queries.duckdb(engines, catalog, _QUERIED)),
        ("pyiceberg", queries.pyiceberg(engines, catalog, _QUERIED)),
        ("Spark SQL", queries.spark_sql(engines, properties, _QUERIED)),
    ):
        _line(console, f"{name}:\n  {command}")


def _table(title: str, first: str, *numbers: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def _line(console: Console, text: str) -> None:
    """Print a line as it is: not wrapped, so that a command can be copied."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
