"""Whole event days again, by write-audit-publish: staged on branches, audited there, then swapped in on main.

Everything of all tables is staged and audited before the first table changes, so a failed audit changes none. Then each
table's days are swapped in one commit, its quarantine's before its own. What is published are the very files that were
audited. Another run may commit to other days of the same table meanwhile; one that changes these days makes the swap
fail with `Conflict`, and they are computed again. A run that is started again after a crash finds the swaps of its own
by their stamps and makes only those that are missing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame

from lakehouse_contract.names import split
from lakehouse_contract.settings import DayRange
from lakehouse_jobs import audits, keyed_tables, payload, quality, silver_dimensions
from lakehouse_jobs.audits import Check, Sides
from lakehouse_jobs.event_days import every_day, on_days
from lakehouse_jobs.iceberg_commits import staging_branch
from lakehouse_jobs.keyed_tables import PLACES, QUARANTINE, TABLE
from lakehouse_jobs.silver_batch import Batch, SilverRun
from lakehouse_jobs.table_history import History


@dataclass(frozen=True, slots=True)
class Staged:
    """What will take the place of days of a table or its quarantine.

    `days` are those that hold rows before or after. `snapshot` holds the rows after; it is None where no row comes or
    goes, or where the swap is made already.
    """

    history: History
    days: frozenset[str]
    snapshot: int | None
    is_done: bool = False

    @property
    def after(self) -> int | None:
        """The snapshot that holds the days as they will be."""
        return self.history.head if self.snapshot is None else self.snapshot


def swap(run: SilverRun, batches: Sequence[Batch], days: DayRange) -> None:
    """Stage the days of all tables, audit them, and publish them.

    Raises:
        BadData: An audit failed. No table was changed.
        Conflict: Another run changed these days meanwhile.
    """
    due = [batch for batch in batches if not batch.is_done]
    staged = {batch.name: {place: _stage(run, batch, place) for place in PLACES} for batch in due}
    if due:
        _audit(run, due, staged, days)
    for batch in due:
        for place in (QUARANTINE, TABLE):
            _publish(run, staged[batch.name][place])
    for batch in batches:  # also of a run that crashed between its last swap and this
        for history in batch.target.histories.values():
            run.lakehouse.drop_staging(history.table, run.settings.run.id)


def _stage(run: SilverRun, batch: Batch, place: str) -> Staged:
    history = batch.target.histories[place]
    if place in batch.done:
        return Staged(history, frozenset(), None, is_done=True)
    assert batch.found is not None
    assert batch.rows is not None
    assert batch.replaced is not None
    days = batch.found.days[place]
    if history.head is not None:
        days |= run.lakehouse.stored_days(history.table, history.head) & batch.replaced
    if not days:
        return Staged(history, days, None)
    rows = keyed_tables.additions(batch.rows, place, batch.target.definition, run.audit(batch.upto))
    properties = run.properties({}, days)
    return Staged(history, days, run.lakehouse.stage(rows, history.table, on_days(days), history.head, properties))


def _publish(run: SilverRun, staged: Staged) -> None:
    """One commit. It does not say how far the table has come: that stays what it was."""
    if staged.is_done:
        return
    properties = run.properties({}, staged.days)
    if staged.snapshot is None:
        run.lakehouse.stamp(staged.history.table, properties)
        return
    run.lakehouse.publish(staged.history.table, staged.snapshot, staged.days, staged.history.head, properties)


def _audit(
    run: SilverRun, batches: Sequence[Batch], staged: Mapping[str, Mapping[str, Staged]], days: DayRange
) -> None:
    checks = [check for batch in batches for check in _table_checks(run, batch, staged[batch.name], days)]
    sources = {batch.name: staged[batch.name][TABLE].after for batch in batches}
    checks += silver_dimensions.audit(run, sources, every_day(days))
    upto = max(batch.upto for batch in batches)
    for namespace in sorted({split(check.table).namespace for check in checks}):
        own = [check for check in checks if split(check.table).namespace == namespace]
        audits.record(run, namespace, own, days, upto)
    branch = staging_branch(run.settings.run.id)
    places = (place for each in staged.values() for place in each.values() if place.snapshot is not None)
    audits.stop_if_failing(checks, {place.history.table: branch for place in places})


def _table_checks(run: SilverRun, batch: Batch, staged: Mapping[str, Staged], days: DayRange) -> Iterator[Check]:
    wanted = every_day(days)
    before = {place: _rows(run, staged[place].history, staged[place].history.head, wanted) for place in PLACES}
    after = {place: _rows(run, staged[place].history, staged[place].after, wanted) for place in PLACES}
    bronze = run.lakehouse.read(run.settings.bronze_table, batch.upto).where(on_days(wanted))
    if batch.target.definition.where is not None:
        bronze = quality.belonging(payload.parsed(bronze, run.settings.columns), batch.target.definition)
    sides = Sides(before=_together(before), after=_together(after), bronze=audits.events(bronze))
    columns = [column.name for column in batch.target.definition.columns]
    found = [
        *audits.table_checks(batch.name, sides, days.audit),
        audits.null_check(batch.name, columns, before[TABLE], after[TABLE], days.audit),
    ]
    own = staged[TABLE]
    for each in found:
        yield Check(each.table, each.name, each.passed, each.found, own.history.head, own.snapshot)


def _rows(run: SilverRun, history: History, snapshot: int | None, days: frozenset[str]) -> DataFrame:
    return run.lakehouse.read(history.table, snapshot).where(on_days(days))


def _together(places: Mapping[str, DataFrame]) -> DataFrame:
    return audits.events(places[TABLE]).unionByName(audits.events(places[QUARANTINE]))
