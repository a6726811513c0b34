"""The Iceberg tables of a batch job: what they hold now, and the few ways in which a job may change them.

Every commit names the snapshot that its writer worked from. If another run changed the table since, the commit fails
with `Conflict` and nothing is written: two overlapping runs never both succeed.

- `append` is an Iceberg overwrite whose filter matches nothing. Iceberg then checks against *any* file that was added
  since; a plain append would check nothing.
- `replace` overwrites what a filter matches and checks against files that were added within it, so that a run over
  old days and a run over new ones do not disturb each other.
- `stage` and `publish` are `replace` in two steps: the files are written on a branch, where they can be looked at, and
  then the same files take the place of what the filter matches on main, with the same check.
- `merge` writes to a branch that starts at the named snapshot and then fast-forwards main to it, which is only
  possible while main still is that snapshot. (A MERGE into main reads the table again, at a snapshot nobody named.)

Compaction changes files and no rows, so it makes no run fail: a commit that it got in the way of is made again.
"""

import json
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, IllegalArgumentException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as fn

from lakehouse_contract import commits, evolution
from lakehouse_contract.decoding import Problem, SettingsRefused
from lakehouse_contract.names import quoted_identifier, quoted_name, spark_literal, split
from lakehouse_contract.tables import Table, iceberg_partition_spec, iceberg_schema
from lakehouse_jobs import table_history
from lakehouse_jobs.day_partitions import days_of
from lakehouse_jobs.table_history import History, Snapshot

STAGED = "lakehouse_staged"
"""How the branch begins on which a run prepares a commit; the run's name follows."""
_DAY_MILLISECONDS = 86_400_000
_EPOCH = date(1970, 1, 1)
_CONFLICTS = ("ValidationException", "CommitFailedException")
_ATTEMPTS = 4
"""How often a commit is tried that only compaction gets in the way of."""
_PROPERTY_OPTION = "snapshot-property."
_PROPERTY_CONF = "spark.sql.iceberg.snapshot-property."


class Conflict(Exception):
    """Another run changed the table while this one worked. Nothing was written; run again."""


class Missing(Exception):
    """A table that the job reads is not there (yet)."""


class Lakehouse:
    """The tables of one catalog, through one Spark session."""

    def __init__(self, spark: SparkSession, catalog: str) -> None:
        self.spark = spark
        self.catalog = catalog
        self._jvm: Any = spark._jvm

    def identifier(self, table: str) -> str:
        """The full, quoted name of a table for Spark SQL."""
        return quoted_name(self.catalog, *table.split("."))

    def history(self, table: str) -> History:
        """What the table's metadata say now.

        Raises:
            Missing: There is no such table.
        """
        loaded = self.loaded(table)
        text = self._jvm.org.apache.iceberg.TableMetadataParser.toJson(loaded.operations().current())
        return table_history.from_metadata(table, text)

    def find(self, table: str) -> History | None:
        """What the table's metadata say now, or None if there is no such table."""
        try:
            return self.history(table)
        except Missing:
            return None

    def read(self, table: str, snapshot: int | None) -> DataFrame:
        """The rows of a table at a snapshot, in its present columns; none for a table that was never written."""
        if snapshot is None:
            return self.spark.read.table(self.identifier(table)).limit(0)
        rows = self.spark.read.option("versionAsOf", snapshot).table(self.identifier(table))
        loaded = self._load(table)
        if loaded is None or loaded.snapshot(snapshot).schemaId() == loaded.schema().schemaId():
            return rows
        # Iceberg reads a snapshot in the columns of its time. What is the same passes as it is (`sql_models` looks).
        then = dict(_columns(rows))
        return rows.select(
            *(
                fn.col(each.name)
                if then.get(each.name) == each.dataType.simpleString()
                else (fn.col(each.name) if each.name in then else fn.lit(None)).cast(each.dataType).alias(each.name)
                for each in self.spark.read.table(self.identifier(table)).schema.fields
            )
        )

    def few_rows(self, schema: str, rows: Sequence[Sequence[Any]]) -> DataFrame:
        """A few rows that the driver knows, in one partition and without a Python worker.

        Args:
            schema: The columns' names and Spark types, as in DDL.
            rows: The values of each row, in that order, as JSON has them: no instants and no bytes.
        """
        names = [part.split()[0] for part in schema.split(", ")]
        text = json.dumps([dict(zip(names, row, strict=True)) for row in rows])
        read = fn.from_json(fn.lit(text), f"array<struct<{schema}>>", {"mode": "FAILFAST"})
        return self.spark.range(0, 1, 1, 1).select(fn.inline(read))

    def read_appended(self, table: str, after: int, upto: int) -> DataFrame:
        """The rows that appends added in `(after, upto]`. Compaction in between is ignored."""
        return (
            self.spark.read.option("start-snapshot-id", after)
            .option("end-snapshot-id", upto)
            .table(self.identifier(table))
        )

    def appended_days(self, table: str, after: int, upto: int) -> frozenset[str]:
        """The days of the files that appends added in `(after, upto]` to a table partitioned by day."""
        scan = self._load(table).newIncrementalAppendScan().fromSnapshotExclusive(after).toSnapshot(upto)
        return self._days(scan)

    def stored_days(self, table: str, snapshot: int) -> frozenset[str]:
        """The days of the files of a table partitioned by day, at a snapshot."""
        return self._days(self._load(table).newScan().useSnapshot(snapshot))

    def partition_days(self, table: str, snapshot: int | None) -> frozenset[str] | None:
        """The days on which a table has rows at a snapshot; None if it is not partitioned by day."""
        if snapshot is None or days_of(self.loaded(table)) is None:
            return None
        return self.stored_days(table, snapshot)

    def changed_days(self, table: str, snapshots: Sequence[Snapshot]) -> frozenset[str] | None:
        """The event days that commits changed: as stamped, else by the partitions of their files; None if unknown."""
        days: set[str] = set()
        for snapshot in snapshots:
            if snapshot.keeps_rows:
                continue
            touched = snapshot.touched_days
            if touched is None and commits.TOUCHED_DAYS not in snapshot.summary:
                touched = self._partition_days(table, snapshot.id)
            if touched is None:
                return None
            days |= touched
        return frozenset(days)

    def _partition_days(self, table: str, snapshot: int) -> frozenset[str] | None:
        loaded = self._load(table)
        fields = [field.transform().toString() for field in loaded.spec().fields()]
        if fields != ["day"]:
            return None
        written, io = loaded.snapshot(snapshot), loaded.io()
        changed = (
            written.addedDataFiles(io), written.removedDataFiles(io),
            written.addedDeleteFiles(io), written.removedDeleteFiles(io),
        )  # fmt: skip
        return _iso(_day_of(file, self._jvm) for files in changed for file in _each(files.iterator()))

    def ensure(self, table: Table) -> History:
        """Create the table and its namespace if they are not there; add columns that it lacks, widen narrower ones.

        Raises:
            SettingsRefused: A table of that name has columns that it can't follow (`evolution`), or other partitions.
            Conflict: Another run changed the table meanwhile.
        """
        found = self.find(table.name)
        if found is None:
            self._create(table)
            return self.history(table.name)
        declared = {column.name: column.type for column in table.columns}
        wrong = [each.message for each in evolution.refusals(table.name, found.columns, declared)]
        if found.partitions != tuple(partition.name for partition in table.partitions):
            wrong.append(
                f"{table.name} is there already, partitioned by {', '.join(found.partitions) or 'nothing'}: "
                "name another table, or move that one away"
            )
        if wrong:
            raise SettingsRefused(tuple(Problem("", text) for text in wrong))
        if all(found.columns.get(name) == kind for name, kind in declared.items()):
            return found
        update = self._load(table.name).updateSchema()
        types = {field["name"]: field["type"] for field in json.loads(iceberg_schema(table))["fields"]}
        for column in table.columns:
            wanted = self._iceberg_type(types[column.name])
            if column.name not in found.columns:
                update = update.addColumn(column.name, wanted, column.meaning)
            elif found.columns[column.name] != column.type:
                update = update.updateColumn(column.name, wanted)
        with conflicts(table.name):
            update.commit()
        return self.history(table.name)

    def append(self, rows: DataFrame, table: str, expected: int | None, properties: Mapping[str, str]) -> None:
        """Add rows to a table that is still at the snapshot `expected`.

        Raises:
            Conflict: Another run added rows since.
        """
        self.replace(rows, table, fn.lit(False), expected, properties)

    def replace(
        self, rows: DataFrame, table: str, where: Column, expected: int | None, properties: Mapping[str, str]
    ) -> None:
        """Replace the rows that `where` matches with `rows`, in one commit. `where` must match whole files.

        Raises:
            Conflict: Another run added or removed matching rows since the snapshot `expected`.
        """

        def commit(since: int | None) -> None:
            writer = rows.writeTo(self.identifier(table)).option("isolation-level", "serializable")
            if since is not None:
                writer = writer.option("validate-from-snapshot-id", str(since))
            for key, value in properties.items():
                writer = writer.option(_PROPERTY_OPTION + key, value)
            with conflicts(table):
                writer.overwrite(where)

        self._despite_compaction(table, expected, commit)

    def stage(
        self, rows: DataFrame, table: str, where: Column, expected: int | None, properties: Mapping[str, str]
    ) -> int:
        """Replace the rows that `where` matches on a branch of the run's own that starts at the snapshot `expected`.

        Returns:
            The snapshot on the branch, whose files `publish` takes to main.

        Raises:
            Conflict: Another process of the same run uses the branch.
        """
        branch, attempt = staging_branch(properties[commits.RUN]), uuid.uuid4().hex
        self._stage(table, branch, expected)
        writer = rows.writeTo(f"{self.identifier(table)}.{quoted_identifier('branch_' + branch)}")
        for key, value in {**properties, commits.STAGED: attempt}.items():
            writer = writer.option(_PROPERTY_OPTION + key, value)
        with conflicts(table):
            writer.overwrite(where)
        history = self.history(table)
        ref = history.refs.get(branch)
        if ref is None or history.snapshots[ref.snapshot].summary.get(commits.STAGED) != attempt:
            raise Conflict(f"another process of the same run stages {table}")
        return ref.snapshot

    def publish(
        self, table: str, staged: int, days: Iterable[str] | None, expected: int | None, properties: Mapping[str, str]
    ) -> None:
        """Put the files of a staged snapshot in the place of the rows of whole days on main, in one commit.

        Main may have moved on since `expected` on other days. Without days all rows are replaced.

        Raises:
            Conflict: Another run added or removed rows of these days since.
        """
        matching = self._matching(table, days)

        def commit(since: int | None) -> None:
            loaded = self._load(table)
            if loaded.snapshot(staged) is None:
                raise Conflict(f"what was staged for {table} is gone: snapshot {staged}")
            overwrite = loaded.newOverwrite().overwriteByRowFilter(matching)
            added = list(_each(loaded.snapshot(staged).addedDataFiles(loaded.io()).iterator()))
            for file in added:
                overwrite = overwrite.addFile(file)
            if added:  # Iceberg can't tell the partitions of no files
                overwrite = overwrite.validateAddedFilesMatchOverwriteFilter()
            if since is not None:
                overwrite = overwrite.validateFromSnapshot(since)
            overwrite = overwrite.conflictDetectionFilter(matching).validateNoConflictingData()
            overwrite = overwrite.validateNoConflictingDeletes()
            for key, value in properties.items():
                overwrite = overwrite.set(key, value)
            with conflicts(table):
                overwrite.commit()

        self._despite_compaction(table, expected, commit)

    def _matching(self, table: str, days: Iterable[str] | None) -> Any:
        """Iceberg's expression for the rows of whole days of a table, or for all of them."""
        if days is None:
            return self._jvm.org.apache.iceberg.expressions.Expressions.alwaysTrue()
        partitions = days_of(self.loaded(table))
        if partitions is None:
            raise ValueError(f"{table} is not partitioned by day")
        return partitions.within(self._jvm, days)

    def drop_staging(self, table: str, run: str) -> None:
        """Remove the branch that a run staged on, if it is there."""
        branch = staging_branch(run)
        loaded = self._load(table)
        if loaded.refs().containsKey(branch):
            with conflicts(table):
                loaded.manageSnapshots().removeBranch(branch).commit()

    def _despite_compaction(self, table: str, expected: int | None, commit: Callable[[int | None], None]) -> None:
        """Make a commit that was computed from the snapshot `expected`; again, where only compaction came in between.

        The rows are the same then, so what was computed is still right.
        """
        for _ in range(_ATTEMPTS - 1):
            try:
                return commit(expected)
            except Conflict:
                expected = self._compacted_since(table, expected)
                if expected is None:
                    raise
        return commit(expected)

    def _compacted_since(self, table: str, snapshot: int | None) -> int | None:
        """Main's snapshot, if it grew from the given one by compaction alone."""
        history = self.history(table)
        if snapshot is None or history.head is None:
            return None
        steps = history.between(snapshot, history.head)
        return history.head if steps and all(step.keeps_rows for step in steps) else None

    def has_columns(self, table: str, rows: DataFrame, partitions: Sequence[str]) -> bool:
        """Whether a table has just these columns, in this order, and is partitioned by these values."""
        there = self.spark.read.table(self.identifier(table))
        return self.history(table).partitions == tuple(partitions) and _columns(there) == _columns(rows)

    def left_behind(self, table: str, rows: DataFrame) -> tuple[str, ...]:
        """Why a table can't take rows of these columns beside those that it holds (`evolution`); nothing if it can."""
        old, new = (dict(_columns(each)) for each in (self.spark.read.table(self.identifier(table)), rows))
        found = evolution.refusals(table, _in_our_words(old), _in_our_words(new))
        return tuple(each.message for each in found)

    def follow(self, table: str, rows: DataFrame) -> None:
        """Add the columns of `rows` that a table lacks, and widen narrower ones, without touching a file."""
        there = dict(_columns(self.spark.read.table(self.identifier(table))))
        spark = self._jvm.org.apache.iceberg.spark.SparkSchemaUtil
        update, changes = self._load(table).updateSchema(), False
        for field in rows.schema.fields:
            kind = field.dataType.simpleString()
            if there.get(field.name) == kind:
                continue
            wanted = spark.convert(rows.select(field.name)._jdf.schema()).columns().get(0).type()
            changes = True
            update = (
                update.updateColumn(field.name, wanted) if field.name in there else update.addColumn(field.name, wanted)
            )
        if changes:
            with conflicts(table):
                update.commit()

    def create(
        self,
        rows: DataFrame,
        table: str,
        partitions: Sequence[str],
        table_properties: Mapping[str, str],
        properties: Mapping[str, str],
        *,
        replace: bool,
    ) -> None:
        """Create a table with its rows in one commit, or replace the definition and the rows of the one that is there.

        Raises:
            Conflict: It is there by now, and was to be created.
        """
        writer = rows.writeTo(self.identifier(table)).using("iceberg")
        if partitions:
            writer = writer.partitionedBy(*(fn.col(name) for name in partitions))
        for key, value in table_properties.items():
            writer = writer.tableProperty(key, value)
        with self._stamped(properties), conflicts(table):
            try:
                writer.createOrReplace() if replace else writer.create()
            except AnalysisException as error:
                if error.getCondition() == "TABLE_OR_VIEW_ALREADY_EXISTS":
                    raise Conflict(f"another run created {table} meanwhile") from None
                raise

    def merge(
        self,
        changes: DataFrame,
        table: str,
        expected: int,
        properties: Mapping[str, str],
        *,
        key: str,
        operation: str,
    ) -> None:
        """Apply changes to a table that is still at the snapshot `expected`, in one commit on main.

        Args:
            changes: The table's columns and `operation`: `D` deletes the row with that key, anything else updates it,
                or inserts it where there is none. It is read more than once, so it must be persisted.
            table: Which table.
            expected: The snapshot that the changes were computed from.
            properties: Properties of the new snapshot.
            key: The column that identifies a row.
            operation: The name of the operation column.

        Raises:
            Conflict: Main moved on since.
        """
        branch = staging_branch(properties[commits.RUN])
        view = "lakehouse_changes"
        changes.createOrReplaceTempView(view)
        name, target = quoted_identifier(key), f"{self.identifier(table)}.branch_{branch}"

        def commit(since: int | None) -> None:
            assert since is not None
            self._stage(table, branch, since)
            with self._stamped(properties):
                self.spark.sql(
                    f"MERGE INTO {target} t USING {view} s ON t.{name} = s.{name} "
                    f"WHEN MATCHED AND s.{quoted_identifier(operation)} = 'D' THEN DELETE "
                    "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
                )
            with conflicts(table):
                self._publish(table, branch)

        try:
            self._despite_compaction(table, expected, commit)
        finally:
            self.spark.catalog.dropTempView(view)

    def upsert(
        self, rows: DataFrame, table: str, *, scope: tuple[str, str], key: Sequence[str], properties: Mapping[str, str]
    ) -> None:
        """Add rows, or update those with the same key, within the rows whose column `scope[0]` is `scope[1]`."""
        column, value = scope
        if not self._may_hold(table, column, value):
            writer = rows.writeTo(self.identifier(table))
            for name, text in properties.items():
                writer = writer.option(_PROPERTY_OPTION + name, text)
            writer.append()
            return
        same = [f"t.{quoted_identifier(column)} = {spark_literal(value)}"]
        same += [f"t.{quoted_identifier(name)} = s.{quoted_identifier(name)}" for name in key]
        view = "lakehouse_upserts"
        rows.createOrReplaceTempView(view)

        def commit(_: int | None) -> None:
            with self._stamped(properties), conflicts(table):
                self.spark.sql(
                    f"MERGE INTO {self.identifier(table)} t USING {view} s ON {' AND '.join(same)} "
                    "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
                )

        try:
            self._despite_compaction(table, self.history(table).head, commit)
        finally:
            self.spark.catalog.dropTempView(view)

    def entries(self, table: str, snapshot: int) -> DataFrame:
        """The files of a table at a snapshot, with the snapshot that each came with (Iceberg's table `entries`)."""
        name = f"{self.identifier(table)}.entries"
        return self.spark.read.option("versionAsOf", snapshot).table(name)

    def _may_hold(self, table: str, column: str, value: str) -> bool:
        """Whether a file may hold such a row, by the files' statistics; no data is read."""
        expression = self._jvm.org.apache.iceberg.expressions.Expressions.equal(column, value)
        tasks = self._load(table).newScan().filter(expression).planFiles()
        try:
            return bool(tasks.iterator().hasNext())
        finally:
            tasks.close()

    def stamp(self, table: str, properties: Mapping[str, str]) -> None:
        """Add an empty snapshot with properties: a run that found nothing to write says so."""
        append = self._load(table).newAppend()
        for key, value in properties.items():
            append = append.set(key, value)
        with conflicts(table):
            append.commit()

    def tag(self, table: str, name: str, snapshot: int, keep_days: int) -> None:
        """Name a snapshot, or move that name to it, so that expiry keeps it for a while."""
        manage = self._load(table).manageSnapshots()
        there = self.history(table).tags
        manage = manage.replaceTag(name, snapshot) if name in there else manage.createTag(name, snapshot)
        manage.setMaxRefAgeMs(name, self._age_in(table, snapshot, keep_days)).commit()

    def _stage(self, table: str, branch: str, snapshot: int | None) -> None:
        """Begin a branch at a snapshot, in the place of what the same run may have left behind when it crashed.

        Without a snapshot, of a table that was never written, it begins with an empty one.
        """
        loaded = self._load(table)
        there = loaded.refs().containsKey(branch)
        if snapshot is None:
            if there:
                loaded.manageSnapshots().removeBranch(branch).commit()
            self._load(table).manageSnapshots().createBranch(branch).commit()
            empty = int(self._load(table).refs().get(branch).snapshotId())
            age = self._age_in(table, empty, 1)
            self._load(table).manageSnapshots().setMaxRefAgeMs(branch, age).commit()
            return
        manage = loaded.manageSnapshots()
        manage = manage.replaceBranch(branch, snapshot) if there else manage.createBranch(branch, snapshot)
        # Expiry takes what no run comes back for.
        manage.setMaxRefAgeMs(branch, self._age_in(table, snapshot, 1)).commit()

    def _age_in(self, table: str, snapshot: int, days: int) -> int:
        """The age that a tag or branch at a snapshot will have some days from now, in milliseconds.

        Iceberg counts it from the commit of the snapshot. A table that did not change for a month would lose a new tag,
        or a branch that a run is just writing to, with the next expiry.
        """
        return self._now() - int(self._load(table).snapshot(snapshot).timestampMillis()) + days * _DAY_MILLISECONDS

    def _now(self) -> int:
        """The instant by Iceberg's clock, in milliseconds since 1970."""
        return int(self._jvm.java.lang.System.currentTimeMillis())

    def _publish(self, table: str, branch: str) -> None:
        try:
            self._load(table).manageSnapshots().fastForwardBranch("main", branch).removeBranch(branch).commit()
        except IllegalArgumentException as error:  # main is no ancestor of the branch, or the branch is gone
            raise Conflict(f"another run changed {table} meanwhile: {error}") from None

    @contextmanager
    def _stamped(self, properties: Mapping[str, str]) -> Iterator[None]:
        """SQL has no place for snapshot properties but the session, so they must not stay there."""
        try:
            for key, value in properties.items():
                self.spark.conf.set(_PROPERTY_CONF + key, value)
            yield
        finally:
            for key in properties:
                self.spark.conf.unset(_PROPERTY_CONF + key)

    def loaded(self, table: str) -> Any:
        """The table as Iceberg's own Java object, as it is now.

        Raises:
            Missing: There is no such table.
        """
        found = self._load(table)
        if found is None:
            raise Missing(f"{table} does not exist yet")
        return found

    def _load(self, table: str) -> Any:
        try:
            return self._jvm.org.apache.iceberg.spark.Spark3Util.loadIcebergTable(
                self.spark._jsparkSession, f"{self.catalog}.{table}"
            )
        except AnalysisException as error:
            if error.getCondition() in {"TABLE_OR_VIEW_NOT_FOUND", "SCHEMA_NOT_FOUND"}:
                return None
            raise

    def _create(self, table: Table) -> None:
        iceberg = self._jvm.org.apache.iceberg
        schema = iceberg.SchemaParser.fromJson(iceberg_schema(table))
        partitions = iceberg.PartitionSpecParser.fromJson(schema, iceberg_partition_spec(table))
        self.ensure_namespace(split(table.name).namespace)
        properties = self._jvm.java.util.HashMap()
        for key, value in table.properties.items():
            properties.put(key, value)
        builder = self._iceberg_catalog().buildTable(iceberg.catalog.TableIdentifier.parse(table.name), schema)
        try:
            builder.withPartitionSpec(partitions).withProperties(properties).create()
        except Py4JJavaError as error:
            if error.java_exception.getClass().getSimpleName() != "AlreadyExistsException":
                raise

    def ensure_namespace(self, namespace: str) -> None:
        """Create a namespace if it is not there."""
        self.spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {quoted_name(self.catalog, namespace)}")

    def _iceberg_catalog(self) -> Any:
        return self._jvm.org.apache.iceberg.spark.Spark3Util.loadIcebergCatalog(self.spark._jsparkSession, self.catalog)

    def _iceberg_type(self, field_type: Any) -> Any:
        schema = {
            "type": "struct",
            "schema-id": 0,
            "fields": [{"id": 1, "name": "x", "required": False, "type": field_type}],
        }
        return self._jvm.org.apache.iceberg.SchemaParser.fromJson(json.dumps(schema)).findType("x")

    def _days(self, scan: Any) -> frozenset[str]:
        tasks = scan.planFiles()
        try:
            return _iso(_day_of(task.file(), self._jvm) for task in _each(tasks.iterator()))
        finally:
            tasks.close()


def staging_branch(run: str) -> str:
    """The branch on which a run prepares what it publishes later."""
    return f"{STAGED}_{re.sub('[^a-z0-9]', '_', run)}"


def _columns(rows: DataFrame) -> list[tuple[str, str]]:
    return [(field.name, field.dataType.simpleString()) for field in rows.schema.fields]


def _in_our_words(columns: Mapping[str, str]) -> dict[str, str]:
    return {name: {"bigint": "long"}.get(kind, kind) for name, kind in columns.items()}


def _each(iterator: Any) -> Iterator[Any]:
    while iterator.hasNext():
        yield iterator.next()


def _day_of(file: Any, jvm: Any) -> int:
    """The day partition of a file, in days since 1970."""
    return int(file.partition().get(0, jvm.java.lang.Class.forName("java.lang.Integer")))


def _iso(days: Iterator[int]) -> frozenset[str]:
    return frozenset((_EPOCH + timedelta(days=day)).isoformat() for day in set(days))


@contextmanager
def conflicts(table: str) -> Iterator[None]:
    """Tell a conflict from every other failure of a commit."""
    try:
        yield
    except Py4JJavaError as error:
        if _root(error.java_exception) in _CONFLICTS:
            raise Conflict(f"another run changed {table} meanwhile: {error.java_exception.getMessage()}") from None
        raise


def _root(exception: Any) -> str:
    while exception.getClass().getSimpleName() not in _CONFLICTS and exception.getCause() is not None:
        exception = exception.getCause()
    return str(exception.getClass().getSimpleName())
