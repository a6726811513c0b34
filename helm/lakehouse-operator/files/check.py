"""What `helm test` runs: the operator has its rights, one replica leads, and what it needs is installed."""

import asyncio
import os
import sys
import urllib.request
from typing import Any

from lakehouse_operator.cluster.client import KubernetesCluster
from lakehouse_operator.cluster.errors import ClusterError, NotFound
from lakehouse_operator.cluster.kinds import LAKEHOUSE_PIPELINE, LEASE

PATIENCE = 60.0


async def check() -> None:
    """Say what is well, and end with a sentence where something is not."""
    async with KubernetesCluster() as cluster:
        for namespace in os.environ["WATCH_NAMESPACES"].split(","):
            found = await cluster.list_labelled(LAKEHOUSE_PIPELINE, namespace or None, {})
            print(f"ok: {len(found)} pipelines in {namespace or 'all namespaces'}")
        if os.environ["LEADER_ELECTION"] == "true":
            async with asyncio.timeout(PATIENCE):
                print(f"ok: {await leader(cluster)} leads")
        if url := os.environ.get("METRICS_URL"):
            await asyncio.to_thread(read_metrics, url)
            print(f"ok: {url} answers")
        able = await cluster.capabilities()
        if not able.flink_versions:
            sys.exit("failed: there is no kind FlinkDeployment: install the Flink Kubernetes operator")
        print(f"ok: the Flink operator knows {', '.join(sorted(able.flink_versions))}")
        print("ok: the Spark operator is there" if able.spark_applications else "no Spark operator: bronze alone runs")


async def leader(cluster: KubernetesCluster) -> str:
    """Wait until somebody is seen to renew the Lease; who it is."""
    first = None
    while True:
        spec = await lease(cluster)
        renewed = spec.get("renewTime") if spec.get("holderIdentity") else None
        if first is not None and renewed not in (None, first):
            return str(spec["holderIdentity"])
        first = first or renewed
        await asyncio.sleep(1)


async def lease(cluster: KubernetesCluster) -> dict[str, Any]:
    """What the Lease says; nothing while the operator has not made it yet."""
    place = os.environ["POD_NAMESPACE"], os.environ["LEASE_NAME"]
    try:
        found: dict[str, Any] = (await cluster.read(LEASE, *place)).get("spec", {})
    except NotFound:
        return {}
    return found


def read_metrics(url: str) -> None:
    """Read the operator's metrics from the chart's own Service."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310
        if "lakehouse_leading" not in answer.read().decode():
            sys.exit(f"failed: {url} does not serve the operator's metrics")


try:
    asyncio.run(check())
except TimeoutError:
    sys.exit("failed: nobody renews the Lease; see the logs of the operator's pods")
except (ClusterError, OSError) as error:
    sys.exit(f"failed: {error}")
