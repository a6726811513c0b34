"""Names: within every limit, the same for the same thing, different for different things."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_operator.api.pipeline import MAX_NAME
from lakehouse_operator.planning import names
from planning import children, examples

LONGEST = st.from_regex(r"[a-z][-a-z0-9]{36}[a-z0-9]", fullmatch=True)
PIPELINES = st.from_regex(r"[a-z]([-a-z0-9]{0,36}[a-z0-9])?", fullmatch=True) | LONGEST
STAGES = st.sampled_from(["silver", "gold", "maintenance"])
OBJECTS = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
INSTANTS = st.datetimes().map(lambda moment: f"{moment:%Y-%m-%dT%H:%M:%SZ}")
DAYS = st.dates().map(lambda day: f"{day:%Y-%m-%d}")
REVISIONS = st.none() | st.from_regex(r"[0-9a-f]{12}", fullmatch=True)

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def fits(name: str, limit: int) -> bool:
    return len(name) <= limit and LABEL.fullmatch(name) is not None


@given(PIPELINES)
def test_the_flink_operator_accepts_the_deployments_name(pipeline: str) -> None:
    assert len(pipeline) <= MAX_NAME
    assert fits(names.deployment(pipeline), names.FLINK_DEPLOYMENT_LIMIT)
    assert fits(names.record(pipeline), 63)
    assert fits(names.definition(pipeline, "0123456789ab"), 63)
    assert fits(names.savepoint(pipeline, "any token"), 63)


@given(PIPELINES, STAGES, INSTANTS, st.tuples(DAYS, DAYS, OBJECTS), st.tuples(REVISIONS, st.integers(1, 999)))
def test_runs_and_their_attempts_fit(
    pipeline: str, stage: str, start: str, days: tuple[str, str, str], again: tuple[str | None, int]
) -> None:
    (first, last, backfill), (revision, number) = days, again
    for run in (
        names.interval_run(pipeline, stage, start, revision),
        names.days_run(pipeline, stage, first, last, backfill),
        names.manual_run(pipeline, stage, start),
    ):
        assert fits(run, names.RUN_LIMIT)
        attempt = names.attempt(run, number)
        assert fits(attempt, names.ATTEMPT_LIMIT)
        assert fits(f"{attempt}-ui-svc", 63)
        assert fits(f"{names.executor_prefix(attempt)}-exec-{2**31 - 1}", 63)


RUNS = st.tuples(PIPELINES, STAGES, INSTANTS)


@given(RUNS, RUNS)
def test_two_runs_have_one_name_only_if_they_are_the_same(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    same = (*one[:2], one[2][:16]) == (*other[:2], other[2][:16])
    assert (names.interval_run(*one) == names.interval_run(*other)) == same


@given(LONGEST, STAGES, INSTANTS)
def test_long_names_that_differ_at_their_end_make_different_names(pipeline: str, stage: str, start: str) -> None:
    other = pipeline[:-1] + ("a" if pipeline[-1] != "a" else "b")
    assert names.interval_run(pipeline, stage, start) != names.interval_run(other, stage, start)


def test_names_say_what_they_stand_for() -> None:
    assert names.deployment("clicks") == "clicks-bronze"
    assert names.interval_run("clicks", "silver", "2026-01-31T05:00:00Z") == "clicks-silver-20260131t0500"
    assert names.days_run("clicks", "gold", "2026-01-01", "2026-01-01", "b").startswith("clicks-gold-20260101-")
    assert names.days_run("clicks", "gold", "2026-01-01", "2026-01-07", "b").startswith("clicks-gold-20260101-20260107")
    assert names.attempt("clicks-silver-20260131t0500", 2) == "clicks-silver-20260131t0500-a2"


def test_the_same_interval_under_another_definition_has_another_name() -> None:
    start = "2026-01-31T05:00:00Z"
    named = {names.interval_run("clicks", "silver", start, revision) for revision in (None, "a" * 12, "b" * 12)}
    assert len(named) == 3


def test_two_backfills_of_a_day_are_told_apart() -> None:
    one, other = (names.days_run("clicks", "silver", "2026-01-01", "2026-01-01", name) for name in ("one", "other"))
    assert one != other


@given(PIPELINES, OBJECTS)
def test_label_values_fit(pipeline: str, run: str) -> None:
    for value in names.labels(pipeline, "silver", run=run).values():
        assert fits(value, 63)


@settings(max_examples=25, deadline=None)  # each validates a whole pipeline, with its SQL
@given(PIPELINES)
def test_every_name_in_the_children_of_any_pipeline_fits(name: str) -> None:
    pipeline = examples.valid(examples.changed("roman-numerals", metadata__name=name))
    application = children.application(pipeline, "silver")
    assert fits(application["metadata"]["name"], names.ATTEMPT_LIMIT)
    assert all(fits(value, 63) for value in application["metadata"]["labels"].values())
    assert len(application["spec"]["sparkConf"]["spark.kubernetes.executor.podNamePrefix"]) <= 47
