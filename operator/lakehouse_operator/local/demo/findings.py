"""What a demo has produced: every layer counted, and the oracle's verdict."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lakehouse_contract.layout import QUALITY_TABLE, QUARANTINE_SUFFIX
from lakehouse_operator.local.demo.world import World
from lakehouse_operator.reference import oracle
from lakehouse_operator.reference.oracle import Check
from lakehouse_operator.reference.topics import first_of_each, read_dead_letters, read_produced

FACTS, QUARANTINE, USERS = "silver.conversions", "silver.conversions" + QUARANTINE_SUFFIX, "silver.dim_users"
DAILY, POPULAR = "gold.daily_metrics", "gold.popular_numbers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Everything that the report shows.

    Attributes:
        produced: Records in the topic.
        dead_letters: How many there are of each error type.
        tables: How many rows each table holds.
        quarantined: How many rows broke each rule; a row can break several.
        users: How many users there are in the dimension, and how many of them have more than one version.
        daily: The rows of the gold table of daily metrics, in the order of the days.
        popular: The first rows of the gold table of popular numbers.
        checks: The oracle's verdict, check by check.
    """

    produced: int
    dead_letters: Mapping[str, int]
    tables: Mapping[str, int]
    quarantined: Mapping[str, int]
    users: int
    changed_users: int
    daily: Sequence[Mapping[str, Any]]
    popular: Sequence[Mapping[str, Any]]
    checks: Sequence[Check]

    @property
    def passed(self) -> bool:
        """Whether every check has passed."""
        return all(check.passed for check in self.checks)


def gather(world: World, *, rewound: bool = False) -> Findings:
    """Count every layer and ask the oracle. Nothing may be written meanwhile.

    Args:
        world: What to look at.
        rewound: Whether the stream went back to a recovery point, so that Kafka holds some dead letters twice.
    """
    connection = {"bootstrap.servers": world.bootstrap_servers}
    produced = read_produced(connection, world.topic)
    dead_letters = read_dead_letters(connection, world.pipeline.dead_letter_topic)
    dead_letters = first_of_each(dead_letters) if rewound else dead_letters
    catalog = world.catalog
    versions = Counter(row["user_id"] for row in catalog.rows(USERS, "user_id"))
    broken = Counter(rule for row in catalog.rows(QUARANTINE, "broken_rules") for rule in row["broken_rules"])
    popular = sorted(catalog.rows(POPULAR), key=lambda row: (-row["conversions"], row["input_number"]))
    return Findings(
        produced=produced.num_rows,
        dead_letters=_most_first(Counter(dead_letters.column("error_type").to_pylist())),
        tables={table: catalog.count(table) for table in layers(world)},
        quarantined=_most_first(broken),
        users=len(versions),
        changed_users=sum(1 for count in versions.values() if count > 1),
        daily=sorted(catalog.rows(DAILY), key=lambda row: row["event_date"]),
        popular=popular[:5],
        checks=_ask_oracle(world, produced, dead_letters),
    )


def layers(world: World) -> list[str]:
    """The tables of the pipeline from bronze to gold, without the quality results."""
    tables = world.catalog.tables()
    order = ["bronze", "silver", "gold"]
    shown = [table for table in tables if table.rpartition(".")[2] != QUALITY_TABLE]
    return sorted(shown, key=lambda table: (order.index(table.partition(".")[0]), table))


def _most_first(counter: Counter[str]) -> dict[str, int]:
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))


def _ask_oracle(world: World, produced: Any, dead_letters: Any) -> list[Check]:
    tables = {
        "bronze": world.pipeline.bronze_table,
        "conversions": FACTS,
        "conversions_quarantine": QUARANTINE,
        "dim_users": USERS,
        **{f"gold_{name}": f"gold.{name}" for name in oracle.GOLD_TABLES},
    }
    with oracle.connect() as connection:
        oracle.load(
            connection,
            truth=world.directory.root / "truth" / "truth-*.parquet",
            produced=produced,
            dead_letters=dead_letters,
            **{name: world.catalog.arrow(table) for name, table in tables.items()},
        )
        return oracle.check_everything(connection)


def as_json(findings: Findings, seconds: Mapping[str, float]) -> str:
    """All of it as JSON, for a program."""
    return json.dumps(
        {
            "passed": findings.passed,
            "produced": findings.produced,
            "deadLetters": findings.dead_letters,
            "tables": findings.tables,
            "quarantined": findings.quarantined,
            "daily": [{key: _plain(value) for key, value in row.items()} for row in findings.daily],
            "checks": [
                {"name": check.name, "passed": check.passed, "counts": dict(check.counts)} for check in findings.checks
            ],
            "seconds": {part: round(taken, 1) for part, taken in seconds.items()},
        },
        indent=2,
    )


def _plain(value: Any) -> Any:
    return value if isinstance(value, (int, float, str, type(None))) and not isinstance(value, datetime) else str(value)
