"""Hundreds of kills and other faults, and the oracle: `python -m benchmarks.chaos`. See README.md beside this file."""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))

from chaos import faults, schedule, store
from chaos.arena import Arena, Broken
from chaos.faults import Tally
from chaos.schedule import Fault, Kill
from lakehouse_operator.local import engines
from lakehouse_operator.local.directory import WorldDirectory
from lakehouse_operator.local.processes import Processes

FAULTS_A_GROUP = 25


@dataclass
class Report:
    """What a run did and found.

    Attributes:
        groups: For each group of faults: how many kills, how many records by then, how long it took to settle, and what
            is wrong.
    """

    seed: int
    tally: Tally = field(default_factory=Tally)
    groups: list[dict[str, Any]] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing was wrong after any group."""
        return bool(self.groups) and not any(group["wrong"] for group in self.groups)

    def add(self, tally: Tally) -> None:
        """Add what a group did."""
        self.tally.kills += tally.kills
        self.tally.at += tally.at
        self.tally.missed += tally.missed
        for name, seconds in tally.seconds.items():
            self.tally.seconds.setdefault(name, []).extend(seconds)

    def text(self) -> str:
        """The report, for people."""
        tally = self.tally
        lines = [f"seed {self.seed}: {sum(tally.kills.values())} kills ({_listed(tally.kills)})", ""]
        lines += ["| fault | times | median s until well | longest |", "|---|---|---|---|"]
        for name, times in sorted(tally.at.items()):
            seconds = tally.seconds[name]
            lines.append(f"| {name} | {times} | {statistics.median(seconds):.1f} | {max(seconds):.1f} |")
        lines += ["", "| after kills | records | bronze | dead letters | repeats | settled in s | wrong |"]
        lines += ["|---|---|---|---|---|---|---|"]
        columns = ("kills", "records", "bronze", "deadLetters", "repeats", "settled", "wrong")
        lines += [f"| {' | '.join(str(group[column]) for column in columns)} |" for group in self.groups]
        lines += ["", "PASSED: each offset is there exactly once" if self.passed else "FAILED"]
        return "\n".join(lines)

    def as_data(self) -> dict[str, Any]:
        """The report, for programs."""
        tally = self.tally
        return {
            "seed": self.seed,
            "passed": self.passed,
            "kills": dict(tally.kills),
            "faults": dict(tally.at),
            "missed": dict(tally.missed),
            "seconds": {name: [round(each, 1) for each in seconds] for name, seconds in tally.seconds.items()},
            "groups": self.groups,
        }


def _listed(counts: Counter[Any]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def run(arena: Arena, plan: Sequence[Fault], report: Report) -> None:
    """Carry a schedule out in groups, and ask for the truth after each."""
    killed = 0
    for start in range(0, len(plan), FAULTS_A_GROUP):
        group = plan[start : start + FAULTS_A_GROUP]
        arena.begin()
        arena.until_well()
        tally = faults.carry_out(arena, group)
        report.add(tally)
        killed += sum(tally.kills.values())
        silver = any(isinstance(fault, Kill) and "sparkDriver" in fault.victims for fault in group)
        report.groups.append({"kills": killed, **judged(arena, with_silver=silver and not arena.rewound)})
        arena.say(f"{killed} kills: {report.groups[-1]}")


def judged(arena: Arena, *, with_silver: bool) -> dict[str, Any]:
    """Settle, and ask `lakehouse verify` and the oracle."""
    began = time.monotonic()
    arena.settle()
    settled = time.monotonic() - began
    verdict = arena.verify()
    counts = verdict.counts
    failed = [check.report() for check in arena.judge(with_silver=with_silver) if not check.passed]
    for told in (*(str(finding) for finding in verdict.findings), *failed):
        arena.say(told)
    return {
        "records": counts.records,
        "bronze": counts.bronze,
        "deadLetters": counts.dead_letters,
        "repeats": counts.repeats + counts.late_repeats,
        "settled": round(settled, 1),
        "wrong": counts.wrong + len(failed) + (verdict.outcome == "open"),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark. Answer the exit code: 0 if nothing was lost or doubled."""
    parser = argparse.ArgumentParser(prog="benchmarks.chaos", description="Exactly-once under fire.")
    parser.add_argument("--seed", type=int, default=1, help="decides the faults and the events")
    parser.add_argument("--kills", type=int, default=200, help="how many processes are killed, at least")
    parser.add_argument("--store", action="store_true", help="tables on an S3 store, which fails as well")
    parser.add_argument("--directory", type=Path, help="keep the world here, to look at it; else it is removed")
    parser.add_argument("--json", type=Path, help="write the report here, too")
    options = parser.parse_args(arguments)
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {line}", flush=True)

    report = Report(options.seed)
    kept = nullcontext(str(options.directory)) if options.directory else tempfile.TemporaryDirectory(prefix="chaos-")
    with kept as root:
        directory = WorldDirectory(Path(root) / "world")
        directory.make()
        with store.keys(), Processes(directory.records, directory.logs) as processes:
            arena = Arena(engines.find(), directory, processes, seed=options.seed, say=say)
            if options.store:
                arena.engines = store.lay_out(Path(root) / "checkout")
                arena.store = store.start(processes, Path(root) / "store", options.seed)
            arena.start()
            say("the stream runs")
            wanted = schedule.ON_STORE if options.store else schedule.DISTURBANCES
            try:
                run(arena, schedule.make(options.seed, options.kills, wanted), report)
            except Broken as broken:
                say(f"BROKEN: {broken}")
                report.groups.append(dict.fromkeys(("kills", "records", "bronze", "deadLetters", "repeats"), "-")
                                     | {"settled": "-", "wrong": 1})  # fmt: skip
    print(f"\n{report.text()}\n\ntook {(time.monotonic() - began) / 60:.0f} minutes")
    if options.json:
        options.json.write_text(json.dumps(report.as_data(), indent=2) + "\n")
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
