"""`generate`: the Roman Numeral Service's conversion events, and the truth about them, to files or to Kafka."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from lakehouse_operator.reference.produce import SendingFailed, generate_to_files, generate_to_kafka
from lakehouse_operator.reference.traffic import Traffic

_DAY_MS = 86_400_000


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command()(generate)


def generate(
    into: Annotated[Path, typer.Option(help="A new directory: for the truth, and for the records without --kafka.")],
    *,
    events: Annotated[int, typer.Option(min=1, help="How many, repeats not counted.")] = 100_000,
    seed: Annotated[int, typer.Option(help="The same seed and end give the same bytes.")] = 0,
    days: Annotated[float, typer.Option(min=0.01, help="Over how many days they arrive.")] = 3.0,
    end: Annotated[str | None, typer.Option(help="When the last one arrives (RFC 3339); now without it.")] = None,
    partitions: Annotated[int, typer.Option(min=1, help="How many partitions the topic has.")] = 4,
    kafka: Annotated[str | None, typer.Option(help="Send to these brokers (host:port) instead of files.")] = None,
    topic: Annotated[str, typer.Option(help="The topic; it must have message.timestamp.type=CreateTime.")] = (
        "roman-numeral-events"
    ),
    rate: Annotated[float, typer.Option(min=0, help="Records per second; 0 is as fast as possible.")] = 0.0,
) -> None:
    """Generate realistic conversion events: late, repeated and malformed ones too, with the truth about each."""
    try:
        last = datetime.fromisoformat(end) if end else datetime.now(UTC)  # noqa: TID251 - the edge reads the clock
        if last.tzinfo is None:
            raise ValueError(
                f"--end {end} needs its zone, such as {end}Z: the same seed must give the same bytes anywhere"
            )
        traffic = Traffic(
            end_ms=int(last.timestamp() * 1000),
            seed=seed,
            events=events,
            span_ms=int(days * _DAY_MS),
            partitions=partitions,
        )
        if kafka is None:
            sent = generate_to_files(traffic, into)
        else:
            sent = generate_to_kafka(traffic, bootstrap_servers=kafka, topic=topic, truth_directory=into, rate=rate)
    except (ValueError, FileExistsError, SendingFailed) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{sent.records} records, the truth about them in {into}")
