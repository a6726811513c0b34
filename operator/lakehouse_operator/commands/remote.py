"""Commands for a cluster. They say what a person wants, by annotation or in the spec; the operator carries it out."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from lakehouse_operator.cluster.client import KubernetesCluster
from lakehouse_operator.cluster.errors import ClusterError
from lakehouse_operator.cluster.kinds import LAKEHOUSE_BACKFILL, LAKEHOUSE_PIPELINE, LAKEHOUSE_RUN, Kind
from lakehouse_operator.cluster.port import Cluster, Resource
from lakehouse_operator.cluster.rest import Login
from lakehouse_operator.commands.output import Format, show, show_table
from lakehouse_operator.planning import names
from lakehouse_operator.planning.situation import RESTORE_ANNOTATION, SAVEPOINT_ANNOTATION

FAILED = 1
_MANAGER = "lakehouse-cli"
T = TypeVar("T")
Name = Annotated[str, typer.Argument(help="The pipeline's name.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Where it is.")]
Kubeconfig = Annotated[Path | None, typer.Option(help="The kubeconfig; else KUBECONFIG or ~/.kube/config.")]
Output = Annotated[Format, typer.Option("--output", "-o", help="How to print it.")]


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    for command in (status, runs, retry, savepoint, restore, suspend, resume, backfill, approve):
        app.command()(command)


def _with_cluster(kubeconfig: Path | None, work: Callable[[Cluster], Awaitable[T]]) -> T:
    async def run() -> T:
        async with KubernetesCluster(Login(kubeconfig), field_manager=_MANAGER) as cluster:
            return await work(cluster)

    try:
        return asyncio.run(run())
    except ClusterError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(FAILED) from None


def status(
    name: Annotated[str | None, typer.Argument(help="The pipeline's name; all of the namespace without it.")] = None,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    output: Output = Format.TEXT,
) -> None:
    """Show how pipelines are: the stream, each layer, the recovery points."""
    if name is None:
        _list(_with_cluster(kubeconfig, lambda c: c.list_labelled(LAKEHOUSE_PIPELINE, namespace, {})), output)
        return
    found = _with_cluster(kubeconfig, lambda c: c.read(LAKEHOUSE_PIPELINE, namespace, name))
    if output is not Format.TEXT:
        show(found.get("status", {}), output)
        return
    _show_status(found)


def _list(pipelines: list[Resource], output: Format) -> None:
    if output is not Format.TEXT:
        show([{"name": p["metadata"]["name"], "status": p.get("status", {})} for p in pipelines], output)
        return
    rows = []
    for pipeline in pipelines:
        told = pipeline.get("status", {})
        conditions: list[Resource] = told.get("conditions", [])
        ready: Resource = next((c for c in conditions if c["type"] == "Ready"), {})
        layers = told.get("layers", {})
        through = [layers.get(layer, {}).get("completedThrough") for layer in ("silver", "gold")]
        state = told.get("stream", {}).get("state")
        rows.append((pipeline["metadata"]["name"], ready.get("status"), state, *through, ready.get("message")))
    show_table(("NAME", "READY", "STREAM", "SILVER THROUGH", "GOLD THROUGH", "MESSAGE"), rows)


def _show_status(pipeline: Resource) -> None:
    told = pipeline.get("status", {})
    conditions = told.get("conditions", [])
    show_table(
        ("CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE"),
        [(c["type"], c["status"], c["reason"], c["lastTransitionTime"], c.get("message")) for c in conditions],
    )
    stream = told.get("stream", {})
    typer.echo(
        f"\nstream: {stream.get('state', 'unknown')}, revision {stream.get('revision')}, job {stream.get('jobId')}"
    )
    rows = []
    for layer, layer_told in told.get("layers", {}).items():
        last = layer_told.get("lastRun", {})
        shown = f"{last.get('name')} {last.get('phase')}" if last else None
        rows.append(
            (layer, layer_told.get("completedThrough"), shown, layer_told.get("nextRun"), layer_told.get("heldBecause"))
        )
    if rows:
        typer.echo()
        show_table(("LAYER", "COMPLETED THROUGH", "LAST RUN", "NEXT RUN", "HELD BECAUSE"), rows)
    points = told.get("recoveryPoints", [])
    if points:
        typer.echo()
        show_table(
            ("RECOVERY POINT", "TAKEN AT", "PROVEN", "BRONZE SNAPSHOT", "PATH"),
            [(p["name"], p["takenAt"], p.get("proven"), p.get("bronzeSnapshot"), p["path"]) for p in points],
        )


def runs(
    name: Name, namespace: Namespace = "default", kubeconfig: Kubeconfig = None, output: Output = Format.TEXT
) -> None:
    """List a pipeline's runs, the newest last."""
    labels = {names.PIPELINE_LABEL: name}
    found = _with_cluster(kubeconfig, lambda c: c.list_labelled(LAKEHOUSE_RUN, namespace, labels))
    found.sort(key=lambda run: (run["metadata"]["creationTimestamp"], run["metadata"]["name"]))
    if output is not Format.TEXT:
        show([{"name": r["metadata"]["name"], "spec": r["spec"], "status": r.get("status", {})} for r in found], output)
        return
    rows = []
    for run in found:
        told, interval = run.get("status", {}), run["spec"].get("dataInterval") or run["spec"].get("days") or {}
        attempts = told.get("attempts", [])
        message = attempts[-1].get("message") if attempts else None
        span = " - ".join(str(value) for value in interval.values())
        rows.append((run["metadata"]["name"], run["spec"]["stage"], span, told.get("phase"), len(attempts), message))
    show_table(("NAME", "STAGE", "INTERVAL", "PHASE", "ATTEMPTS", "MESSAGE"), rows)


def retry(
    run: Annotated[str, typer.Argument(help="The LakehouseRun that failed.")],
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
) -> None:
    """Run a failed run's interval again, with the current definition."""

    async def work(cluster: Cluster) -> str:
        old = await cluster.read(LAKEHOUSE_RUN, namespace, run)
        spec = {key: value for key, value in old["spec"].items() if key not in ("revision", "definition", "backfill")}
        pipeline = spec["pipelineRef"]["name"]
        name = names.manual_run(pipeline, spec["stage"], _token())
        await cluster.create_once(_object(LAKEHOUSE_RUN, namespace, name, {**spec, "reason": "manual"}, pipeline))
        return name

    typer.echo(f"created LakehouseRun {_with_cluster(kubeconfig, work)}")


def savepoint(name: Name, namespace: Namespace = "default", kubeconfig: Kubeconfig = None) -> None:
    """Take a recovery point now, while the stream goes on."""
    _annotate(kubeconfig, namespace, name, {SAVEPOINT_ANNOTATION: _token()})
    typer.echo(f"asked for; see: lakehouse status {name} -n {namespace}")


def restore(
    name: Name,
    point: Annotated[str, typer.Argument(help="The recovery point, as `lakehouse status` names it.")],
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
) -> None:
    """Go back to a recovery point: the stream's state and the bronze table together."""
    known = _with_cluster(kubeconfig, lambda c: c.read(LAKEHOUSE_PIPELINE, namespace, name))
    points = [each["name"] for each in known.get("status", {}).get("recoveryPoints", [])]
    if point not in points:
        typer.echo(f"error: {name} has no recovery point {point}; there are: {', '.join(points) or 'none'}", err=True)
        raise typer.Exit(FAILED)
    _annotate(kubeconfig, namespace, name, {RESTORE_ANNOTATION: f"{point}/{_token()}"})
    typer.echo(f"asked for; see: lakehouse status {name} -n {namespace}")


def suspend(name: Name, namespace: Namespace = "default", kubeconfig: Kubeconfig = None) -> None:
    """Stop the stream with a savepoint and start no runs (sets spec.suspend; GitOps may set it back)."""
    _set(kubeconfig, namespace, name, suspend=True)


def resume(name: Name, namespace: Namespace = "default", kubeconfig: Kubeconfig = None) -> None:
    """Let a suspended pipeline go on from where it stopped."""
    _set(kubeconfig, namespace, name, suspend=False)


def backfill(
    name: Name,
    *,
    first: Annotated[str, typer.Option("--from", help="The first event day, such as 2026-01-31.")],
    last: Annotated[str, typer.Option("--to", help="The last event day.")],
    reprocess: Annotated[str, typer.Option(help="none, failed or all.")] = "all",
    max_concurrent: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = 1,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
) -> None:
    """Propose to compute event days anew. Nothing runs before it is approved."""
    spec = {
        "pipelineRef": {"name": name},
        "range": {"first": first, "last": last},
        "reprocess": reprocess,
        "maxConcurrent": max_concurrent,
    }
    asked = f"{name}-{first}-{last}-{_token().lower().replace(':', '').replace('-', '')}"[:63]
    created = _with_cluster(
        kubeconfig, lambda c: c.create_once(_object(LAKEHOUSE_BACKFILL, namespace, asked, spec, name))
    )
    typer.echo(
        f"proposed LakehouseBackfill {created.resource['metadata']['name']}\n"
        f"look at it: kubectl get lhb {asked} -n {namespace} -o yaml\nthen: lakehouse approve {asked} -n {namespace}"
    )


def approve(
    backfill: Annotated[str, typer.Argument(help="The LakehouseBackfill.")],
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
) -> None:
    """Let a proposed backfill run."""

    async def work(cluster: Cluster) -> None:
        await cluster.read(LAKEHOUSE_BACKFILL, namespace, backfill)
        await cluster.apply(
            {
                "apiVersion": LAKEHOUSE_BACKFILL.api_version,
                "kind": LAKEHOUSE_BACKFILL.name,
                "metadata": {"name": backfill, "namespace": namespace},
                "spec": {"approved": True},
            }
        )

    _with_cluster(kubeconfig, work)
    typer.echo(f"approved {backfill}")


def _annotate(kubeconfig: Path | None, namespace: str, name: str, annotations: dict[str, str]) -> None:
    _change(kubeconfig, namespace, name, {"metadata": {"annotations": annotations}})


def _set(kubeconfig: Path | None, namespace: str, name: str, **spec: object) -> None:
    _change(kubeconfig, namespace, name, {"spec": spec})
    typer.echo(f"see: lakehouse status {name} -n {namespace}")


def _change(kubeconfig: Path | None, namespace: str, name: str, change: dict[str, Any]) -> None:
    """Set some fields of a pipeline that exists, under the command line's own field manager."""

    async def work(cluster: Cluster) -> None:
        await cluster.read(LAKEHOUSE_PIPELINE, namespace, name)
        metadata = {"name": name, "namespace": namespace, **change.get("metadata", {})}
        manifest: dict[str, Any] = {
            "apiVersion": LAKEHOUSE_PIPELINE.api_version,
            "kind": LAKEHOUSE_PIPELINE.name,
            "metadata": metadata,
        }
        if "spec" in change:
            manifest["spec"] = change["spec"]
        await cluster.apply(manifest)

    _with_cluster(kubeconfig, work)


def _object(kind: Kind, namespace: str, name: str, spec: dict[str, Any], pipeline: str) -> dict[str, Any]:
    return {
        "apiVersion": kind.api_version,
        "kind": kind.name,
        "metadata": {"name": name, "namespace": namespace, "labels": {names.PIPELINE_LABEL: pipeline}},
        "spec": spec,
    }


def _token() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: TID251 - the edge reads the clock
