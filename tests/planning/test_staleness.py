"""Which days a backfill should renew, and why."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from lakehouse_operator.api.pipeline_status import StaleDays
from lakehouse_operator.planning import job_settings, staleness
from lakehouse_operator.planning.child import wanted_revision
from lakehouse_operator.planning.observed import Observation, RunObject
from lakehouse_operator.planning.record import Record
from lakehouse_operator.planning.schedule import instant
from lakehouse_operator.planning.situation import Situation
from planning import examples
from planning.batch_builders import at, seen

PIPELINE = examples.valid("roman-numerals")
SILVER, GOLD = (job_settings.revision(PIPELINE, stage) for stage in staleness.LAYERS)
OLD = "0" * 12
NOW = at("02-10 12:00")
DAYS = ["2026-02-01", "2026-02-02", "2026-02-03"]


def run(
    hour: int,
    touched: Sequence[str] = (),
    *,
    stage: str = "silver",
    revision: str = SILVER,
    days: tuple[str, str] | None = None,
    **status: Any,
) -> RunObject:
    """A run that was created at an hour of the 10th and succeeded within it."""
    created = at(f"02-10 {hour:02}:00")
    told = {"phase": "Succeeded", "finishedAt": instant(created + timedelta(minutes=5)), "revision": revision}
    return RunObject(
        name=f"run-{stage}-{hour}",
        uid=f"uid-{stage}-{hour}",
        owner_uid="p",
        created_at=created,
        spec={"stage": stage, **({"days": {"first": days[0], "last": days[1]}} if days else {})},
        status={**told, "touchedDays": list(touched), **status},
        annotations={},
        deleting=False,
    )


def after(*runs: RunObject, record: Record | None = None, observed: bool = True) -> Record:
    """The record once each of the runs has ended, one round for each."""
    record = record or Record()
    for number in range(len(runs)):
        record = round_(record, runs[: number + 1], observed=observed)
    return record


def round_(record: Record, runs: tuple[RunObject, ...], *, observed: bool = True) -> Record:
    observation = Observation(tables={}) if observed else Observation()
    situation = Situation(
        pipeline=PIPELINE,
        seen=seen(NOW, runs=runs, observation=observation),
        record=record,
        wanted=wanted_revision(PIPELINE),
    )
    return staleness.noted(staleness.renewed(situation)).record


def rewound(*days: str, hour: int = 8) -> Record:
    """The record of a pipeline that went back at an hour of the 10th."""
    situation = Situation(
        pipeline=PIPELINE,
        seen=seen(at(f"02-10 {hour:02}:00")),
        record=Record(),
        wanted=wanted_revision(PIPELINE),
    )
    return staleness.left_behind(situation, days).record


def told(record: Record) -> list[tuple[str, str, str, str]]:
    def flat(each: StaleDays) -> tuple[str, str, str, str]:
        return each.stage, each.reason, each.first[-2:], each.last[-2:]

    return [flat(each) for each in staleness.stale(PIPELINE, record)]


class TestAfterAChangeOfTheDefinition:
    def test_days_of_the_current_definition_are_not_stale(self) -> None:
        assert told(after(run(1, DAYS), run(2, DAYS, stage="gold", revision=GOLD))) == []

    def test_days_that_an_older_one_has_computed_are_stale_in_ranges(self) -> None:
        record = after(run(1, [*DAYS, "2026-02-05"], revision=OLD))
        assert told(record) == [("silver", "Revision", "01", "03"), ("silver", "Revision", "05", "05")]

    def test_rows_that_a_newer_run_adds_to_a_day_do_not_renew_it(self) -> None:
        record = after(run(1, DAYS[:1], revision=OLD), run(2, DAYS[:2]))
        assert told(record) == [("silver", "Revision", "01", "01")]

    def test_a_run_of_whole_days_renews_them(self) -> None:
        record = after(run(1, DAYS, revision=OLD), run(2, days=(DAYS[0], DAYS[1])))
        assert told(record) == [("silver", "Revision", "03", "03")]

    def test_a_run_of_whole_days_with_a_definition_that_is_old_by_now_does_not(self) -> None:
        record = after(run(1, DAYS), run(2, days=(DAYS[0], DAYS[0]), revision=OLD))
        assert told(record) == [("silver", "Revision", "01", "01")]

    def test_gold_rewrites_each_day_that_it_touches(self) -> None:
        record = after(run(1, DAYS, stage="gold", revision=OLD), run(2, DAYS[1:], stage="gold", revision=GOLD))
        assert told(record) == [("gold", "Revision", "01", "01")]

    def test_a_run_that_failed_computed_nothing(self) -> None:
        assert told(after(run(1, DAYS, revision=OLD, phase="Failed"))) == []

    def test_it_is_remembered_when_the_runs_are_gone(self) -> None:
        record = after(run(1, DAYS, revision=OLD))
        assert told(round_(record, ())) == [("silver", "Revision", "01", "03")]
        assert round_(record, ()) == record

    def test_an_older_run_that_is_still_there_takes_nothing_back(self) -> None:
        runs = (run(1, days=(DAYS[0], DAYS[2]), revision=OLD), run(2, days=(DAYS[0], DAYS[2])))
        record = after(*runs)
        assert round_(record, runs[:1]) == record, "somebody deleted the newer run"
        assert told(record) == []

    def test_nothing_is_noted_while_the_tables_are_not_seen_and_all_of_it_later(self) -> None:
        runs = (run(1, revision=OLD, touchedDays=[]), run(2, DAYS[1:]))
        record = after(*runs, observed=False)
        assert record == Record()
        assert told(round_(record, (run(1, DAYS, revision=OLD), runs[1]))) == [("silver", "Revision", "01", "03")]

    def test_what_is_noted_is_written_once(self) -> None:
        runs = (run(1, DAYS, revision=OLD), run(1, DAYS, stage="gold", revision=GOLD))
        record = round_(Record(), runs)
        assert round_(record, runs) == record


class TestAfterARewind:
    def test_silver_and_gold_are_stale(self) -> None:
        assert told(rewound(*DAYS)) == [("silver", "Rewind", "01", "03"), ("gold", "Rewind", "01", "03")]

    def test_gold_is_renewed_after_silver_only(self) -> None:
        record = rewound(DAYS[0])
        early = run(9, DAYS[:1], stage="gold", revision=GOLD)
        record = after(early, record=record)
        assert ("gold", "Rewind", "01", "01") in told(record), "it read the silver that is stale"
        silver = run(10, days=(DAYS[0], DAYS[0]))
        record = round_(record, (early, silver))
        assert told(record) == [("gold", "Rewind", "01", "01")]
        late = run(11, DAYS[:1], stage="gold", revision=GOLD)
        assert told(round_(record, (early, silver, late))) == []

    def test_gold_waits_for_a_run_after_silver_even_where_silvers_run_is_forgotten(self) -> None:
        record = round_(rewound(DAYS[0]), (run(10, days=(DAYS[0], DAYS[0])),))
        assert told(round_(record, (run(9, DAYS[:1], stage="gold", revision=GOLD),))) != []
        assert told(round_(record, (run(11, DAYS[:1], stage="gold", revision=GOLD),))) == []

    def test_a_pipeline_without_gold_has_no_stale_gold(self) -> None:
        record = replace(rewound(DAYS[0]), stale_gold=())
        assert told(record) == [("silver", "Rewind", "01", "01")]
