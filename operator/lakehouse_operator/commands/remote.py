"""Commands for a cluster. They say what a person wants, by annotation or in the spec; the operator carries it out."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from lakehouse_operator.cluster.client import KubernetesCluster
from lakehouse_operator.cluster.errors import ClusterError, Conflict, Refused
from lakehouse_operator.cluster.kinds import LAKEHOUSE_BACKFILL, LAKEHOUSE_PIPELINE, LAKEHOUSE_RUN, Kind
from lakehouse_operator.cluster.port import Cluster, Resource
from lakehouse_operator.cluster.rest import Login
from lakehouse_operator.commands.local import plain_errors
from lakehouse_operator.commands.output import Format, show, show_table
from lakehouse_operator.planning import names
from lakehouse_operator.planning.pipeline import Problems
from lakehouse_operator.planning.situation import FORGET_ANNOTATION, RESTORE_ANNOTATION, SAVEPOINT_ANNOTATION
from lakehouse_operator.planning.validate import validate_backfill, validate_run

FAILED = 1
T = TypeVar("T")
Name = Annotated[str, typer.Argument(help="The pipeline's name.")]


def _meant(context: typer.Context, given: str) -> str:
    """The namespace that is meant: as kubectl takes it from the kubeconfig's context, where none is given."""
    if given or context.resilient_parsing:
        return given
    params = context.params
    return "default" if params["world"] else Login(params["kubeconfig"], params["context"]).namespace()


Namespace = Annotated[
    str,
    typer.Option(
        "--namespace",
        "-n",
        help="Where it is; else the namespace of the kubeconfig's context.",
        callback=_meant,
        show_default=False,
    ),
]
# Eager: they are read before the namespace, which depends on them.
Kubeconfig = Annotated[
    Path | None, typer.Option(help="The kubeconfig; else KUBECONFIG or ~/.kube/config.", is_eager=True)
]
KubeContext = Annotated[
    str | None, typer.Option("--context", help="A context of the kubeconfig; else its current one.", is_eager=True)
]
World = Annotated[
    str | None, typer.Option("--world", help="A world of `lakehouse local up`, not a cluster.", is_eager=True)
]
Output = Annotated[Format, typer.Option("--output", "-o", help="How to print it.")]


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    for command in (status, runs, run, retry, savepoint, restore, forget, suspend, resume, backfill, approve):
        app.command()(command)


@dataclass(frozen=True, slots=True)
class Where:
    """Which cluster is meant: that of a kubeconfig, or a world on this machine.

    Each purpose is a field manager of its own: what an applied manifest does not name is taken back from the manager
    that set it, so with one name for all, asking for a savepoint would resume a pipeline that was suspended.
    """

    kubeconfig: Path | None
    context: str | None
    world: str | None
    purpose: str = "cli"

    @property
    def field_manager(self) -> str:
        return f"lakehouse-{self.purpose}"


def with_cluster(where: Where, work: Callable[[Cluster], Coroutine[None, None, T]]) -> T:
    """Do something in the cluster that is meant; its errors are said in a sentence, and the program ends with 1."""

    async def run() -> T:
        async with KubernetesCluster(
            Login(where.kubeconfig, where.context), field_manager=where.field_manager
        ) as cluster:
            return await work(cluster)

    try:
        return asyncio.run(run() if where.world is None else work(_local_cluster(where.world, where.field_manager)))
    except ClusterError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(FAILED) from None


def _local_cluster(world: str, field_manager: str) -> Cluster:
    from lakehouse_operator.local import engines  # noqa: PLC0415 - a cluster needs none of it
    from lakehouse_operator.local.directory import world_directory  # noqa: PLC0415
    from lakehouse_operator.local.world import cluster_of  # noqa: PLC0415

    with plain_errors():
        return cluster_of(world_directory(engines.find().home, world)).seen_by(field_manager)


def status(
    name: Annotated[str | None, typer.Argument(help="The pipeline's name; all of the namespace without it.")] = None,
    *,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
    world: World = None,
    output: Output = Format.TEXT,
) -> None:
    """Show how pipelines are: the stream, each layer, the recovery points."""
    if name is None:
        _list(
            with_cluster(
                Where(kubeconfig, context, world), lambda c: c.list_labelled(LAKEHOUSE_PIPELINE, namespace, {})
            ),
            output,
        )
        return
    found = with_cluster(Where(kubeconfig, context, world), lambda c: c.read(LAKEHOUSE_PIPELINE, namespace, name))
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
    name: Name,
    *,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
    world: World = None,
    output: Output = Format.TEXT,
) -> None:
    """List a pipeline's runs, the newest last."""
    labels = {names.PIPELINE_LABEL: name}
    found = with_cluster(Where(kubeconfig, context, world), lambda c: c.list_labelled(LAKEHOUSE_RUN, namespace, labels))
    found.sort(key=lambda run: (run["metadata"]["creationTimestamp"], run["metadata"]["name"]))
    if output is not Format.TEXT:
        show([{"name": r["metadata"]["name"], "spec": r["spec"], "status": r.get("status", {})} for r in found], output)
        return
    rows = []
    for run in found:
        told, interval = run.get("status", {}), run["spec"].get("dataInterval") or run["spec"].get("days") or {}
        attempts = told.get("attempts", [])
        last = attempts[-1] if attempts else {}
        message = next((each["message"] for each in told.get("conditions", []) if each["type"] == "Succeeded"), None)
        span = " - ".join(str(value) for value in interval.values())
        named = (run["metadata"]["name"], run["spec"]["stage"], span)
        rows.append((*named, told.get("phase"), len(attempts), last.get("failureClass"), message))
    show_table(("NAME", "STAGE", "INTERVAL", "PHASE", "ATTEMPTS", "CLASS", "MESSAGE"), rows)


def run(
    name: Name,
    stage: Annotated[str, typer.Option(help="silver, gold or maintenance.")],
    *,
    first: Annotated[str | None, typer.Option("--from", help="The first event day to compute anew.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="The last one.")] = None,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
    world: World = None,
    output: Output = Format.TEXT,
) -> None:
    """Run a stage now: over what it has not seen yet, or over whole event days."""
    spec: dict[str, Any] = {"pipelineRef": {"name": name}, "stage": stage, "reason": "manual"}
    if first or last:
        spec["days"] = {"first": first or last, "last": last or first}
    asked = _object(LAKEHOUSE_RUN, namespace, names.manual_run(name, stage, _token()), spec, name)
    _refuse_problems(validate_run(asked))

    async def work(cluster: Cluster) -> str:
        return await _create_run(cluster, asked)

    _created(with_cluster(Where(kubeconfig, context, world), work), namespace, output)


def _created(run: str, namespace: str, output: Output) -> None:
    _say(output, f"created LakehouseRun {run}", LAKEHOUSE_RUN, namespace, run)


def _say(output: Output, text: str, kind: Kind, namespace: str, name: str) -> None:
    """Say what was done: in a sentence, or which object now tells of it."""
    if output is Format.TEXT:
        typer.echo(text)
    else:
        show({"kind": kind.name, "namespace": namespace, "name": name}, output)


def _say_asked(output: Output, namespace: str, name: str) -> None:
    _say(output, f"asked for; see: lakehouse status {name} -n {namespace}", LAKEHOUSE_PIPELINE, namespace, name)


async def _create_run(cluster: Cluster, asked: dict[str, Any]) -> str:
    """Create a run of a stage that its pipeline has."""
    name, stage = asked["spec"]["pipelineRef"]["name"], asked["spec"]["stage"]
    pipeline = await cluster.read(LAKEHOUSE_PIPELINE, asked["metadata"]["namespace"], name)
    if pipeline["spec"].get(stage) is None:
        raise Refused(f"{name} has no {stage}: spec.{stage} is not set")
    return await _create(cluster, asked)


async def _create(cluster: Cluster, asked: dict[str, Any]) -> str:
    """Create the object; answers its name. One that is there already is the same one, or an error is raised.

    After a lost answer, the object that was there already is our own.
    """
    created = await cluster.create_once(asked)
    name, spec = str(created.resource["metadata"]["name"]), created.resource["spec"]
    if not created.is_new and any(spec.get(field) != value for field, value in asked["spec"].items()):
        raise Conflict(f"there is another {asked['kind']} {name} already; try again in a second")
    return name


def _refuse_problems(judged: object) -> None:
    """What would be refused later is refused here: a world on this machine knows no schemas, a schema no calendar."""
    if isinstance(judged, Problems):
        typer.echo(f"error: {judged}", err=True)
        raise typer.Exit(FAILED)


def retry(
    run: Annotated[str, typer.Argument(help="The LakehouseRun that failed.")],
    *,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
    world: World = None,
    output: Output = Format.TEXT,
) -> None:
    """Run a failed run's interval again, with the current definition."""

    async def work(cluster: Cluster) -> str:
        old = await cluster.read(LAKEHOUSE_RUN, namespace, run)
        phase = old.get("status", {}).get("phase", "Pending")
        if phase not in ("Failed", "Cancelled"):
            raise Refused(f"{run} is {phase}; only a run that failed or was cancelled can be tried again")
        spec = {key: value for key, value in old["spec"].items() if key not in ("revision", "definition", "backfill")}
        pipeline = spec["pipelineRef"]["name"]
        name = names.manual_run(pipeline, spec["stage"], _token())
        again = _object(LAKEHOUSE_RUN, namespace, name, {**spec, "reason": "manual"}, pipeline)
        return await _create_run(cluster, again)

    _created(with_cluster(Where(kubeconfig, context, world), work), namespace, output)


def savepoint(
    name: Name,
    *,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
    world: World = None,
    output: Output = Format.TEXT,
) -> None:
    """Take a recovery point now, while the stream goes on."""
    _annotate(Where(kubeconfig, context, world, "savepoint"), namespace, name, {SAVEPOINT_ANNOTATION: _token()})
    _say_asked(output, namespace, name)


def restore(
    name: Name,
    point: Annotated[str, typer.Argument(help="The recovery point, as `lakehouse status` names it.")],
    *,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
    world: World = None,
    output: Output = Format.TEXT,
) -> None:
    """Go back to a recovery point: the stream's state and the bronze table together."""
    _ask_of_point(Where(kubeconfig, context, world, "restore"), namespace, name, point, RESTORE_ANNOTATION)
    _say_asked(output, namespace, name)


def forget(
    name: Name,
    point: Annotated[str, typer.Argument(help="The recovery point, as `lakehouse status` names it.")],
    *,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
    world: World = None,
    output: Output = Format.TEXT,
) -> None:
    """Give a recovery point up: its bronze snapshot may then expire. The savepoint's files stay where they are."""
    _ask_of_point(Where(kubeconfig, context, world, "forget"), namespace, name, point, FORGET_ANNOTATION)
    _say_asked(output, namespace, name)


def _ask_of_point(where: Where, namespace: str, name: str, point: str, annotation: str) -> None:
    """Ask something about one of a pipeline's recovery points."""
    _check_point(where, namespace, name, point)
    _annotate(where, namespace, name, {annotation: f"{point}/{_token()}"})


def _check_point(where: Where, namespace: str, name: str, point: str) -> None:
    """End with a sentence where a pipeline has no recovery point of this name."""
    known = with_cluster(where, lambda c: c.read(LAKEHOUSE_PIPELINE, namespace, name))
    points = [each["name"] for each in known.get("status", {}).get("recoveryPoints", [])]
    if point not in points:
        typer.echo(f"error: {name} has no recovery point {point}; there are: {', '.join(points) or 'none'}", err=True)
        raise typer.Exit(FAILED)


def suspend(
    name: Name,
    *,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
    world: World = None,
    output: Output = Format.TEXT,
) -> None:
    """Stop the stream with a savepoint and start no runs (sets spec.suspend; GitOps may set it back)."""
    _set(Where(kubeconfig, context, world, "suspend"), namespace, name, suspend=True)
    _say_set(output, namespace, name)


def resume(
    name: Name,
    *,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
    world: World = None,
    output: Output = Format.TEXT,
) -> None:
    """Let a suspended pipeline go on from where it stopped."""
    _set(Where(kubeconfig, context, world, "suspend"), namespace, name, suspend=False)
    _say_set(output, namespace, name)


def backfill(
    name: Name,
    *,
    first: Annotated[str, typer.Option("--from", help="The first event day, such as 2026-01-31.")],
    last: Annotated[str, typer.Option("--to", help="The last event day.")],
    reprocess: Annotated[str, typer.Option(help="none, failed or all.")] = "all",
    days_per_run: Annotated[int, typer.Option(min=1, help="Days that one run computes.")] = 1,
    max_concurrent: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = 1,
    max_events_lost: Annotated[
        float | None, typer.Option(min=0, max=1, help="The share of the present events that may be gone; else none.")
    ] = None,
    max_null_increase: Annotated[
        float | None, typer.Option(min=0, max=1, help="By how much a column's share of NULLs may rise; else 0.5.")
    ] = None,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
    world: World = None,
    output: Output = Format.TEXT,
) -> None:
    """Propose to compute event days anew. Nothing runs before it is approved."""
    limits = {"maxEventsLost": max_events_lost, "maxNullIncrease": max_null_increase}
    audit = {key: limit for key, limit in limits.items() if limit is not None}
    spec = {
        "pipelineRef": {"name": name},
        "range": {"first": first, "last": last},
        "reprocess": reprocess,
        "daysPerRun": days_per_run,
        "maxConcurrent": max_concurrent,
        **({"audit": audit} if audit else {}),
    }
    asked = names.manual_backfill(name, first, last, _token())
    proposal = _object(LAKEHOUSE_BACKFILL, namespace, asked, spec, name)
    _refuse_problems(validate_backfill(proposal))
    with_cluster(Where(kubeconfig, context, world), lambda c: _create(c, proposal))
    text = (
        f"proposed LakehouseBackfill {asked}\n"
        f"look at it: kubectl get lhb {asked} -n {namespace} -o yaml\nthen: lakehouse approve {asked} -n {namespace}"
    )
    _say(output, text, LAKEHOUSE_BACKFILL, namespace, asked)


def approve(
    backfill: Annotated[str, typer.Argument(help="The LakehouseBackfill.")],
    *,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = None,
    context: KubeContext = None,
    world: World = None,
    output: Output = Format.TEXT,
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

    with_cluster(Where(kubeconfig, context, world, "approve"), work)
    _say(output, f"approved {backfill}", LAKEHOUSE_BACKFILL, namespace, backfill)


def _annotate(where: Where, namespace: str, name: str, annotations: dict[str, str]) -> None:
    _change(where, namespace, name, {"metadata": {"annotations": annotations}})


def _set(where: Where, namespace: str, name: str, **spec: object) -> None:
    _change(where, namespace, name, {"spec": spec})


def _say_set(output: Output, namespace: str, name: str) -> None:
    _say(output, f"see: lakehouse status {name} -n {namespace}", LAKEHOUSE_PIPELINE, namespace, name)


def _change(where: Where, namespace: str, name: str, change: dict[str, Any]) -> None:
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

    with_cluster(where, work)


def _object(kind: Kind, namespace: str, name: str, spec: dict[str, Any], pipeline: str) -> dict[str, Any]:
    return {
        "apiVersion": kind.api_version,
        "kind": kind.name,
        "metadata": {"name": name, "namespace": namespace, "labels": {names.PIPELINE_LABEL: pipeline}},
        "spec": spec,
    }


def _token() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: TID251 - the edge reads the clock
