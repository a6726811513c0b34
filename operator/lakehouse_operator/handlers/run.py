"""The operator's life: wait to lead, watch, tend, stop in order."""

import asyncio
import contextlib
import itertools
import logging
import os
import signal
from collections.abc import Collection, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any

import kopf
from prometheus_client import start_http_server
from typing_extensions import override

from lakehouse_operator import metrics
from lakehouse_operator.cluster.client import KubernetesCluster
from lakehouse_operator.cluster.lease import LeaderLease
from lakehouse_operator.cluster.rest import Patience
from lakehouse_operator.config import Config
from lakehouse_operator.handlers.bells import Bells
from lakehouse_operator.handlers.events import register
from lakehouse_operator.handlers.health import Reach, Watchdog, serve_health
from lakehouse_operator.handlers.labels import Labels
from lakehouse_operator.handlers.leadership import Leadership
from lakehouse_operator.handlers.memory import give_back
from lakehouse_operator.handlers.sight import Sight
from lakehouse_operator.handlers.tender import Tender
from lakehouse_operator.handlers.upstream import installed, more_installed

_log = logging.getLogger(__name__)


class _NoDiffs(kopf.DiffBaseStorage):  # type: ignore[misc]  # kopf has no types
    """Low-level handlers need no difference to the last object; kopf would copy each one, twice, to find it."""

    @override
    def build(self, **_: object) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    @override
    def fetch(self, **_: object) -> kopf.BodyEssence | None:
        return None

    @override
    def store(self, **_: object) -> None:
        return


class _Persistent:
    """Seconds between the tries of a request of kopf's, without an end: a watch that gives up stays silent for ever."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((0.5, 1.0, 2.0), itertools.repeat(5.0))


def kopf_settings(config: Config) -> kopf.OperatorSettings:
    """Kopf's settings: timeouts on everything, and nothing of kopf's own on any object."""
    settings = kopf.OperatorSettings()
    # With rights in some namespaces only, nobody may watch namespaces and CRDs: kopf would try for almost a minute
    # before it watches anything else.
    settings.scanning.disabled = bool(config.namespaces)
    settings.posting.enabled = False
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 310
    settings.watching.connect_timeout = 30
    # A list of a thousand pipelines with all their status takes a hundred megabytes, which are not given back whole.
    settings.watching.chunk_size = 100
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.networking.enforce_retry_after = True
    settings.networking.error_backoffs = _Persistent()
    # Handlers only ring bells, and `Bells` limits what follows. A limit here would let hundreds of pipelines wait, at
    # the start, until the workers of others have been idle for long enough to end.
    settings.queueing.worker_limit = None
    settings.queueing.idle_timeout = 1.0
    settings.peering.standalone = True  # leadership is the Lease's; peering is no mutual exclusion (kopf #1266)
    settings.persistence.finalizer = "lakehouse.dev/kopf"  # never set: there is no handler that needs one
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="kopf.lakehouse.dev", v1=False)
    settings.persistence.diffbase_storage = _NoDiffs()
    return settings


async def run(config: Config) -> None:
    """Run until SIGTERM or SIGINT, or until another replica leads."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with (
        KubernetesCluster(instance=config.identity) as cluster,
        # Connections of its own: rounds that wait for a slow server must not make this replica look cut off.
        _few_connections(config) as undisturbed,
        _leadership(config) as leadership,
    ):
        reach = Reach(undisturbed, config.namespace, config.lease, config.stale_after)
        asking = asyncio.create_task(reach.keep())
        try:
            await _until_stopped(_lead(config, cluster, leadership, reach, stop), stop)
        finally:
            asking.cancel()


def _few_connections(config: Config) -> KubernetesCluster:
    return KubernetesCluster(instance=config.identity, patience=Patience(connections=2))


def _leadership(config: Config) -> AbstractAsyncContextManager[Leadership | None]:
    """The claim to lead; None where nobody competes."""
    if not config.leader_election:
        return nullcontext()
    return Leadership(
        connect=lambda: _few_connections(config),
        claim=lambda cluster: LeaderLease(
            cluster=cluster,
            namespace=config.namespace,
            name=config.lease,
            identity=config.identity,
            now=lambda: datetime.now(UTC),  # noqa: TID251 - the edge reads the clock
        ),
    )


async def _until_stopped(work: Coroutine[None, None, None], stop: asyncio.Event) -> None:
    task = asyncio.create_task(work)
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _lead(
    config: Config, cluster: KubernetesCluster, leadership: Leadership | None, reach: Reach, stop: asyncio.Event
) -> None:
    bells = Bells(Tender(cluster, Sight(cluster, config.allowed_endpoints)).round, config.concurrency)
    watchdog = Watchdog(cluster, config.namespaces, bells, config.stale_after)
    if config.metrics_port:
        start_http_server(config.metrics_port, registry=metrics.REGISTRY)
    health = (
        await serve_health(config.health_port, lambda: watchdog.is_healthy, lambda: reach.is_there)
        if config.health_port
        else None
    )
    try:
        if leadership is not None:
            _log.info("waiting to lead")
            await leadership.acquired()
        metrics.LEADING.set(1)
        _log.info("leading")
        async with asyncio.TaskGroup() as group:
            group.create_task(_watch(config, bells, cluster, stop))
            group.create_task(watchdog.keep())
            group.create_task(give_back())
            if leadership is not None:
                group.create_task(_step_down(leadership, stop))
    finally:
        metrics.LEADING.set(0)
        await bells.stop()
        if health is not None:
            await health.cleanup()


async def _watch(config: Config, bells: Bells, cluster: KubernetesCluster, stop: asyncio.Event) -> None:
    """Watch until told to stop; and from the beginning once an upstream operator was installed.

    kopf learns of new kinds by itself only where it may watch CRDs, which takes cluster-wide rights.
    """
    while not stop.is_set():
        known = await installed(cluster)
        over = asyncio.Event()
        watching = asyncio.create_task(_watch_kinds(config, bells, cluster, over))
        others: list[asyncio.Task[Any]] = [asyncio.create_task(stop.wait())]
        if config.namespaces:
            others.append(asyncio.create_task(more_installed(cluster, known)))
        await asyncio.wait((watching, *others), return_when=asyncio.FIRST_COMPLETED)
        for task in others:
            task.cancel()
        if watching.done():
            stop.set()  # by itself: kopf takes SIGTERM and SIGINT for itself
        over.set()
        await watching


async def _watch_kinds(config: Config, bells: Bells, cluster: KubernetesCluster, over: asyncio.Event) -> None:
    registry = kopf.OperatorRegistry()
    labels = Labels(cluster, bells)
    register(registry, bells, cluster, labels)

    @kopf.on.login(registry=registry)
    def login(**kwargs: object) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    labelling = asyncio.create_task(labels.keep())
    not_ours_to_end = asyncio.all_tasks()
    roots = await kopf.spawn_tasks(
        registry=registry,
        settings=kopf_settings(config),
        namespaces=config.namespaces,
        clusterwide=not config.namespaces,
        standalone=True,
        stop_flag=over,
    )
    guard = asyncio.create_task(_end_with(roots))
    try:
        await kopf.run_tasks(roots, ignored={*not_ours_to_end, guard})
    finally:
        guard.cancel()
        labelling.cancel()


async def _end_with(roots: Collection["asyncio.Task[None]"]) -> None:
    """End the process where one of kopf's tasks fails; whoever started it starts it again.

    It does so where the API server tells an error within a watch, such as etcd's while it elects a leader. kopf then
    waits for its other watches without an end where one of them is about to log in (1.45.2), and hears nothing more.
    """
    await asyncio.wait(roots, return_when=asyncio.FIRST_COMPLETED)
    failures = [task.exception() for task in roots if task.done() and not task.cancelled()]
    if failure := next(filter(None, failures), None):
        _log.critical("watching has failed, so this process ends: %s", failure)
        logging.shutdown()
        os._exit(1)


async def _step_down(leadership: Leadership, stop: asyncio.Event) -> None:
    await leadership.lost()
    stop.set()
