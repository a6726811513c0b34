"""Objects that each break one rule of the API: what a change of a good object makes of it, and what is then said."""

from dataclasses import dataclass
from typing import Any

from planning import examples


def run(**changes: Any) -> dict[str, Any]:
    """A LakehouseRun of the schedule, with fields of its spec changed; `...` takes one out."""
    spec: dict[str, Any] = {
        "pipelineRef": {"name": "clicks"},
        "stage": "silver",
        "reason": "schedule",
        "revision": "0123456789ab",
        "dataInterval": {"start": "2026-01-31T05:00:00Z", "end": "2026-01-31T06:00:00Z"},
        "sourceRange": {"after": "17", "upto": "8437218941234567890"},
    }
    return _object("LakehouseRun", "clicks-silver-20260131t0500", spec, changes)


def backfill(**changes: Any) -> dict[str, Any]:
    """A LakehouseBackfill, with fields of its spec changed; `...` takes one out."""
    spec: dict[str, Any] = {
        "pipelineRef": {"name": "clicks"},
        "range": {"first": "2026-01-01", "last": "2026-01-07"},
        "approved": True,
    }
    return _object("LakehouseBackfill", "january", spec, changes)


def _object(kind: str, name: str, spec: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    changed = {**spec, **changes}
    return {
        "apiVersion": "lakehouse.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {key: value for key, value in changed.items() if value is not ...},
    }


def named(raw: dict[str, Any], name: str) -> dict[str, Any]:
    """The object under another name."""
    return {**raw, "metadata": {**raw["metadata"], "name": name}}


@dataclass(frozen=True, slots=True)
class Spoiled:
    """An object that breaks a rule, and what is said about it."""

    raw: dict[str, Any]
    says: str


@dataclass(frozen=True, slots=True)
class SpoiledChange:
    """A change of a good object that is refused, and what is said about it."""

    before: dict[str, Any]
    after: dict[str, Any]
    says: str


_SASL = {"protocol": "SASL_SSL", "mechanism": "PLAIN", "secretRef": {"name": "kafka"}}
_OWN = {"entryPoint": "local:///opt/jobs/mine.py", "writes": ["silver.mine"]}
_RULE = "spec__silver__tables__0__rules__0"
_DIRECTORY = "s3://lakehouse/flink/checkpoints"


def _roman(**changes: Any) -> dict[str, Any]:
    return examples.changed("roman-numerals", **changes)


def _minimal(**changes: Any) -> dict[str, Any]:
    return examples.changed("minimal", **changes)


SPOILED = {
    "a name that is too long": Spoiled(_minimal(metadata__name="a" * 39), "metadata.name must have at most 38"),
    "a name with a dot": Spoiled(_minimal(metadata__name="clicks.eu"), "metadata.name must start with a letter"),
    "gold without silver": Spoiled(_roman(spec__silver=...), "gold needs silver"),
    "maintenance without an image": Spoiled(_minimal(spec__maintenance={}), "set maintenance.image"),
    "dead letters into the topic": Spoiled(
        _minimal(spec__bronze__deadLetterTopic="clicks"), "must differ from source.topic"
    ),
    "savepoints without a directory": Spoiled(
        _minimal(spec__bronze__checkpoint__savepointDirectory=..., spec__bronze__deletion={"policy": "Force"}),
        "upgrade.mode savepoint needs checkpoint.savepointDirectory",
    ),
    "retaining without a directory": Spoiled(
        _minimal(spec__bronze__checkpoint__savepointDirectory=..., spec__bronze__upgrade={"mode": "lastState"}),
        "deletion.policy Retain or Block needs checkpoint.savepointDirectory",
    ),
    "one directory for both": Spoiled(
        _roman(spec__bronze__checkpoint__savepointDirectory=_DIRECTORY), "savepointDirectory must differ from directory"
    ),
    "SASL without a mechanism": Spoiled(
        _minimal(spec__source__security={"protocol": "SASL_SSL"}), "protocol SASL_* needs mechanism and secretRef"
    ),
    "a mechanism without SASL": Spoiled(
        _minimal(spec__source__security={**_SASL, "protocol": "SSL"}), "mechanism belongs only to protocol SASL"
    ),
    "an authority without TLS": Spoiled(
        _minimal(spec__source__security={**_SASL, "protocol": "SASL_PLAINTEXT", "verifyWith": "secret"}),
        "verifyWith secret and clientCertificate need protocol SSL",
    ),
    "tables and a job": Spoiled(_roman(spec__silver__job=_OWN), "give either columns and tables"),
    "columns without tables": Spoiled(
        _roman(spec__silver__tables=..., spec__silver__dimensions=...), "columns and tables belong together"
    ),
    "dimensions of a job of one's own": Spoiled(
        _roman(spec__silver__tables=..., spec__silver__columns=..., spec__silver__job=_OWN), "dimensions need tables"
    ),
    "a rule of two kinds": Spoiled(
        _roman(**{_RULE: {"name": "r", "expression": "true", "notNull": {"column": "status"}}}),
        "give exactly one of expression, notNull",
    ),
    "a rule of no kind": Spoiled(_roman(**{_RULE: {"name": "r"}}), "give exactly one of expression, notNull"),
    "a table's rule that sets rows aside": Spoiled(
        _roman(**{_RULE: {"name": "r", "unique": {"columns": ["user_id"]}}}), "severity quarantine sets rows aside"
    ),
    "a range without bounds": Spoiled(
        _roman(**{_RULE: {"name": "r", "range": {"column": "duration_ms"}}}), "give min, max or both"
    ),
    "a range upside down": Spoiled(
        _roman(**{_RULE: {"name": "r", "range": {"column": "duration_ms", "min": 1.5, "max": 1}}}),
        "min must not lie above max",
    ),
    "neither models nor a job": Spoiled(_roman(spec__gold__models=...), "give either models"),
    "SQL in two places": Spoiled(
        _roman(spec__gold__models__0__sqlFrom={"configMap": "sql", "key": "a"}), "give either sql or sqlFrom"
    ),
    "a day column of a full model": Spoiled(
        _roman(spec__gold__models__0__dayColumn="day"), "kind incrementalByDay needs dayColumn"
    ),
    "a full model that is to be kept": Spoiled(
        _roman(spec__gold__models__0__whenChanged="keep"), "whenChanged keep belongs only to kind incrementalByDay"
    ),
    "a run's name that is too long": Spoiled(named(run(), "a" * 51), "metadata.name must have at most 50"),
    "an interval that ends before it starts": Spoiled(
        run(dataInterval={"start": "2026-01-31T06:00:00Z", "end": "2026-01-31T05:00:00Z"}),
        "dataInterval.start must lie before dataInterval.end",
    ),
    "an interval of no length": Spoiled(
        run(dataInterval={"start": "2026-01-31T06:00:00Z", "end": "2026-01-31T06:00:00Z"}),
        "dataInterval.start must lie before dataInterval.end",
    ),
    "a range and days": Spoiled(run(days={"first": "2026-01-01", "last": "2026-01-01"}), "not both"),
    "commits for gold": Spoiled(run(stage="gold"), "sourceRange belongs to stage silver"),
    "days for maintenance": Spoiled(
        run(stage="maintenance", sourceRange=..., days={"first": "2026-01-01", "last": "2026-01-01"}),
        "days belong to stage silver or gold",
    ),
    "a scheduled run without an interval": Spoiled(run(dataInterval=...), "a run of the schedule needs dataInterval"),
    "a backfill's run that names none": Spoiled(
        run(reason="backfill", sourceRange=..., days={"first": "2026-01-01", "last": "2026-01-01"}),
        "reason backfill needs backfill",
    ),
    "a backfill's run without days": Spoiled(run(reason="backfill", backfill="b"), "a run of a backfill needs days"),
    "days in the wrong order": Spoiled(
        run(sourceRange=..., days={"first": "2026-01-02", "last": "2026-01-01"}), "first must not lie after last"
    ),
    "a backfill's name that is too long": Spoiled(named(backfill(), "a" * 64), "metadata.name must have at most 63"),
    "a backfill that ends before it starts": Spoiled(
        backfill(range={"first": "2026-01-07", "last": "2026-01-01"}), "first must not lie after last"
    ),
    "a stage twice": Spoiled(backfill(stages=["gold", "gold"]), "stages must not name a stage twice"),
}
"""One for each rule that looks at one object."""

SPOILED_CHANGES = {
    "another topic": SpoiledChange(_minimal(), _minimal(spec__source__topic="views"), "topic can't be changed"),
    "another identity": SpoiledChange(
        _minimal(), _minimal(spec__source__event={"idField": "id"}), "idField can't be changed"
    ),
    "another catalog name": SpoiledChange(_minimal(), _minimal(spec__catalog__name="other"), "name can't be changed"),
    "another bronze table": SpoiledChange(
        _minimal(), _minimal(spec__bronze__table="bronze.views"), "bronze.table can't be changed"
    ),
    "a bronze table that falls back to the default": SpoiledChange(
        _roman(), _roman(spec__bronze__table=...), "bronze.table can't be changed"
    ),
    "another run": SpoiledChange(run(), run(stage="gold"), "a run's spec can't be changed"),
    "an approval taken back": SpoiledChange(backfill(), backfill(approved=False), "approved can't be taken back"),
    "a cancellation taken back": SpoiledChange(backfill(cancel=True), backfill(), "cancel can't be taken back"),
    "another pipeline": SpoiledChange(
        backfill(), backfill(pipelineRef={"name": "views"}), "pipelineRef can't be changed"
    ),
    "another range": SpoiledChange(
        backfill(), backfill(range={"first": "2026-01-01", "last": "2026-01-08"}), "range can't be changed"
    ),
    "other stages": SpoiledChange(backfill(), backfill(stages=["silver"]), "stages can't be changed"),
    "another policy": SpoiledChange(backfill(), backfill(reprocess="none"), "reprocess can't be changed"),
    "other limits of the audit": SpoiledChange(
        backfill(), backfill(audit={"maxEventsLost": 1}), "audit can't be changed"
    ),
    "other portions": SpoiledChange(backfill(), backfill(daysPerRun=7), "daysPerRun can't be changed"),
}
"""One for each rule that compares an object with what it was."""

WRONG_VALUES = {
    "unit": _minimal(spec__bronze__watermarkDelay="5 minutes"),
    "no duration at all": _minimal(spec__bronze__watermarkDelay=""),
    "a number without a unit": _minimal(spec__bronze__dedupTtl="24"),
    "gigabytes": _minimal(spec__bronze__taskManager={"memory": "2GB"}),
    "a quoted number": _minimal(spec__bronze__parallelism="2"),
    "half a task": _minimal(spec__bronze__parallelism=1.5),
    "no task": _minimal(spec__bronze__parallelism=0),
    "a choice that is none": _minimal(spec__bronze__tooLate="drop"),
    "a switch that is a word": _minimal(spec__suspend="yes"),
    "a field that nobody knows": _minimal(spec__bronze__paralelism=2),
    "another spelling": _minimal(spec__bronze__watermark_delay="5m"),
    "a missing field": _minimal(spec__source__topic=...),
    "a list in place of an object": _minimal(spec__source=[]),
    "brokers without a port": _minimal(spec__source__bootstrapServers="kafka"),
    "a topic with a slash": _minimal(spec__source__topic="a/b"),
    "a directory that is no URI": _minimal(spec__bronze__checkpoint__directory="/checkpoints"),
    "a table without a namespace": _minimal(spec__bronze__table="events"),
    "upper case in a table": _minimal(spec__bronze__table="bronze.Events"),
    "six fields of cron": _roman(spec__silver__schedule="0 0 * * * *"),
    "a column type that is none": _roman(spec__silver__columns__0__type="varchar"),
    "a JSON path without a root": _roman(spec__silver__columns__0__path="event_type"),
    "a column name that needs quotes": _roman(spec__silver__columns__0__name="Event Type"),
    "an empty expression": _roman(spec__silver__tables__0__rules__0__expression=""),
    "a bound that is text": _roman(**{_RULE: {"name": "r", "range": {"column": "duration_ms", "min": "0"}}}),
    "accepted values that are none": _roman(
        **{_RULE: {"name": "r", "acceptedValues": {"column": "status", "values": []}}}
    ),
    "an age without a unit": _roman(**{_RULE: {"name": "r", "severity": "warn", "freshness": {"maxAge": "2 hours"}}}),
    "no tables": _roman(spec__silver__tables=[]),
    "a job from the network": _roman(
        spec__silver={"image": "i", "job": {**_OWN, "entryPoint": "http://example.com/job.py"}}
    ),
    "too much memory growth": _roman(spec__silver__retry={"memoryGrowth": 5}),
    "a snapshot id as a number": run(sourceRange={"upto": 17}),
    "a local time": run(dataInterval={"start": "2026-01-31T05:00:00+01:00", "end": "2026-01-31T06:00:00Z"}),
    "a stage that is none": run(stage="bronze"),
    "a share above all": backfill(audit={"maxEventsLost": 1.5}),
    "a day without hyphens": backfill(range={"first": "20260101", "last": "2026-01-07"}),
}
"""Values that the shape of the API refuses."""
