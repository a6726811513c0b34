"""The command line: `lakehouse`, also as the kubectl plugin `kubectl lakehouse`."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from lakehouse_operator.commands import generate, offline, remote

app = typer.Typer(
    help="Streaming lakehouses: Kafka to Flink to bronze to Spark to silver and gold, on Apache Iceberg.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
local = typer.Typer(help="Real engines on this machine, without Docker and without Kubernetes.", no_args_is_help=True)
app.add_typer(local, name="local")
generate.register(app)
offline.register(app)
remote.register(app)

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


@app.command()
def demo(
    events: Annotated[int, typer.Option(min=1_000, help="How many events to send, repeats not counted.")] = 300_000,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the engines up, and the stream running.")] = False,
    world: Annotated[str, typer.Option(help="Where it runs: a directory below .lakehouse, made afresh.")] = "demo",
    json: Annotated[Path | None, typer.Option(help="Also write what came out to this file.")] = None,
) -> None:
    """Run the reference pipeline on real engines with a live stream of events, and check every layer.

    Exits with 1 if a check fails or an engine does.
    """
    from lakehouse_operator.local import engines  # noqa: PLC0415 - the engines' clients take seconds to load
    from lakehouse_operator.local.demo.run import Demo, Options  # noqa: PLC0415
    from lakehouse_operator.local.demo.screen import Screen  # noqa: PLC0415

    options = Options(events=events, keep=keep, world=world, json=json)
    with _plain_errors(), _interruptible():
        passed = Demo(engines.find(), options, Screen()).run()
    if not passed:
        raise typer.Exit(EXIT_FAILED)


@local.command()
def down(world: Annotated[str, typer.Argument(help="Which world.")] = "demo") -> None:
    """End every process of a world. Its files stay."""
    from lakehouse_operator.local import engines  # noqa: PLC0415
    from lakehouse_operator.local.directory import world_directory  # noqa: PLC0415
    from lakehouse_operator.local.processes import end_recorded  # noqa: PLC0415

    with _plain_errors():
        ended = end_recorded(world_directory(engines.find().home, world).records)
    typer.echo(f"ended {', '.join(ended)}" if ended else f"nothing of {world} was running")


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Expected failures end the program with their sentence, not with a traceback."""
    from lakehouse_operator.local.errors import EXPECTED  # noqa: PLC0415

    try:
        yield
    except EXPECTED as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_FAILED) from None
    except KeyboardInterrupt:
        typer.echo("interrupted; nothing was left running", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP end the program as Ctrl-C does, so that it ends what it has started first."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(app())
