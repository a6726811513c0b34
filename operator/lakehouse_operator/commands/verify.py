"""`lakehouse verify`: is everything there? Kafka itself is read and compared with bronze and the dead letters.

Exit codes: 0 proven, 1 something is lost or doubled, 2 it could not be told.
"""

import os
import re
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

from lakehouse_operator.api.pipeline import PipelineSpec
from lakehouse_operator.commands import dead_letters
from lakehouse_operator.commands.local import EXIT_INTERRUPTED
from lakehouse_operator.commands.output import Format, show, show_table
from lakehouse_operator.documents import DocumentsRefused, config_maps, load_documents
from lakehouse_operator.observation.kafka import KafkaUnreadable
from lakehouse_operator.observation.observe import Look
from lakehouse_operator.observation.verify import Asked, read_again
from lakehouse_operator.observation.verify import verify as verified
from lakehouse_operator.planning.job_settings import bronze_settings
from lakehouse_operator.planning.pipeline import Problems, ValidPipeline
from lakehouse_operator.planning.secrets import stream_environment
from lakehouse_operator.planning.validate import validate
from lakehouse_operator.planning.verification import Counts, Record, Verdict

WRONG = 1
NOT_TOLD = 2
_GRACE_SECONDS = 60.0
_MOST_LINES = 20


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command()(verify)


def verify(  # noqa: PLR0917 - options, each by its name
    filename: Annotated[Path, typer.Option("--filename", "-f", help="A manifest with one LakehousePipeline.")],
    partition: Annotated[int | None, typer.Option(min=0, help="Only this partition of the source.")] = None,
    from_offset: Annotated[int | None, typer.Option(min=0, help="The first offset, in each partition.")] = None,
    to_offset: Annotated[int | None, typer.Option(min=0, help="The offset after the last, in each partition.")] = None,
    since: Annotated[str | None, typer.Option(help="Arrived at or after, as 2026-01-31T00:00:00Z.")] = None,
    until: Annotated[str | None, typer.Option(help="Arrived before.")] = None,
    grace: Annotated[
        float, typer.Option(min=0, help="For how many seconds to look again for what seems to be lost.")
    ] = _GRACE_SECONDS,
    repair: Annotated[
        bool, typer.Option("--repair", help="Write dead letters again that are lost, then look once more.")
    ] = False,
    world: Annotated[str | None, typer.Option("--world", help="A world of `lakehouse local up`.")] = None,
    output: Annotated[Format, typer.Option("--output", "-o", help="How to print it.")] = Format.TEXT,
) -> None:
    """Prove that each record of the source is in bronze, in the dead letters, or a repeat of an event in bronze.

    Reads all that the consumer group has committed, or the range that is asked for. Secrets are taken from the
    environment variables that the jobs get. Exits with 0 if it is proven, 1 if something is lost or doubled, 2 if it
    could not be told. With --repair what is proven is what is there afterwards.
    """
    asked = Asked(
        partition=partition,
        from_offset=from_offset,
        to_offset=to_offset,
        since=_moment("--since", since),
        until=_moment("--until", until),
    )
    if (since and from_offset is not None) or (until and to_offset is not None):
        _not_told("give offsets or times for the same end of the range, not both")
    pipeline = _pipeline(filename) if world is None else _pipeline_of_world(filename, world)
    look = Look(settings=bronze_settings(pipeline), secrets=_secrets(pipeline.spec))
    verdict = _verdict(pipeline, look, asked, grace, repair=repair)
    if output is Format.TEXT:
        _show(pipeline, verdict)
    else:
        show(_as_data(verdict), output)
    if verdict.outcome != "proven":
        raise typer.Exit(WRONG if verdict.outcome == "wrong" else NOT_TOLD)


def _moment(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        _not_told(f"{option} must be a time as 2026-01-31T00:00:00Z, not {text}")
    return read.replace(tzinfo=read.tzinfo or UTC)


def _pipeline(path: Path) -> ValidPipeline:
    try:
        documents = load_documents(path)
    except DocumentsRefused as error:
        _not_told(str(error))
    found = [document for document in documents if document["kind"] == "LakehousePipeline"]
    if len(found) != 1:
        _not_told(f"{path} must hold one LakehousePipeline, and holds {len(found)}")
    judged = validate(found[0], config_maps(documents))
    if isinstance(judged, Problems):
        _not_told(f"{path} is refused:\n{judged}")
    return judged


def _pipeline_of_world(path: Path, world: str) -> ValidPipeline:
    from lakehouse_operator.local import engines  # noqa: PLC0415 - a cluster needs none of it
    from lakehouse_operator.local import world as worlds  # noqa: PLC0415
    from lakehouse_operator.local.directory import world_directory  # noqa: PLC0415
    from lakehouse_operator.local.errors import EXPECTED  # noqa: PLC0415

    try:
        found = engines.find()
        return worlds.check(worlds.find(found, world_directory(found.home, world)).load(path))
    except EXPECTED as error:
        _not_told(str(error))


def _secrets(spec: PipelineSpec) -> dict[str, str]:
    """The values of the jobs' environment variables, out of this program's own environment."""
    entries = [entry for entry in stream_environment(spec) if "valueFrom" in entry]
    # Keys of AWS are only one of the ways to log in that its libraries know.
    needed = [entry for entry in entries if not entry["name"].startswith("AWS_")]
    missing = [entry for entry in needed if entry["name"] not in os.environ]
    if missing:
        told = [f"{e['name']} ({_reference(e)['key']} of Secret {_reference(e)['name']})" for e in missing]
        _not_told(f"set these environment variables: {', '.join(told)}")
    return {entry["name"]: os.environ[entry["name"]] for entry in entries if entry["name"] in os.environ}


def _reference(entry: dict[str, Any]) -> dict[str, str]:
    reference: dict[str, str] = entry["valueFrom"]["secretKeyRef"]
    return reference


def _verdict(pipeline: ValidPipeline, look: Look, asked: Asked, grace: float, *, repair: bool) -> Verdict:
    lost: dict[int, list[int]] = {}

    def note(partition: int, record: Record) -> None:
        lost.setdefault(partition, []).append(record.offset)

    def say(line: str) -> None:
        typer.echo(line, err=True)

    try:
        verdict = verified(look, asked, grace=grace, say=say, lost=note)
        if not repair or not lost:
            return verdict
        written = dead_letters.write_again(look, read_again(look, lost), datetime.now(UTC))  # noqa: TID251 - an edge
        say(f"{written} dead letters were written again; looking once more")
        verdict = verified(look, asked, grace=grace, say=say)
        return replace(verdict, notes=(*verdict.notes, f"{written} dead letters were lost, and were written again"))
    except dead_letters.WritingFailed as error:
        _not_told(str(error))
    except KafkaUnreadable as error:
        _not_told(str(error))
    except (NoSuchTableError, NoSuchNamespaceError):
        _not_told(f"the catalog has no table {pipeline.bronze_table}")
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except Exception as error:  # noqa: BLE001 - a traceback would end with 1, which says that something is lost
        # A database driver's message can hold the URL that it was given, password and all: only its kind is told.
        _not_told(f"bronze can't be read: {type(error).__name__}")


def _not_told(message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(NOT_TOLD) from None


_SENTENCES = {
    "proven": "Everything is there: each record is in bronze, in the dead letters, or a repeat of an event in bronze.",
    "wrong": "NOT everything is right, see these offsets:",
    "open": "Nothing wrong was found, but a part of what was asked for can't be judged.",
}


def _show(pipeline: ValidPipeline, verdict: Verdict) -> None:
    typer.echo(f"{pipeline.spec.source.topic} -> {pipeline.bronze_table}, {pipeline.dead_letter_topic}")
    columns = ("PARTITION", "FROM", "TO", "RECORDS", "BRONZE", "DEAD LETTERS", "REPEATS", "WRONG", "NOT READ YET")
    rows = [
        (each.range.partition, each.range.start, each.range.end, *_numbers(each.counts), each.range.not_read)
        for each in verdict.partitions
    ]
    total = sum(each.range.not_read for each in verdict.partitions)
    show_table(columns, [*rows, ("all", "", "", *_numbers(verdict.counts), total)])
    for remark in verdict.remarks:
        typer.echo(f"- {remark}")
    typer.echo(_SENTENCES[verdict.outcome])
    for finding in verdict.findings[:_MOST_LINES]:
        typer.echo(f"  partition {finding.partition}, offset {finding.offset}: {finding.message}")
    if (more := verdict.counts.wrong - len(verdict.findings[:_MOST_LINES])) > 0:
        typer.echo(f"  and {more} more; -o json names the first of each partition")


def _numbers(counts: Counts) -> tuple[int, ...]:
    return counts.records, counts.bronze, counts.dead_letters, counts.repeats + counts.late_repeats, counts.wrong


def _as_data(verdict: Verdict) -> dict[str, Any]:
    """The whole verdict, in the spelling of the API."""
    return {
        "outcome": verdict.outcome,
        **_camel(asdict(verdict.counts)),
        "remarks": list(verdict.remarks),
        "findings": [asdict(finding) for finding in verdict.findings],
        "partitions": [_camel({**asdict(each.range), **asdict(each.counts)}) for each in verdict.partitions],
    }


def _camel(values: dict[str, Any]) -> dict[str, Any]:
    return {re.sub("_(.)", lambda match: match[1].upper(), name): value for name, value in values.items()}
