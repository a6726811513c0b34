"""Whole stories of a stream and of runs, round by round, as they were last looked at, in `tests/golden/stories`.

    python tests/planning/transcripts.py --write     # after a change that is meant; then look at the difference

Each line is what one round of the operator did; the world in which it happened is simulated.
"""

import re
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "stories"
if __name__ == "__main__":
    sys.path.insert(0, str(FOLDER.parents[1]))

from lakehouse_operator.planning.explain import explain  # noqa: E402
from lakehouse_operator.planning.observed import BackfillObject  # noqa: E402
from lakehouse_operator.planning.plan import Plan  # noqa: E402
from lakehouse_operator.planning.situation import RESTORE_ANNOTATION  # noqa: E402
from planning.batch_world import BatchWorld  # noqa: E402
from planning.stream_scenes import at_rest, world  # noqa: E402
from planning.world import World  # noqa: E402


def tell(made: World, rounds: int, *, seconds: int = 20) -> list[str]:
    """What happens in so many rounds, without those in which nothing does."""
    lines = []
    for _ in range(rounds):
        if made.gone:
            break
        made.produce(5)
        planned = made.reconcile()
        state = made.status["stream"]["state"]
        ready = made.condition("Ready")
        said = [sentence for sentence in explain(planned) if sentence != "Nothing to do."]
        if said:
            lines.append(f"{made.now:%H:%M:%S} {state}, Ready {ready['status']} ({ready['reason']})")
            lines += [f"    {sentence}" for sentence in said]
        made.flink_operator()
        made.flink()
        made.now += timedelta(seconds=seconds)
    lines.append(f"bronze: {made.missing_or_doubled() or 'each offset exactly once'}")
    return lines


def _text(lines: list[str]) -> str:
    """As text; revisions are numbered in the order in which they come, so that only behavior counts."""
    text, known = "\n".join(lines) + "\n", {}
    for revision in re.findall(r"\b(?:revision|to) ([0-9a-f]{12})\b", text):
        known.setdefault(revision, f"R{len(known) + 1}")
    for revision, short in known.items():
        text = text.replace(revision, short)
    return text


def first_deployment() -> str:
    return _text(tell(world(), 20))


def upgrade() -> str:
    made = at_rest()
    made.edit(image="flink:2")
    return _text(tell(made, 16))


def upgrade_that_crashes() -> str:
    made = at_rest()
    made.edit(image="flink:2-crashes")
    return _text(tell(made, 30))


def upgrade_whose_image_is_missing() -> str:
    made = at_rest()
    made.edit(image="flink:2-no-image")
    return _text(tell(made, 50))


def restore() -> str:
    made = at_rest()
    tell(made, 6)
    made.annotations[RESTORE_ANNOTATION] = made.record.points[0].name
    return _text(tell(made, 16))


def lost_deployment() -> str:
    made = at_rest()
    tell(made, 6)
    made.child.deleting = True
    return _text(tell(made, 16))


def failed_job() -> str:
    made = at_rest()
    made.fail_job(for_good=True)
    return _text(tell(made, 16))


def deletion_and_second_life() -> str:
    made = at_rest()
    made.delete()
    lines = tell(made, 10)
    made.flink_operator()
    made.create_again()
    return _text([*lines, "-- created again", *tell(made, 12)])


# --- runs -------------------------------------------------------------------------------------------------------------


def tell_runs(made: BatchWorld, rounds: int, *, minutes: float = 5, fails: str | None = None) -> list[str]:
    """What happens to runs and backfills in so many rounds, without those in which nothing does."""
    lines = []
    for _ in range(rounds):
        made.bronze()
        before = _phases(made)
        decision = made.round()
        said = [
            each for each in explain(Plan(actions=decision.actions, wake_after=timedelta())) if "Nothing" not in each
        ]
        said += [f"{name} is {phase}." for name, phase in _phases(made).items() if before.get(name) != phase]
        if said:
            lines.append(f"{made.now:%d %H:%M:%S}")
            lines += [f"    {sentence}" for sentence in said]
        made.spark(fails)
        made.now += timedelta(minutes=minutes)
    return lines


def _phases(made: BatchWorld) -> dict[str, str]:
    told = {}
    for name, each in {**made.runs, **made.backfills}.items():
        told[name] = each.status.get("phase", "new")
    return told


def _hours(**how: str) -> BatchWorld:
    """A world whose first hours have succeeded, in silver and in gold."""
    made = BatchWorld(how.get("catch_up", "all"), how.get("concurrency", "Forbid"))
    tell_runs(made, 30)
    return made


def hours() -> str:
    return _runs_text(tell_runs(BatchWorld("all", "Forbid"), 30))


def driver_that_is_evicted() -> str:
    made = _hours()
    return _runs_text([*tell_runs(made, 8, fails="an eviction"), *tell_runs(made, 20)])


def bad_data_holds_gold_until_the_definition_changes() -> str:
    made = _hours()
    lines = tell_runs(made, 30, fails="bad data")
    made.revision = 1
    return _runs_text([*lines, "-- the definition is changed", *tell_runs(made, 30)])


def memory_grows() -> str:
    made = _hours()
    return _runs_text([*tell_runs(made, 12, fails="out of memory"), *tell_runs(made, 20)])


def _downtime(catch_up: str) -> str:
    made = _hours(catch_up=catch_up)
    made.now += timedelta(hours=9)
    return _runs_text(["-- the operator was away for nine hours", *tell_runs(made, 40)])


def backfill_beside_the_hours() -> str:
    made = _hours()
    spec = {
        "pipelineRef": {"name": "numerals"}, "range": {"first": "2026-03-01", "last": "2026-03-02"},
        "stages": ["silver", "gold"], "approved": True, "maxConcurrent": 1, "reprocess": "all",
    }  # fmt: skip
    made.backfills["mend"] = BackfillObject(
        name="mend", uid="b1", generation=1, created_at=made.now, spec=spec, status={}, deleting=False
    )
    return _runs_text(tell_runs(made, 60, minutes=2))


def _runs_text(lines: list[str]) -> str:
    """As text, without the hashes of definitions: only behavior counts."""
    return re.sub(r"-[0-9a-f]{6}\b", "-REVISION", "\n".join(lines)) + "\n"


STORIES: dict[str, Callable[[], str]] = {
    "first-deployment": first_deployment,
    "upgrade": upgrade,
    "upgrade-that-crashes": upgrade_that_crashes,
    "upgrade-whose-image-is-missing": upgrade_whose_image_is_missing,
    "restore": restore,
    "lost-deployment": lost_deployment,
    "failed-job": failed_job,
    "deletion-and-second-life": deletion_and_second_life,
    "runs-by-the-hour": hours,
    "runs-whose-driver-is-evicted": driver_that_is_evicted,
    "runs-with-bad-data": bad_data_holds_gold_until_the_definition_changes,
    "runs-without-enough-memory": memory_grows,
    "runs-after-downtime-all": lambda: _downtime("all"),
    "runs-after-downtime-latest": lambda: _downtime("latest"),
    "backfill-beside-the-hours": backfill_beside_the_hours,
}


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, story in STORIES.items():
        (FOLDER / f"{name}.txt").write_text(story())
