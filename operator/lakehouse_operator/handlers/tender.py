"""One round: look, decide, report, act. It never raises: what goes wrong is told, and tried again later."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from lakehouse_operator import metrics
from lakehouse_operator.cluster.apply import apply
from lakehouse_operator.cluster.errors import ClusterError, NotFound, Throttled
from lakehouse_operator.cluster.gather import gather, read_pipeline
from lakehouse_operator.cluster.kinds import LAKEHOUSE_PIPELINE
from lakehouse_operator.cluster.port import Cluster, Event
from lakehouse_operator.cluster.report import report
from lakehouse_operator.handlers.bells import Key
from lakehouse_operator.handlers.gauges import forget, measure, measure_conditions
from lakehouse_operator.handlers.judgements import Judgements
from lakehouse_operator.handlers.sight import Sight
from lakehouse_operator.planning.conditions import failure_told, while_failing
from lakehouse_operator.planning.observed import Observed
from lakehouse_operator.planning.plan import Announce, Plan, StatusOf
from lakehouse_operator.planning.reconcile import reconcile
from lakehouse_operator.planning.schedule import instant
from lakehouse_operator.tables.move import MoveRefused

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_AFTER_ACTING = 1.0
"""Seconds: what was done may allow the next step, whether or not an event tells of it."""

_TOLD_AFTER, _TOLD_EVERY = 5, 60
"""Failures in a row after which an event tells of them, and after how many more it does so again: about an hour."""

_log = logging.getLogger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the edge reads the clock


class Tender:
    """Tends pipelines over one cluster.

    Args:
        cluster: where they are.
        sight: what is seen outside the API server.
        now: the clock.
    """

    def __init__(self, cluster: Cluster, sight: Sight, now: Callable[[], datetime] = _now) -> None:
        self._cluster = cluster
        self._sight = sight
        self._now = now
        self._failures: dict[Key, int] = {}
        self._judgements = Judgements()

    async def round(self, key: Key) -> float | None:
        """One round; answers after how many seconds to look again, or None when the pipeline is gone."""
        began = time.monotonic()
        try:
            pause: float = await self._round(key)
        except NotFound:
            self._failures.pop(key, None)
            self._sight.forget(key)
            self._judgements.forget(key)
            forget(key)
            return None
        except (ClusterError, MoveRefused) as error:
            pause = await self._failed(key, error, str(error))
        except Exception as error:  # noqa: BLE001 - see below
            # A fault of our own in one pipeline must not end the care of it, nor of any other.
            _log.exception("%s/%s: the round failed", *key)
            pause = await self._failed(key, error, f"{type(error).__name__}; the operator's log says more")
        else:
            self._failures.pop(key, None)
            metrics.RECONCILES.labels("done").inc()
        metrics.RECONCILE_SECONDS.observe(time.monotonic() - began)
        return pause

    async def _round(self, key: Key) -> float:
        gathered = await gather(self._cluster, *key, self._now())
        with self._judgements.of(key) as judge:
            seen = replace(gathered.seen, observation=await self._sight.observe(gathered.seen, judge))
            plan = reconcile(seen, judge)
        gathered = replace(gathered, seen=seen)
        # That rounds fail is told until one has done all that it should.
        told = failure_told(seen.pipeline.status)
        statuses = _while_failing(plan, seen, told)
        metrics.STATUS_WRITES.inc(await report(self._cluster, statuses, seen))
        # Before acting, which may fail: metrics and status say the same.
        measure(key, seen, replace(plan, statuses=statuses))
        await apply(self._cluster, self._sight.tables(seen), plan.actions, gathered)
        if told is not None:
            own = [status for status in plan.statuses if status.kind == LAKEHOUSE_PIPELINE.name]
            metrics.STATUS_WRITES.inc(await report(self._cluster, own, seen))
            for status in own:
                measure_conditions(key, status.status)
        for action in plan.actions:
            metrics.ACTIONS.labels(type(action).__name__).inc()
        acted = any(not isinstance(action, Announce) for action in plan.actions)
        wake: float = plan.wake_after.total_seconds()
        return min(wake, _AFTER_ACTING) if acted else wake

    async def _failed(self, key: Key, error: Exception, told: str) -> float:
        metrics.RECONCILES.labels("failed").inc()
        count = self._failures[key] = self._failures.get(key, 0) + 1
        _log.warning("%s/%s: %s (try %d)", *key, error, count)
        if count % _TOLD_EVERY == _TOLD_AFTER:
            await self._tell(key, f"rounds fail one after the other, so nothing is done for it: {told}")
        if isinstance(error, Throttled):
            return float(error.retry_after)
        doubled: float = _FIRST_PAUSE * 2 ** min(count - 1, 10)
        return min(doubled, _LONGEST_PAUSE)

    async def _tell(self, key: Key, message: str) -> None:
        """Say it in the pipeline's status and in an event. The API server itself may be what fails: then the log does.

        The status is written at the same moments as the event, however often a round fails in between.
        """
        try:
            pipeline = read_pipeline(await self._cluster.read(LAKEHOUSE_PIPELINE, *key))
            now = self._now()
            status = while_failing(pipeline.status, message, was=pipeline.status, now=instant(now))
            if status != pipeline.status:
                await self._cluster.write_status(LAKEHOUSE_PIPELINE, *key, uid=pipeline.uid, status=status)
            measure_conditions(key, status)
            await self._cluster.announce(
                Event(
                    kind=LAKEHOUSE_PIPELINE,
                    namespace=key[0],
                    name=key[1],
                    uid=pipeline.uid,
                    type="Warning",
                    reason="ReconcileFailed",
                    message=message,
                    at=now,
                )
            )
        except ClusterError as error:
            _log.warning("%s/%s: it could not be told: %s", *key, error)


def _while_failing(plan: Plan, seen: Observed, told: str | None) -> tuple[StatusOf, ...]:
    """The statuses of a plan, that of the pipeline as it is while rounds fail."""
    if told is None:
        return plan.statuses
    was, now = seen.pipeline.status, instant(seen.now)
    return tuple(
        replace(each, status=while_failing(each.status, told, was=was, now=now))
        if each.kind == LAKEHOUSE_PIPELINE.name
        else each
        for each in plan.statuses
    )
