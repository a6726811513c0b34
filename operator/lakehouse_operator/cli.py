"""The command line: `lakehouse`, also as the kubectl plugin `kubectl lakehouse`."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from lakehouse_operator.commands import generate, installation, offline, remote, verify
from lakehouse_operator.commands import local as local_commands
from lakehouse_operator.commands.local import EXIT_FAILED, plain_errors

app = typer.Typer(
    help="Streaming lakehouses: Kafka to Flink to bronze to Spark to silver and gold, on Apache Iceberg.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
local = typer.Typer(help="Real engines on this machine, without Docker and without Kubernetes.", no_args_is_help=True)
operator = typer.Typer(
    help="The operator itself: whether it is well, and letting go when it is gone.", no_args_is_help=True
)
app.add_typer(local, name="local")
app.add_typer(operator, name="operator")
generate.register(app)
offline.register(app)
remote.register(app)
verify.register(app)
local_commands.register(local)
installation.register(operator)


@app.command()
def demo(
    events: Annotated[int, typer.Option(min=1_000, help="How many events to send, repeats not counted.")] = 200_000,
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
    with plain_errors(), _interruptible():  # its engines have ended when the interruption gets here
        passed = Demo(engines.find(), options, Screen()).run()
    if not passed:
        raise typer.Exit(EXIT_FAILED)


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
