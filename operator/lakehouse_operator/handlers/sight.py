"""What the operator sees of a pipeline outside the API server, under rights that were opted into."""

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from pyiceberg.catalog import Catalog

from lakehouse_contract.settings import BronzeSettings
from lakehouse_operator.cluster.errors import ClusterError, Throttled, Unavailable
from lakehouse_operator.cluster.kinds import SECRET
from lakehouse_operator.cluster.port import Cluster
from lakehouse_operator.handlers.bells import Key
from lakehouse_operator.handlers.threads import in_a_thread
from lakehouse_operator.observation.clients import Clients
from lakehouse_operator.observation.endpoints import endpoints, refused
from lakehouse_operator.observation.observe import Look, Observer
from lakehouse_operator.planning import ledger, names, secrets
from lakehouse_operator.planning.acceptance import accept
from lakehouse_operator.planning.batch import wanted_boundaries
from lakehouse_operator.planning.job_settings import bronze_settings
from lakehouse_operator.planning.observed import Observation, Observed
from lakehouse_operator.planning.pipeline import SilverTables, ValidPipeline
from lakehouse_operator.planning.validate import Judge, validate
from lakehouse_operator.tables.move import MoveRefused, drop_tag, roll_back, tag_snapshot

T = TypeVar("T")
_log = logging.getLogger(__name__)


class _SecretUnreadable(Exception):
    """A value in a Secret is no text; the message names its key."""


def _rest_service(namespace: str, name: str) -> str:
    """The Service that Flink makes for a JobManager."""
    return f"http://{name}-rest.{namespace}:8081"


@dataclass(slots=True)
class Sight:
    """Observers, one per pipeline.

    Attributes:
        cluster: where Secrets are read from.
        allowed: `host:port` patterns that may be talked to. Without any, nothing is observed.
        rest_url: where the JobManager of a FlinkDeployment answers, by namespace and name; empty if nowhere.
        seconds: how long a look, or a move of a table, may take. One that takes longer is not waited for.
    """

    cluster: Cluster
    allowed: tuple[str, ...] = ()
    rest_url: Callable[[str, str], str] = _rest_service
    seconds: float = 30.0
    _clients: Clients = field(default_factory=Clients)
    _observers: dict[Key, Observer] = field(default_factory=dict)
    _looks: dict[Key, Look] = field(default_factory=dict)
    _under_way: "dict[Key, tuple[Look, Future[Any]]]" = field(default_factory=dict)

    async def observe(self, seen: Observed, judge: Judge = validate) -> Observation:
        """Look at tables, Kafka, savepoints and the job of a pipeline, as far as that is allowed.

        What can't be seen is a problem of the observation, never an error: the care of the pipeline goes on without.
        """
        if not self.allowed or seen.unreadable is not None:
            return Observation()
        pipeline = accept(seen, judge).pipeline
        if pipeline is None:
            return Observation()
        if denied := refused(endpoints(pipeline.spec), self.allowed):
            return Observation(problem=f"the operator was not allowed to talk to {', '.join(denied)}")
        try:
            values = await self._secrets(pipeline)
        except (ClusterError, _SecretUnreadable) as error:
            passes = isinstance(error, (Unavailable, Throttled))
            return Observation(problem=f"the pipeline's Secrets can't be read: {error}", interrupted=passes)
        key = (seen.pipeline.namespace, seen.pipeline.name)
        look = self._looks[key] = _look(pipeline, seen, values, self.rest_url)
        return self._unanswered if self._hangs(key, look) else await self._looked(key, look)

    async def _looked(self, key: Key, look: Look) -> Observation:
        observer = self._observers.setdefault(key, Observer(self._clients))
        try:
            return await self._call(key, look, partial(observer.observe, look))
        except TimeoutError:
            return self._unanswered
        except Exception as error:  # noqa: BLE001 - a deletion, above all, must go on whatever is wrong outside
            # What a driver says may hold a password: only the kind of the error is told, in the log too.
            _log.warning("%s/%s: looking outside failed: %s", *key, type(error).__name__)
            problem = f"looking outside the API server failed: {type(error).__name__}"
            return Observation(problem=problem, interrupted=True)

    def _hangs(self, key: Key, look: Look) -> bool:
        """Whether the last call for a pipeline still hangs. Where other addresses are to be asked, it is given up."""
        asked, answer = self._under_way.get(key, (None, None))
        if asked is None or answer is None or answer.done():
            return False
        if (asked.settings, asked.secrets) == (look.settings, look.secrets):
            return True
        self._observers.pop(key, None)
        return False

    async def _call(self, key: Key, look: Look, work: Callable[[], T]) -> T:
        """Do what blocks in a thread.

        Raises:
            TimeoutError: It takes longer than the limit. It goes on, and nothing else begins before it has ended.
        """
        answer = in_a_thread(work, f"outside of {'/'.join(key)}")
        self._under_way[key] = (look, answer)
        async with asyncio.timeout(self.seconds):
            return await asyncio.wrap_future(answer)

    @property
    def _unanswered(self) -> Observation:
        return Observation(problem=self._no_answer, interrupted=True)

    @property
    def _no_answer(self) -> str:
        return f"the catalog, the store, Kafka or Flink did not answer within {self.seconds:g} s"

    async def _secrets(self, pipeline: ValidPipeline) -> dict[str, str]:
        """The values that the jobs get as environment variables, by the variable's name."""
        values: dict[str, str] = {}
        for entry in secrets.stream_environment(pipeline.spec):
            reference = entry.get("valueFrom", {}).get("secretKeyRef")
            if reference is None:
                continue
            secret = await self.cluster.read(SECRET, pipeline.namespace, reference["name"])
            encoded = secret.get("data", {}).get(reference["key"])
            if encoded is not None:
                values[entry["name"]] = _decoded(reference, encoded)
        return values

    def tables(self, seen: Observed) -> "PipelineTables":
        """What moves the tables of a pipeline that was observed."""
        key = (seen.pipeline.namespace, seen.pipeline.name)
        observer, look = self._observers.get(key), self._looks.get(key)
        if observer is None or look is None:
            return PipelineTables(None)
        catalog = partial(observer.catalog, look)

        async def move(work: Callable[[Catalog], object]) -> None:
            try:
                await self._call(key, look, lambda: work(catalog()))
            except TimeoutError as error:
                raise MoveRefused(f"a table can't be moved now: {self._no_answer}") from error
            except MoveRefused:
                raise
            except Exception as error:  # noqa: BLE001 - a catalog that is locked, or was written meanwhile, is no fault of ours
                # As above: what a driver says is told to nobody.
                raise MoveRefused(f"a table can't be moved now: {type(error).__name__}") from None

        return PipelineTables(move)

    def forget(self, key: Key) -> None:
        """Close what was opened for a pipeline."""
        self._observers.pop(key, None)
        self._looks.pop(key, None)
        self._under_way.pop(key, None)


def _decoded(reference: dict[str, str], encoded: str) -> str:
    try:
        return base64.b64decode(encoded).decode()
    except ValueError:
        # Neither the value nor the cause, which quotes bytes of it, may be told.
        text = f"the key {reference['key']} of Secret {reference['name']} holds no UTF-8 text"
        raise _SecretUnreadable(text) from None


def _look(pipeline: ValidPipeline, seen: Observed, values: dict[str, str], rest_url: Callable[[str, str], str]) -> Look:
    settings: BronzeSettings = bronze_settings(pipeline)
    silver = pipeline.silver.writes if pipeline.silver else ()
    results = pipeline.silver.results if isinstance(pipeline.silver, SilverTables) else ()
    gold = pipeline.gold.writes if pipeline.gold else ()
    covered = [entry.upto for entry in ledger.scheduled(ledger.entries(seen), "silver") if entry.upto is not None]
    job = None
    if seen.stream is not None and seen.stream.job_id and seen.stream.job_state == "RUNNING":
        url = rest_url(pipeline.namespace, names.deployment(pipeline.name))
        job = (url, seen.stream.job_id) if url else None
    return Look(
        settings=settings,
        secrets=values,
        tables=(pipeline.bronze_table, *silver, *results, *gold),
        known=_known(pipeline, seen, covered),
        asked={pipeline.bronze_table: _asked(seen)},
        boundaries=wanted_boundaries(pipeline, seen),
        savepoints=tuple(point.path for point in seen.record.points),
        job=job,
    )


def _known(pipeline: ValidPipeline, seen: Observed, covered: list[int]) -> dict[str, int]:
    """The bronze snapshot from which back nobody asks for rows: what silver has covered.

    While the stream goes back to a point, it is that point's: which days are discarded, the commits since then tell.
    """
    operation = seen.record.operation
    point = seen.record.point(operation.point) if operation and operation.stage in ("removing", "rewinding") else None
    if point is not None:
        return {pipeline.bronze_table: point.bronze_snapshot} if point.bronze_snapshot is not None else {}
    return {pipeline.bronze_table: covered[-1]} if covered else {}


def _asked(seen: Observed) -> tuple[int, ...]:
    """The bronze snapshots that may be old and are asked for: those of recovery points, and of runs of whole days."""
    points = {point.bronze_snapshot for point in seen.record.points if not point.discarded}
    runs = {(run.spec.get("days") or {}).get("atSnapshot") for run in seen.runs} if seen.record.stale_days else set()
    return tuple(sorted(int(snapshot) for snapshot in points | runs if snapshot is not None))


@dataclass(frozen=True, slots=True)
class PipelineTables:
    """Moves the tables of one pipeline, off the event loop.

    Attributes:
        move: does something with the opened catalog; None where the tables are not observed.
    """

    move: Callable[[Callable[[Catalog], object]], Awaitable[None]] | None

    async def tag(self, table: str, tag: str, snapshot: int) -> None:
        """Tag a snapshot."""
        await self._move(lambda catalog: tag_snapshot(catalog, table, tag, snapshot))

    async def drop_tag(self, table: str, tag: str) -> None:
        """Remove a tag."""
        await self._move(lambda catalog: drop_tag(catalog, table, tag))

    async def roll_back(self, table: str, *, to: int, expected_head: int, discarded_tag: str) -> None:
        """Make an earlier snapshot the head again."""
        await self._move(
            lambda catalog: roll_back(catalog, table, to=to, expected_head=expected_head, discarded_tag=discarded_tag)
        )

    async def _move(self, work: Callable[[Catalog], object]) -> None:
        if self.move is None:
            raise MoveRefused("the tables of this pipeline are not observed, so they can't be moved")
        await self.move(work)
