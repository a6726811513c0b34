"""What the demo tells a person: every number, and what is wrong where something is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lakehouse_operator.local.demo import findings, report
from lakehouse_operator.local.demo import screen as screen_module
from lakehouse_operator.local.demo.findings import Findings
from lakehouse_operator.local.demo.run import Options
from lakehouse_operator.local.demo.screen import Progress, Screen
from lakehouse_operator.local.directory import WorldDirectory
from lakehouse_operator.local.engines import Engines
from lakehouse_operator.reference.oracle import Check


class _World:
    """The few things that the report reads of a world."""

    topic = "events"

    def __init__(self, root: Path) -> None:
        self.engines = Engines(root)
        (root / ".venv" / "spark" / "lib" / "python3.11" / "site-packages" / "pyspark").mkdir(parents=True)
        self.directory = WorldDirectory(root / "world")
        self.directory.make()
        self.catalog: Any = type("C", (), {"name": "lakehouse", "uri": "sqlite:///x", "warehouse": "file:///x"})
        self.pipeline: Any = type("P", (), {"dead_letter_topic": "events-dlq"})


def found(*checks: Check) -> Findings:
    day = {"event_date": "2026-01-31", "conversions": 12_345, "succeeded": 12_000, "failed": 345, "users": 99,
           "late_arrivals": 7, "p95_duration_ms": 12.34}  # fmt: skip
    return Findings(
        produced=13_000,
        dead_letters={"TOO_LATE": 17, "INVALID_JSON": 3},
        tables={"bronze.e": 12_800, findings.USERS: 120},
        quarantined={f"rule_{number:02d}": 100 - number for number in range(20)},
        users=99,
        changed_users=21,
        daily=[day],
        popular=[{"input_number": 1984, "numeral": "MCMLXXXIV", "conversions": 42}],
        checks=checks,
    )


def shown(tmp_path: Path, result: Findings) -> str:
    console = Console(record=True, width=120, quiet=False, file=(tmp_path / "out").open("w"))
    world: Any = _World(tmp_path)
    report.show(console, world, result, {"stream": 60.4, "gold": 9.8})
    return console.export_text()


GOOD = Check("sum", "it adds up", True, {"rows": 12_345})
BAD = Check("order", "it is in order", False, {"rows": 9, "wrong": 1}, ({"kafka_offset": 836},))


def test_every_number_is_shown(tmp_path: Path) -> None:
    text = shown(tmp_path, found(GOOD))
    for number in (
        "12,345",
        "MCMLXXXIV",
        "13,000",
        "12,800",
        "TOO_LATE",
        "17",
        "rule_00",
        "(6 more)",
        "99 users in 120",
    ):
        assert number in text
    assert "1 of 1 checks passed" in text
    assert "FAIL" not in text
    assert "Time: 70 s (stream 60 s, gold 10 s)" in text


def test_a_failed_check_is_shown_with_what_is_wrong(tmp_path: Path) -> None:
    result = found(GOOD, BAD)
    text = shown(tmp_path, result)
    assert not result.passed
    assert "1 of 2 checks passed" in text
    assert "{'kafka_offset': 836}" in text
    assert findings.as_json(result, {}).count('"passed": false') == 2


@pytest.mark.parametrize(
    ("events", "seconds"),
    [(1_000, 20), (20_000, 20), (200_000, 50), (600_000, 120), (2_400_000, 120), (4_800_000, 240)],
)
def test_the_stream_is_live_and_not_endless(events: int, seconds: float) -> None:
    assert events / Options(events=events).rate == pytest.approx(seconds)


def test_without_a_terminal_progress_is_a_line_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "out").open("w+") as file:
        screen = Screen(Console(file=file, width=200))
        progress = Progress(
            produced=1_000, expected=2_000, bronze=900, dead_letters=9, lag=91, watermark=1_769_860_800_000,
            silver="run 1 is running", gold="waiting",
        )  # fmt: skip
        with screen.progressing():
            screen.show(progress)
            screen.show(replace(progress, bronze=901))  # too soon
            monkeypatch.setattr(screen_module, "_SECONDS_BETWEEN_LINES", 0.0)
            screen = Screen(screen.console)
            for bronze in (902, 902, 903):  # nothing new is not told again
                screen.show(replace(progress, bronze=bronze))
        file.seek(0)
        lines = file.read().splitlines()
    assert [line.split("bronze ")[1][:3] for line in lines] == ["900", "902", "903"]
    for part in (
        "produced 1,000 of 2,000",
        "bronze 900",
        "dead letters 9",
        "lag 91",
        "2026-01-31 12:00",
        "run 1 is running",
    ):
        assert part in lines[0]
