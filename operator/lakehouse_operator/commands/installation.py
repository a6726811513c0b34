"""Commands about the operator itself: whether an installation is well, and letting go of what it held.

The chart runs them too, as `helm test` and after `helm uninstall`.
"""

import asyncio
import urllib.request
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from lakehouse_operator.cluster.errors import NotFound, NotInstalled, Refused
from lakehouse_operator.cluster.kinds import LAKEHOUSE_PIPELINE, LEASE, POD
from lakehouse_operator.cluster.port import Cluster
from lakehouse_operator.commands.remote import Kubeconfig, KubeContext, Where, with_cluster
from lakehouse_operator.planning.plan import FINALIZER

_LOOK = 0.5
Namespaces = Annotated[
    list[str] | None, typer.Option("--namespace", "-n", help="May be given again; every namespace without it.")
]
OperatorNamespace = Annotated[str, typer.Option(help="Where the operator itself runs.")]


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.command()(check)
    app.command()(release)


def check(
    *,
    namespace: Namespaces = None,
    operator_namespace: OperatorNamespace = "lakehouse",
    lease: Annotated[
        str, typer.Option(help="The Lease that the leader renews; empty for an operator without one.")
    ] = "lakehouse-operator",
    metrics: Annotated[str | None, typer.Option(help="The URL of its metrics, if they are to be read.")] = None,
    wait: Annotated[float, typer.Option(min=1, help="Seconds in which the Lease has to be renewed.")] = 60,
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Check that the operator's kinds can be read, that one replica leads, and that the upstream operators are there.

    Exits with 1 at the first thing that is not well. Without an upstream operator for Spark, bronze alone runs.
    """

    async def work(cluster: Cluster) -> None:
        for each in namespace or (None,):
            found = await cluster.list_labelled(LAKEHOUSE_PIPELINE, each, {})
            typer.echo(f"ok: {len(found)} pipelines in {each or 'all namespaces'}")
        if lease:
            typer.echo(f"ok: {await _leader(cluster, operator_namespace, lease, wait)} leads")
        if metrics:
            await asyncio.to_thread(_read_metrics, metrics)
            typer.echo(f"ok: {metrics} answers")
        able = await cluster.capabilities()
        if not able.flink_versions:
            raise Refused("there is no kind FlinkDeployment: install the Flink Kubernetes operator")
        typer.echo(f"ok: the Flink operator knows {', '.join(sorted(able.flink_versions))}")
        told = "ok: the Spark operator is there" if able.spark_applications else "no Spark operator: bronze alone runs"
        typer.echo(told)

    with_cluster(Where(kubeconfig, context, None), work)


async def _leader(cluster: Cluster, namespace: str, name: str, seconds: float) -> str:
    """Wait until somebody is seen to renew the Lease; who it is.

    Raises:
        Refused: Nobody does.
    """
    first = None
    try:
        async with asyncio.timeout(seconds):
            while True:
                spec = await _lease(cluster, namespace, name)
                renewed = spec.get("renewTime") if spec.get("holderIdentity") else None
                if first is not None and renewed not in (None, first):
                    return str(spec["holderIdentity"])
                first = first or renewed
                await asyncio.sleep(_LOOK)
    except TimeoutError:
        text = f"nobody renews the Lease {namespace}/{name}; see the logs of the operator's pods"
        raise Refused(text) from None


async def _lease(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    """What the Lease says; nothing while the operator has not made it yet."""
    try:
        spec: dict[str, Any] = (await cluster.read(LEASE, namespace, name)).get("spec", {})
    except NotFound:
        return {}
    return spec


def _read_metrics(url: str) -> None:
    """Read the metrics.

    Raises:
        Refused: They are not there, or not the operator's.
    """
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - whoever asks names the address
            text = answer.read().decode()
    except (OSError, ValueError) as error:
        raise Refused(f"{url} does not answer: {error}") from error
    if "lakehouse_leading" not in text:
        raise Refused(f"{url} does not serve the operator's metrics")


def release(
    *,
    namespace: Namespaces = None,
    after_pods: Annotated[
        str | None, typer.Option(help="Wait first until no pod with these labels is left: key=value,key=value.")
    ] = None,
    operator_namespace: OperatorNamespace = "lakehouse",
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
) -> None:
    """Take the operator's finalizer off all pipelines, once the operator is gone. Streams, records and data stay.

    An operator that still runs puts it on again. A pipeline that is being deleted is gone at once, its stream runs on.
    """
    labels = dict(_label(each) for each in (after_pods or "").split(",") if each)

    async def work(cluster: Cluster) -> None:
        while labels and await cluster.list_labelled(POD, operator_namespace, labels):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK)
        await _let_go(cluster, namespace or (None,))

    with_cluster(Where(kubeconfig, context, None, "release"), work)


async def _let_go(cluster: Cluster, namespaces: Sequence[str | None]) -> None:
    for namespace in namespaces:
        try:
            pipelines = await cluster.list_labelled(LAKEHOUSE_PIPELINE, namespace, {})
        except (NotFound, NotInstalled):
            continue  # the CRD is gone, and all pipelines with it
        for pipeline in pipelines:
            metadata = pipeline["metadata"]
            place = metadata["namespace"], metadata["name"]
            if FINALIZER in metadata.get("finalizers", ()):
                await cluster.remove_finalizer(LAKEHOUSE_PIPELINE, *place, uid=metadata["uid"], finalizer=FINALIZER)
                typer.echo("released {}/{}".format(*place))


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text} is not key=value", param_hint="--after-pods")
    return key, value
