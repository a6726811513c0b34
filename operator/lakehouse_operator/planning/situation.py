"""What decisions about a stream look at and what they answer: a situation, and a step."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal, Self

from lakehouse_contract import commits
from lakehouse_operator.api import GROUP
from lakehouse_operator.api.pipeline import Upgrade
from lakehouse_operator.api.pipeline_status import StreamState
from lakehouse_operator.api.values import seconds
from lakehouse_operator.planning.names import REVISION_ANNOTATION
from lakehouse_operator.planning.observed import Commit, Observed, Stream, TableView
from lakehouse_operator.planning.pipeline import ValidPipeline
from lakehouse_operator.planning.plan import Action, Announce, Hold
from lakehouse_operator.planning.record import (
    KafkaOffset,
    Launch,
    Operation,
    OperationKind,
    Record,
    Revision,
    Stage,
)
from lakehouse_operator.planning.schedule import instant, parse_instant

START_TIMEOUT = timedelta(minutes=10)
"""How long a started job may take until it runs. A JobManager with little CPU takes minutes."""
_JOB = commits.FLINK_JOB_ID
POLL = timedelta(seconds=15)
"""When to look again while the Flink operator works, if none of its events rings before."""
REST = timedelta(minutes=5)
"""When to look again while nothing is going on."""
AWAITED = timedelta(minutes=1)
"""When to look again at what did not answer."""

SAVEPOINT_ANNOTATION = f"{GROUP}/savepoint"
"""Ask for a savepoint: any token that was not used before."""
RESTORE_ANNOTATION = f"{GROUP}/restore"
"""Go back to a recovery point: its name, and after a slash, if it must be done once more, any token."""
RESTORE_ANYWAY_ANNOTATION = f"{GROUP}/restore-anyway"
"""Accept what a restore said would be lost: the name of the point."""
FORGET_ANNOTATION = f"{GROUP}/forget"
"""Give a recovery point up: its name, and after a slash any token."""
START_FRESH_ANNOTATION = f"{GROUP}/start-fresh"
"""Start without state, once: any token."""
RETRY_ANNOTATION = f"{GROUP}/retry"
"""Try again what was given up, once: any token."""
ACCEPT_LOSS_ANNOTATION = f"{GROUP}/accept-loss"
"""Know of what SourceIntact and DeadLettersComplete say is missing, and let them be true again: any token."""
FORCE_DELETE_ANNOTATION = f"{GROUP}/force-delete"
"""`true`: let a deletion go on at once, whatever is lost."""

_ENDED = ("FAILED", "CANCELED", "FINISHED")
_MANUAL_RESTORE = ("Manual restore required.", "HA metadata is not available")
_UNSETTLED = ("CREATED", "UPGRADING", "ROLLING_BACK", "SUSPENDED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """A valid pipeline, what was seen of it, its record as far as it is decided, and the definition that is wanted."""

    pipeline: ValidPipeline
    seen: Observed
    record: Record
    wanted: Revision

    def but(self, **changes: object) -> Self:
        """This situation with fields of the record changed."""
        return replace(self, record=replace(self.record, **changes))  # type: ignore[arg-type]

    # --- time and policy ----------------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        return self.seen.now

    @property
    def stamp(self) -> str:
        """Now, as it is written down."""
        return instant(self.seen.now)

    def since(self, moment: str) -> timedelta:
        """How long ago something was that was written down."""
        return self.seen.now - parse_instant(moment)

    @property
    def upgrade(self) -> Upgrade:
        return self.pipeline.spec.bronze.upgrade

    @property
    def checkpoint_interval(self) -> timedelta:
        return timedelta(seconds=seconds(self.pipeline.spec.bronze.checkpoint.interval))

    @property
    def savepoint_timeout(self) -> timedelta:
        return timedelta(seconds=seconds(self.upgrade.savepoint_timeout))

    @property
    def deleting(self) -> bool:
        """Whether the pipeline is being deleted."""
        return self.seen.pipeline.deleting_since is not None

    @property
    def should_rest(self) -> bool:
        """Whether the stream should be stopped."""
        return self.pipeline.spec.suspend or self.deleting

    def request(self, annotation: str) -> str | None:
        """A request by annotation that was not carried out yet."""
        token = self.seen.pipeline.annotations.get(annotation)
        return token if token and not self.record.has_handled(annotation, token) else None

    # --- the child ----------------------------------------------------------------------------------------------------

    @property
    def child(self) -> Stream | None:
        return self.seen.stream

    @property
    def child_is_ours(self) -> bool:
        """Whether the child is one of ours: of this pipeline, or of one of this name before it."""
        return self.child is not None and REVISION_ANNOTATION in self.child.annotations

    @property
    def never_deployed(self) -> bool:
        """Whether the child exists and the Flink operator has never deployed anything for it."""
        child = self.child
        return child is not None and child.lifecycle_state in (None, "CREATED") and child.job_id is None

    @property
    def stopped(self) -> bool:
        """Whether the child is stopped for good: nothing runs, and the Flink operator is done with it."""
        child = self.child
        if child is None or child.deleting or child.desired_state != "suspended":
            return False
        return self.never_deployed or (child.lifecycle_state == "SUSPENDED" and child.settled)

    @property
    def running(self) -> bool:
        """Whether the job runs, and runs what was deployed."""
        child, deployed = self.child, self.record.deployed
        if child is None or child.deleting or deployed is None:
            return False
        return (
            child.desired_state == "running"
            and child.settled
            and child.lifecycle_state in ("DEPLOYED", "STABLE", "ROLLED_BACK")
            and child.job_manager == "READY"
            and child.job_state == "RUNNING"
            and child.annotations.get(REVISION_ANNOTATION) == deployed.id
        )

    @property
    def given_up(self) -> bool:
        """Whether the job should run and Flink won't start it again by itself."""
        child = self.child
        if child is None or child.desired_state != "running" or not child.settled:
            return False
        if child.lifecycle_state in (None, *_UNSETTLED):
            return False
        return child.lifecycle_state == "FAILED" or child.job_state in _ENDED

    @property
    def cannot_be_running(self) -> bool:
        """Whether it is certain that no job runs, though one should: it ended, or its JobManager is not there."""
        child = self.child
        return child is None or self.given_up or self.never_deployed or child.job_manager in ("ERROR", "MISSING")

    @property
    def never_ran(self) -> bool:
        """Whether nothing of the child can have run since it was launched, so that there is nothing to stop.

        Of a job that may be running it is no use to have seen that it has no state: it may have some by now.
        """
        if self.never_deployed:
            return True
        has_state = self.child is not None and self.child.checkpoint_in_metadata is True
        return self.cannot_be_running and (self.nothing_to_lose or not (self.launch.ran or has_state))

    @property
    def left_a_checkpoint(self) -> bool:
        """Whether Flink gave the job up and left its last checkpoint: asked to stop it, its operator names that one."""
        return self.given_up and self.child is not None and self.child.savepoint_path is not None

    @property
    def has_unknown_savepoint(self) -> bool:
        """Whether the child names a savepoint or checkpoint that is neither on record nor what it was started from.

        So the job has run since: another hand stopped it, or Flink gave it up and left its last checkpoint.
        """
        path = self.child.savepoint_path if self.child else None
        known = {self.launch.point, *(point.path for point in self.record.points)}
        return path is not None and path not in known

    @property
    def flink_has_state(self) -> bool:
        """Whether the stream's newest state is with Flink: in its metadata, or a last checkpoint that a job has left.

        Mode last-state on a job that has not restored its savepoint yet would start it empty.
        """
        child = self.child
        if child is None:
            return False
        if self.given_up and child.savepoint_path not in (None, self.launch.point):
            return True
        return self.launch.ran if child.checkpoint_in_metadata is None else child.checkpoint_in_metadata

    @property
    def needs_manual_restore(self) -> bool:
        """Whether the Flink operator says that it knows no state to go on from."""
        error = self.child.error if self.child else None
        return error is not None and any(text in error for text in _MANUAL_RESTORE)

    def annotate(self, annotation: str, value: str = "$(date +%s)") -> str:
        """The command that makes a request by annotation. It never holds the present: messages change on news only."""
        return f"kubectl annotate --overwrite lhp {self.pipeline.name} {annotation}={value}"

    # --- bronze -------------------------------------------------------------------------------------------------------

    @property
    def observes_tables(self) -> bool:
        return self.seen.observation.tables is not None

    @property
    def proof_is_awaited(self) -> bool:
        """Whether recovery points could be proven, were it not that the catalog or the store does not answer now."""
        seen = self.seen.observation
        return seen.interrupted and (seen.tables is None or seen.savepoints is None)

    @property
    def bronze(self) -> TableView | None:
        """The bronze table as it was seen; None where it was not, or where there is none yet."""
        return (self.seen.observation.tables or {}).get(self.pipeline.bronze_table)

    @property
    def flink_commits(self) -> tuple[Commit, ...]:
        """What the stream has committed to bronze, oldest first."""
        bronze = self.bronze
        return tuple(commit for commit in bronze.commits if commits.FLINK_JOB_ID in commit.properties) if bronze else ()

    @property
    def last_commit(self) -> Commit | None:
        """The newest commit of the job that is deployed now, since it was started.

        The id alone does not tell: the Flink operator 1.7.0 gives it to the next job of a FlinkDeployment, too.
        """
        own = [c for c in self._commits_since_start if self.child and self.child.job_id == c.properties[_JOB]]
        return own[-1] if own else None

    @property
    def _commits_since_start(self) -> tuple[Commit, ...]:
        """What the stream has committed since the snapshot of the point that it was started from; all, where there is
        no such point, or its snapshot is older than what is seen.
        """
        point = next((each for each in self.record.points if each.path == self.launch.point), None)
        known = self.bronze.commits if self.bronze else ()
        after = point.bronze_snapshot if point is not None and point.resolved else None
        begin = next((number for number, each in enumerate(known, 1) if each.id == after), 0)
        return tuple(commit for commit in known[begin:] if _JOB in commit.properties)

    @property
    def lag(self) -> int | None:
        """How many records Kafka holds that bronze does not; None where that is not observed."""
        kafka = self.seen.observation.kafka
        return None if kafka is None else sum(max(part.end - max(part.committed, part.start), 0) for part in kafka)

    @property
    def kafka_offsets(self) -> tuple[KafkaOffset, ...]:
        """The offsets that are committed now, where they are observed."""
        return tuple(KafkaOffset(part.partition, part.committed) for part in self.seen.observation.kafka or ())

    @property
    def nothing_to_lose(self) -> bool:
        """Whether it is seen that the stream has no state worth keeping.

        Either bronze has no commit and Kafka no committed offset of it; or it was started without state, failed, and
        its JobManager, which is asked for the last checkpoint then, knew of none.
        """
        child, launch, kafka = self.child, self.launch, self.seen.observation.kafka
        empty = self.observes_tables and not self.flink_commits
        unread = kafka is not None and all(part.committed <= part.start for part in kafka)
        if empty and unread:
            return True
        failed = child is not None and self.given_up and child.job_state == "FAILED" and child.job_manager == "READY"
        without = child is not None and child.savepoint_path is None and child.checkpoint_in_metadata is not True
        return failed and without and launch.mode == "stateless" and not self.record.points

    # --- writing down -------------------------------------------------------------------------------------------------

    def begin(self, kind: OperationKind, stage: Stage, target: Revision | None, **more: object) -> Self:
        """Write an operation down, before anything of it is done."""
        deployed = self.record.deployed
        operation = Operation(
            id=f"{kind}-{target.id if target else 'none'}-{self.now.strftime('%Y%m%d%H%M%S')}",
            kind=kind,
            stage=stage,
            began=self.stamp,
            since=self.stamp,
            from_revision=deployed.id if deployed else None,
            target=target.id if target else None,
        )
        return self.but(operation=replace(operation, **more))  # type: ignore[arg-type]

    def enter(self, stage: Stage, **more: object) -> Self:
        """Let the operation enter its next stage."""
        operation = self.operation
        return self.but(operation=replace(operation, stage=stage, since=self.stamp, **more))  # type: ignore[arg-type]

    @property
    def operation(self) -> Operation:
        """The operation that is under way.

        Raises:
            LookupError: There is none.
        """
        if self.record.operation is None:
            raise LookupError("no operation is under way")
        return self.record.operation

    @property
    def launch(self) -> Launch:
        """How the stream was started last; a launch of nothing if it never was."""
        return self.record.launch or Launch(at=self.stamp, mode="stateless")


ChildState = Literal["running", "suspended", "leave"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What follows from a situation: the record as it should stand, what to do, and what to say.

    `before` is done before the record is written (a point is proven only once its tag stands), `after` follows it, then
    the child is made to be `running` or `suspended`, or left alone.
    """

    situation: Situation
    state: StreamState
    child: ChildState = "leave"
    stop: Literal["savepoint", "last-state"] | None = None
    before: tuple[Action, ...] = ()
    after: tuple[Action, ...] = ()
    news: tuple[Announce, ...] = ()
    holds: tuple[Hold, ...] = ()
    recheck: timedelta = field(default=REST)

    @property
    def record(self) -> Record:
        return self.situation.record

    def telling(self, kind: Literal["Normal", "Warning"], reason: str, message: str) -> Self:
        """This step with an event."""
        return replace(self, news=(*self.news, Announce(kind, reason, message)))
