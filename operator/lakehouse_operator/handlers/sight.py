"""What the operator sees of a pipeline outside the API server, under rights that were opted into."""

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from pyiceberg.catalog import Catalog

from lakehouse_contract.settings import BronzeSettings
from lakehouse_operator.cluster.errors import ClusterError
from lakehouse_operator.cluster.kinds import SECRET
from lakehouse_operator.cluster.port import Cluster
from lakehouse_operator.handlers.bells import Key
from lakehouse_operator.observation.endpoints import endpoints, refused
from lakehouse_operator.observation.observe import Look, Observer
from lakehouse_operator.planning import ledger, names, secrets
from lakehouse_operator.planning.acceptance import accept
from lakehouse_operator.planning.batch import wanted_boundaries
from lakehouse_operator.planning.job_settings import bronze_settings
from lakehouse_operator.planning.observed import Observation, Observed
from lakehouse_operator.planning.pipeline import GoldModels, ValidPipeline
from lakehouse_operator.planning.validate import Judge, validate
from lakehouse_operator.tables.move import MoveRefused, drop_tag, roll_back, tag_snapshot


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
    """

    cluster: Cluster
    allowed: tuple[str, ...] = ()
    rest_url: Callable[[str, str], str] = _rest_service
    _observers: dict[Key, Observer] = field(default_factory=dict)
    _looks: dict[Key, Look] = field(default_factory=dict)

    async def observe(self, seen: Observed, judge: Judge = validate) -> Observation:
        """Look at tables, Kafka, savepoints and the job of a pipeline, as far as that is allowed."""
        if not self.allowed:
            return Observation()
        pipeline = accept(seen, judge).pipeline
        if pipeline is None:
            return Observation()
        if denied := refused(endpoints(pipeline.spec), self.allowed):
            return Observation(problem=f"the operator was not allowed to talk to {', '.join(denied)}")
        try:
            values = await self._secrets(pipeline)
        except ClusterError as error:
            return Observation(problem=f"the pipeline's Secrets can't be read: {error}")
        key = (seen.pipeline.namespace, seen.pipeline.name)
        look = self._looks[key] = _look(pipeline, seen, values, self.rest_url)
        observer = self._observers.setdefault(key, Observer())
        return await asyncio.to_thread(observer.observe, look)

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
                values[entry["name"]] = base64.b64decode(encoded).decode()
        return values

    def tables(self, seen: Observed) -> "PipelineTables":
        """What moves the tables of a pipeline that was observed."""
        key = (seen.pipeline.namespace, seen.pipeline.name)
        return PipelineTables(self._observers.get(key), self._looks.get(key))

    def forget(self, key: Key) -> None:
        """Close what was opened for a pipeline."""
        self._observers.pop(key, None)
        self._looks.pop(key, None)


def _look(pipeline: ValidPipeline, seen: Observed, values: dict[str, str], rest_url: Callable[[str, str], str]) -> Look:
    settings: BronzeSettings = bronze_settings(pipeline)
    silver = pipeline.silver.writes if pipeline.silver else ()
    gold = [model.name for model in pipeline.gold.models] if isinstance(pipeline.gold, GoldModels) else []
    covered = [entry.upto for entry in ledger.scheduled(ledger.entries(seen), "silver") if entry.upto is not None]
    job = None
    if seen.stream is not None and seen.stream.job_id and seen.stream.job_state == "RUNNING":
        url = rest_url(pipeline.namespace, names.deployment(pipeline.name))
        job = (url, seen.stream.job_id) if url else None
    return Look(
        settings=settings,
        secrets=values,
        tables=(pipeline.bronze_table, *silver, *gold),
        known={pipeline.bronze_table: covered[-1]} if covered else {},
        boundaries=wanted_boundaries(pipeline, seen),
        savepoints=tuple(point.path for point in seen.record.points),
        job=job,
    )


@dataclass(frozen=True, slots=True)
class PipelineTables:
    """Moves the tables of one pipeline, off the event loop."""

    observer: Observer | None
    look: Look | None

    async def tag(self, table: str, tag: str, snapshot: int) -> None:
        """Tag a snapshot."""
        await asyncio.to_thread(tag_snapshot, self._catalog(), table, tag, snapshot)

    async def drop_tag(self, table: str, tag: str) -> None:
        """Remove a tag."""
        await asyncio.to_thread(drop_tag, self._catalog(), table, tag)

    async def roll_back(self, table: str, *, to: int, expected_head: int, discarded_tag: str) -> None:
        """Make an earlier snapshot the head again."""
        move = partial(roll_back, to=to, expected_head=expected_head, discarded_tag=discarded_tag)
        await asyncio.to_thread(move, self._catalog(), table)

    def _catalog(self) -> Catalog:
        if self.observer is None or self.look is None:
            raise MoveRefused("the tables of this pipeline are not observed, so they can't be moved")
        return self.observer.catalog(self.look)
