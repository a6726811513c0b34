"""The only writer of status. A status that is as it should be is not written."""

from collections.abc import Iterable

from lakehouse_operator.cluster.errors import NotFound
from lakehouse_operator.cluster.kinds import LAKEHOUSE_BACKFILL, LAKEHOUSE_PIPELINE, LAKEHOUSE_RUN
from lakehouse_operator.cluster.port import Cluster
from lakehouse_operator.planning.observed import Observed
from lakehouse_operator.planning.plan import StatusOf

_KINDS = {kind.name: kind for kind in (LAKEHOUSE_PIPELINE, LAKEHOUSE_RUN, LAKEHOUSE_BACKFILL)}


async def report(cluster: Cluster, statuses: Iterable[StatusOf], seen: Observed) -> int:
    """Write the statuses that differ from what was seen, and say how many were.

    Raises:
        ClusterError: One could not be written. What follows may rest on it, so nothing may be done then.
    """
    known = {("LakehousePipeline", seen.pipeline.name): (seen.pipeline.uid, seen.pipeline.status)}
    known |= {("LakehouseRun", run.name): (run.uid, run.status) for run in seen.runs}
    known |= {("LakehouseBackfill", each.name): (each.uid, each.status) for each in seen.backfills}
    written = 0
    for wanted in statuses:
        uid, status = known[wanted.kind, wanted.name]
        if status == wanted.status:
            continue
        try:
            await cluster.write_status(
                _KINDS[wanted.kind], seen.pipeline.namespace, wanted.name, uid=uid, status=wanted.status
            )
        except NotFound:
            if wanted.kind == "LakehousePipeline":
                raise
            continue  # the run or backfill was deleted in between; the next round sees it
        written += 1
    return written
