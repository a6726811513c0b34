"""Which upstream operators are installed, and when there are more than before."""

import asyncio
import logging
from typing import Literal, TypeAlias

from lakehouse_operator.cluster.errors import ClusterError
from lakehouse_operator.cluster.port import Cluster

Upstream: TypeAlias = Literal["FlinkDeployment", "FlinkStateSnapshot", "SparkApplication"]
LOOK_SECONDS = 30.0
_log = logging.getLogger(__name__)


async def installed(cluster: Cluster) -> frozenset[Upstream]:
    """The upstream kinds that are installed; none where the API server does not say."""
    try:
        able = await cluster.capabilities()
    except ClusterError as error:
        _log.warning("which upstream operators there are can't be read: %s", error)
        return frozenset()
    found: dict[Upstream, bool] = {
        "FlinkDeployment": able.flink,
        "FlinkStateSnapshot": able.state_snapshots,
        "SparkApplication": able.spark_applications,
    }
    return frozenset(kind for kind, there in found.items() if there)


async def more_installed(cluster: Cluster, known: frozenset[Upstream], seconds: float = LOOK_SECONDS) -> None:
    """Wait until a kind is installed that was not known, looking again after so many seconds each time."""
    while not (new := await installed(cluster) - known):  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(seconds)
    _log.info("installed by now: %s", ", ".join(sorted(new)))
