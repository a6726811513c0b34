"""What runs after `helm uninstall`: take the operator's finalizer off all pipelines. Streams and records stay."""

import asyncio
import os
import sys

from lakehouse_operator.cluster.client import KubernetesCluster
from lakehouse_operator.cluster.errors import ClusterError, NotFound, NotInstalled
from lakehouse_operator.cluster.kinds import LAKEHOUSE_PIPELINE, POD
from lakehouse_operator.planning.plan import FINALIZER


async def release() -> None:
    """Wait until the operator is gone, then let go of what it held."""
    operator = dict(label.split("=", 1) for label in os.environ["OPERATOR_PODS"].split(","))
    async with KubernetesCluster() as cluster:
        # An operator that is still there would put the finalizer on again.
        while await cluster.list_labelled(POD, os.environ["POD_NAMESPACE"], operator):  # noqa: ASYNC110
            await asyncio.sleep(1)
        for namespace in os.environ["WATCH_NAMESPACES"].split(","):
            try:
                pipelines = await cluster.list_labelled(LAKEHOUSE_PIPELINE, namespace or None, {})
            except (NotFound, NotInstalled):
                continue  # the CRD is gone, and all pipelines with it
            for pipeline in pipelines:
                metadata = pipeline["metadata"]
                place = metadata["namespace"], metadata["name"]
                await cluster.remove_finalizer(LAKEHOUSE_PIPELINE, *place, uid=metadata["uid"], finalizer=FINALIZER)
                print("released {}/{}".format(*place))


try:
    asyncio.run(release())
except ClusterError as error:
    sys.exit(f"failed: {error}")
