"""`validate`, `render` and `explain`: no cluster is asked, so they run in a pull request.

Exit codes: 0 good, 1 refused, 2 the command itself was wrong, 3 a change that the operator would refuse (`explain`).
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from lakehouse_operator.api.run import DataInterval, RunSpec
from lakehouse_operator.commands.output import Format, show, show_all
from lakehouse_operator.documents import DocumentsRefused, config_maps, load_documents
from lakehouse_operator.planning import job_settings, names
from lakehouse_operator.planning.change import Change, classify, worst
from lakehouse_operator.planning.child import build_child, wanted_revision
from lakehouse_operator.planning.explain import explain as explained
from lakehouse_operator.planning.explain import explain_change
from lakehouse_operator.planning.observed import Capabilities, Observed, PipelineObject
from lakehouse_operator.planning.pipeline import Problems, ValidPipeline
from lakehouse_operator.planning.reconcile import reconcile
from lakehouse_operator.planning.record import Launch, Record
from lakehouse_operator.planning.spark_manifest import build_spark_application
from lakehouse_operator.planning.validate import validate as validated
from lakehouse_operator.planning.validate import validate_backfill, validate_run

REFUSED = 1
CHANGE_REFUSED = 3
_VALIDATORS = {"LakehouseRun": validate_run, "LakehouseBackfill": validate_backfill}
File = Annotated[Path, typer.Option("--filename", "-f", help="The YAML file.", exists=True, dir_okay=False)]
Files = Annotated[list[Path], typer.Option("--filename", "-f", help="A YAML file; may be given again.", exists=True)]
Output = Annotated[Format, typer.Option("--output", "-o", help="How to print it.")]


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.command()(validate)
    app.command()(render)
    app.command()(explain)


def validate(filename: Files, output: Output = Format.TEXT) -> None:
    """Check pipelines, runs and backfills as far as that is possible without a cluster."""
    found = [(path, document, _judge(path, document)) for path in filename for document in _documents(path)]
    if output is not Format.TEXT:
        show(
            [
                {
                    "file": str(path),
                    "kind": document["kind"],
                    "name": _name(document),
                    "problems": [{"path": each.path, "message": each.message} for each in problems],
                }
                for path, document, problems in found
            ],
            output,
        )
    else:
        for path, document, problems in found:
            typer.echo(f"{path}: {document['kind']} {_name(document)}: {'refused' if problems else 'valid'}")
            for problem in problems:
                typer.echo(f"  {problem}")
    if any(problems for _, _, problems in found):
        raise typer.Exit(REFUSED)


def _judge(path: Path, document: dict[str, Any]) -> tuple[Any, ...]:
    if document["kind"] == "LakehousePipeline":
        judged: object = validated(document, config_maps(_documents(path)))
    elif document["kind"] in _VALIDATORS:
        judged = _VALIDATORS[document["kind"]](document)
    else:
        return ()
    return judged.problems if isinstance(judged, Problems) else ()


def render(filename: File, output: Output = Format.YAML) -> None:
    """Print the objects that a pipeline becomes: the FlinkDeployment, and a SparkApplication for each batch stage."""
    pipeline = _pipeline(filename)
    show_all(_manifests(pipeline), Format.YAML if output is Format.TEXT else output)


def _manifests(pipeline: ValidPipeline) -> list[dict[str, Any]]:
    launch = Launch(at="2026-01-01T00:00:00Z", mode="stateless")
    stream = build_child(
        pipeline,
        wanted_revision(pipeline),
        launch,
        state="running",
        operation=None,
        capabilities=_everything(pipeline),
        stop=None,
    )
    interval = DataInterval(start="2026-01-01T00:00:00Z", end="2026-01-02T00:00:00Z")
    batch = [
        build_spark_application(
            pipeline,
            run=names.interval_run(pipeline.name, stage, interval.start),
            run_uid="",
            spec=RunSpec(
                pipeline_ref={"name": pipeline.name},
                stage=stage,
                reason="schedule",
                data_interval=interval,
                revision=job_settings.revision(pipeline, stage),
            ),
            attempt=1,
        )
        for stage in pipeline.stages
    ]
    return [dict(stream), *batch]


def explain(
    filename: File,
    old: Annotated[
        Path | None,
        typer.Option("--from", help="The file before the change; a new pipeline without it.", exists=True),
    ] = None,
    output: Output = Format.TEXT,
) -> None:
    """Say what would be done: for a new pipeline, or for a change of one. Exit code 3: the change would be refused."""
    pipeline = _pipeline(filename)
    if old is None:
        _tell(explained(reconcile(_unseen(pipeline, filename))), {}, output)
        return
    before = _pipeline(old)
    changes = classify(before, pipeline)
    effect = worst(changes)
    told = {"effect": effect, "changes": [_told(each) for each in changes]}
    _tell(explain_change(before, pipeline), told, output)
    if any(each.is_refused for each in changes):
        raise typer.Exit(CHANGE_REFUSED)


def _tell(sentences: tuple[str, ...], facts: dict[str, Any], output: Format) -> None:
    if output is Format.TEXT:
        for sentence in sentences:
            typer.echo(sentence)
    else:
        show({**facts, "sentences": list(sentences)}, output)


def _told(change: Change) -> dict[str, Any]:
    values = {"before": change.before, "after": change.after}
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))  # days and durations as they are written
    refused = {"refused": change.refused} if change.refused else {}
    return {"path": change.path, "effect": change.effect, "renews": list(change.renews), **plain, **refused}


def _everything(pipeline: ValidPipeline) -> Capabilities:
    return Capabilities(
        flink_versions=frozenset({pipeline.spec.bronze.flink_version}),
        savepoint_redeploy=True,
        state_snapshots=True,
        spark_applications=True,
    )


def _unseen(pipeline: ValidPipeline, path: Path) -> Observed:
    """A cluster with both operators, in which nothing of the pipeline exists yet."""
    (document,) = (each for each in _documents(path) if each["kind"] == "LakehousePipeline")
    return Observed(
        now=datetime.now(UTC),  # noqa: TID251 - the edge reads the clock
        pipeline=PipelineObject(
            namespace=pipeline.namespace,
            name=pipeline.name,
            uid="",
            generation=1,
            resource_version="",
            spec=document["spec"],
            status={},
            annotations={},
            finalizers=(),
            deleting_since=None,
        ),
        capabilities=_everything(pipeline),
        record=Record(),
        stream=None,
        config_maps=config_maps(_documents(path)),
    )


def _pipeline(path: Path) -> ValidPipeline:
    """The one pipeline of a file."""
    documents = _documents(path)
    pipelines = [document for document in documents if document["kind"] == "LakehousePipeline"]
    if len(pipelines) != 1:
        typer.echo(f"error: {path} holds {len(pipelines)} LakehousePipelines; give a file with one", err=True)
        raise typer.Exit(REFUSED)
    judged = validated(pipelines[0], config_maps(documents))
    if isinstance(judged, Problems):
        typer.echo(f"error: {path}: {_name(pipelines[0])} is refused:\n{judged}", err=True)
        raise typer.Exit(REFUSED)
    return judged


def _documents(path: Path) -> tuple[dict[str, Any], ...]:
    try:
        return load_documents(path)
    except DocumentsRefused as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(REFUSED) from None


def _name(document: dict[str, Any]) -> str:
    return str((document.get("metadata") or {}).get("name", "(without a name)"))
