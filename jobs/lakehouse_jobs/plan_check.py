"""Bronze looks at its own plan before it runs: another planner or setting might change what the SQL promises."""

import re

_PHYSICAL = "== Optimized Physical Plan =="
_EXECUTED = "== Optimized Execution Plan =="


class PlanRefused(Exception):
    """The plan is not the one that keeps bronze's promises; the message says how it differs."""


def check(explained: str) -> None:
    """Check the text of EXPLAIN, with its changelog modes, of the job's statement set.

    Raises:
        PlanRefused: There is not exactly one scan of the source and one keep-first deduplication by arrival, or
            something but inserts flows.
    """
    _, _, plans = explained.partition(_PHYSICAL)
    physical, found, executed = plans.partition(_EXECUTED)
    if not found:
        raise PlanRefused(f"EXPLAIN shows no '{_PHYSICAL}' and '{_EXECUTED}'")
    problems = [*_scan_problems(executed), *_changelog_problems(physical), *_dedup_problems(executed)]
    if problems:
        raise PlanRefused(f"the plan is not safe to run: {'; '.join(problems)}.\n{executed.strip()}")


def _scan_problems(plan: str) -> list[str]:
    scans = re.findall(r"\bTableSourceScan\(", plan)
    problems = []
    if len(scans) != 1:
        problems.append(f"it reads the source {len(scans)} times, not once")
    if "watermark=[" not in plan:
        problems.append("the watermark is not made inside the source, per partition")
    return problems


def _changelog_problems(plan: str) -> list[str]:
    modes = re.findall(r"changelogMode=\[([^\]]*)\]", plan)
    problems = []
    if not modes:
        problems.append("it shows no changelog modes")
    if other := sorted(set(modes) - {"I", "NONE"}):
        problems.append(f"changes other than inserts flow ({', '.join(other)})")
    if "SinkMaterializer" in plan or "upsertMaterialize=[true]" in plan:
        problems.append("a sink keeps a copy of the table to order its changes")
    return problems


def _dedup_problems(plan: str) -> list[str]:
    keeps = re.findall(r"\bDeduplicate\(keep=\[(\w+)\], key=\[(\w+)\], order=\[(\w+)\]", plan)
    if keeps != [("FirstRow", "event_id", "PROCTIME")]:
        return [f"repeats are not dropped by one keep-first deduplication over event_id and arrival, but by {keeps}"]
    return []
