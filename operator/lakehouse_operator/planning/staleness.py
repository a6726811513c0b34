"""Which event days no longer follow from what lies below or from today's definition, and so should be renewed.

After a rewind, until runs put them together anew: silver, and then gold from it. After a change of a definition: the
record says by which one each day was computed, because runs and commits are forgotten in time. That is known as far as
the tables are observed, since the commits name the days that a run touched.

An expiry of snapshots makes nothing stale: silver then finds what it has not seen by arrival.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date
from itertools import groupby
from typing import Literal

from lakehouse_operator.api.pipeline_status import StaleDays
from lakehouse_operator.planning import job_settings
from lakehouse_operator.planning.observed import RunObject
from lakehouse_operator.planning.pipeline import ValidPipeline
from lakehouse_operator.planning.record import ComputedDays, Record, StaleDay
from lakehouse_operator.planning.schedule import days, instant, parse_instant
from lakehouse_operator.planning.situation import Situation

Layer = Literal["silver", "gold"]
LAYERS: tuple[Layer, ...] = ("silver", "gold")
_MOST_RANGES = 500
"""How many ranges of days are remembered, of all layers; the oldest are forgotten first."""


# --- after a rewind ---------------------------------------------------------------------------------------------------


def left_behind(s: Situation, which: Iterable[str]) -> Situation:
    """The situation in which a rewind leaves these days of every layer behind, whatever was computed before."""
    new, known = set(which), s.record
    silver = {*known.stale_days, *new}
    gold = {*(each.day for each in known.stale_gold), *new} if "gold" in s.pipeline.stages else set()
    return s.but(
        stale_days=tuple(sorted(silver)),
        stale_since=s.stamp,
        stale_gold=tuple(StaleDay(day, s.stamp) for day in sorted(gold)),
    )


def renewed(s: Situation) -> Situation:
    """The situation without the days that were put together anew since the last rewind."""
    return _gold_renewed(_silver_renewed(s))


def _silver_renewed(s: Situation) -> Situation:
    """Silver's days are renewed by a run of whole days. What gold has computed before that does not count for it."""
    record = s.record
    if not record.stale_days:
        return s
    if record.stale_since is None:
        return s.but(stale_since=s.stamp)
    since = parse_instant(record.stale_since)
    runs = [run for run in s.seen.runs if run.created_at > since and _renews(s, run)]
    ended = {day: _finished(run) for run in runs for day in _days_of(run) if day in record.stale_days}
    if not ended:
        return s
    left = tuple(day for day in record.stale_days if day not in ended)
    gold = tuple(replace(each, since=max(each.since, ended.get(each.day, ""))) for each in record.stale_gold)
    return s.but(stale_days=left, stale_since=record.stale_since if left else None, stale_gold=gold)


def _renews(s: Situation, run: RunObject) -> bool:
    """Whether a run has put days of silver together from what bronze holds now, not from what was discarded."""
    whole = run.spec.get("days")
    if run.spec.get("stage") != "silver" or not whole or run.status.get("phase") != "Succeeded":
        return False
    snapshot = whole.get("atSnapshot")
    return snapshot is None or (s.bronze is not None and s.bronze.commit(int(snapshot)) is not None)


def _gold_renewed(s: Situation) -> Situation:
    """Gold's days are renewed by a run that rewrites them after silver's were."""
    record = s.record
    if not record.stale_gold:
        return s
    runs = [run for run in s.seen.runs if run.spec.get("stage") == "gold" and run.status.get("phase") == "Succeeded"]
    newest: dict[str, str] = {}
    for run in runs:
        for day in _days_of(run):
            newest[day] = max(newest.get(day, ""), instant(run.created_at))
    left = tuple(
        each for each in record.stale_gold if each.day in record.stale_days or newest.get(each.day, "") < each.since
    )
    return s if left == record.stale_gold else s.but(stale_gold=left)


def _days_of(run: RunObject) -> set[str]:
    """The event days that a run has rewritten or added to, as far as that is known."""
    whole = run.spec.get("days")
    return {*map(str, run.status.get("touchedDays", ())), *(days(whole["first"], whole["last"]) if whole else ())}


# --- by which definition ----------------------------------------------------------------------------------------------


def noted(s: Situation) -> Situation:
    """The situation with what the runs have computed that ended since it was noted last."""
    if not s.observes_tables:
        return s  # which days a run touched is not known yet
    since = s.record.computed_until or ""
    ended = [run for run in s.seen.runs if run.status.get("phase") == "Succeeded" and _finished(run) >= since]
    if not ended:
        return s
    computed, until = s.record.computed, since
    for run in sorted(ended, key=_finished):
        computed, until = _with_run(computed, run), _finished(run)
    return s.but(computed=computed, computed_until=until)


def _finished(run: RunObject) -> str:
    return str(run.status.get("finishedAt", ""))


def _with_run(computed: tuple[ComputedDays, ...], run: RunObject) -> tuple[ComputedDays, ...]:
    """What is computed after a run. It may be noted twice in a row.

    A run over whole days computes them by its own definition, and so does any run of gold the days that it touches. One
    of silver over what has arrived only adds rows to a day: what was there stays as it was computed.
    """
    stage, revision = run.spec["stage"], run.status.get("revision") or run.spec.get("revision")
    if stage not in LAYERS or not revision:
        return computed
    known = {(each.stage, day): each.revision for each in computed for day in days(each.first, each.last)}
    for day in _days_of(run):
        if stage == "gold" or run.spec.get("days"):
            known[stage, day] = revision
        else:
            known.setdefault((stage, day), revision)
    newest = sorted(_ranges(known), key=lambda each: (each.last, each.stage))
    return tuple(newest[-_MOST_RANGES:])


def _ranges(known: Mapping[tuple[Layer, str], str]) -> Iterator[ComputedDays]:
    """Days as ranges without gaps, of one layer and revision each."""
    for stage in LAYERS:
        own = sorted((day, revision) for (layer, day), revision in known.items() if layer == stage)
        for first, last, revision in _stretches(own):
            yield ComputedDays(stage=stage, first=first, last=last, revision=revision)


def _stretches(own: list[tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    """The first and last day of each stretch of days that follow each other with one value."""
    numbered = [(date.fromisoformat(day).toordinal() - number, value, day) for number, (day, value) in enumerate(own)]
    for (_, value), stretch in groupby(numbered, key=lambda each: (each[0], each[1])):
        members = [day for _, _, day in stretch]
        yield members[0], members[-1], value


def stale(pipeline: ValidPipeline, record: Record) -> tuple[StaleDays, ...]:
    """What should be renewed, silver before gold, what a rewind left behind first."""
    found: list[StaleDays] = []
    for stage in LAYERS:
        if stage not in pipeline.stages:
            continue
        rewound = record.stale_days if stage == "silver" else [each.day for each in record.stale_gold]
        found += _of(stage, "Rewind", rewound)
        current = job_settings.revision(pipeline, stage)
        older = [each for each in record.computed if each.stage == stage and each.revision != current]
        found += _of(stage, "Revision", (day for each in older for day in days(each.first, each.last)))
    return tuple(found)


def _of(stage: Layer, reason: Literal["Rewind", "Revision"], which: Iterable[str]) -> Iterator[StaleDays]:
    for first, last, _ in _stretches([(day, "") for day in sorted(set(which))]):
        yield StaleDays(first=first, last=last, stage=stage, reason=reason)
