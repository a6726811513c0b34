"""`lakehouse local`: the same pipelines on real engines on this machine, without Docker and without Kubernetes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

_SETTLE_SECONDS = 300.0
_LOOK_SECONDS = 0.5
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
World = Annotated[str, typer.Option("--world", help="Which world: a directory below .lakehouse.")]


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    for command in (up, down):
        app.command()(command)


def up(
    file: Annotated[Path, typer.Option("--file", "-f", help="A manifest with one LakehousePipeline.")],
    world: World = "local",
    timeout: Annotated[float, typer.Option(help="How many seconds to wait until it is so.")] = _SETTLE_SECONDS,
) -> None:
    """Make a pipeline run on this machine as its manifest says; again after each change of the manifest.

    A change does what it does in a cluster: the stream is stopped with a savepoint and goes on from it. Everything
    runs on in the background until `lakehouse local down`.
    """
    from lakehouse_operator.local import engines  # noqa: PLC0415 - the engines' clients take seconds to load
    from lakehouse_operator.local import world as worlds  # noqa: PLC0415
    from lakehouse_operator.local.directory import world_directory  # noqa: PLC0415
    from lakehouse_operator.local.processes import Processes  # noqa: PLC0415

    with plain_errors():
        installed = engines.find()
        directory = world_directory(installed.home, world)
        worlds.read_manifest(file)  # what is refused starts nothing
        with worlds.alone(directory):
            if not worlds.is_up(directory):
                typer.echo("starting Kafka and the operator")
                directory.make()
                worlds.end(directory)  # what a crash may have left
                with Processes(directory.records, directory.logs) as processes:
                    worlds.start(installed, directory, processes, logged=True)
                    processes.keep()
            found = worlds.find(installed, directory)
            pipeline = found.load(file)
            found.apply(pipeline)
        name = pipeline["metadata"]["name"]
        typer.echo(f"Kafka at {found.bootstrap_servers}, logs in {directory.logs}")

        def look() -> dict[str, Any]:
            worlds.find(installed, directory)  # a world whose operator has ended never settles
            return found.pipeline(name)

        settled = until_settled(look, typer.echo, timeout)
        if url := found.flink_url(name):
            typer.echo(f"Flink at {url}")
    if not settled:
        raise typer.Exit(EXIT_FAILED)


def until_settled(read: Callable[[], dict[str, Any]], say: Callable[[str], None], seconds: float) -> bool:
    """Wait until a pipeline is as its manifest says, and tell of every change of its state.

    Args:
        read: Reads the pipeline.
        say: Takes a line for a person.
        seconds: The deadline.

    Returns:
        Whether it is; if not, the last line says why.
    """
    deadline, told = time.monotonic() + seconds, ""
    while True:
        pipeline = read()
        status = pipeline.get("status", {})
        conditions = {each["type"]: each for each in status.get("conditions", ())}
        current = status.get("observedGeneration") == pipeline["metadata"]["generation"]
        ready, stalled = conditions.get("Ready", {}), conditions.get("Stalled", {})
        state = status.get("stream", {}).get("state", "Pending")
        line = f"{state}: {ready.get('message') or ready.get('reason') or 'waiting for the operator'}"
        if current and line != told:
            told = line
            say(line)
        if current and stalled.get("status") == "True":
            say(f"error: {stalled.get('message')}")
            return False
        if current and "Reconciling" not in conditions and (ready.get("status") == "True" or state == "Suspended"):
            return True
        if time.monotonic() > deadline:
            say(f"error: it was not so within {seconds:g} s")
            return False
        time.sleep(_LOOK_SECONDS)


def down(world: Annotated[str, typer.Argument(help="Which world.")] = "local") -> None:
    """End every process of a world. Its files stay: `lakehouse local up` goes on where it ended."""
    from lakehouse_operator.local import engines  # noqa: PLC0415
    from lakehouse_operator.local import world as worlds  # noqa: PLC0415
    from lakehouse_operator.local.directory import world_directory  # noqa: PLC0415

    with plain_errors():
        ended = worlds.end(world_directory(engines.find().home, world))
    typer.echo(f"ended {', '.join(ended)}" if ended else f"nothing of {world} was running")


@contextmanager
def plain_errors() -> Iterator[None]:
    """Expected failures end the program with their sentence, not with a traceback."""
    from lakehouse_operator.local.errors import EXPECTED  # noqa: PLC0415

    try:
        yield
    except EXPECTED as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_FAILED) from None
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
