"""What a person sees while a demo runs: a live table on a terminal, plain lines elsewhere."""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

_SECONDS_BETWEEN_LINES = 5.0
_PLAIN_WIDTH = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a stream has come.

    Attributes:
        produced: Records that were sent.
        expected: Records that will have been sent at the end, without repeats.
        bronze: Rows of the bronze table.
        dead_letters: Committed records of the dead letter topic.
        lag: Records that bronze has not committed yet.
        watermark: Flink's, in milliseconds since 1970; None before there is one.
        silver: What silver is doing, in words.
        gold: What gold is doing, in words.
    """

    produced: int
    expected: int
    bronze: int
    dead_letters: int
    lag: int
    watermark: int | None
    silver: str
    gold: str

    @property
    def watermark_text(self) -> str:
        """The watermark as a time in UTC, to the minute."""
        if self.watermark is None:
            return "none yet"
        return datetime.fromtimestamp(self.watermark / 1000, UTC).strftime("%Y-%m-%d %H:%M")

    def as_line(self) -> str:
        """All of it in one line."""
        return (
            f"produced {self.produced:,} of {self.expected:,}   bronze {self.bronze:,}   "
            f"dead letters {self.dead_letters:,}   lag {self.lag:,}   watermark {self.watermark_text}   "
            f"silver {self.silver}   gold {self.gold}"
        )

    def as_table(self) -> Table:
        """All of it as a table with a bar."""
        table = Table.grid(padding=(0, 2))
        table.add_column(width=12)
        table.add_column(width=11, justify="right")
        table.add_column()
        table.add_row(
            "produced", f"{self.produced:,}", ProgressBar(max(self.expected, self.produced), self.produced, 40)
        )
        table.add_row("bronze", f"{self.bronze:,}", f"lag {self.lag:,}   watermark {self.watermark_text}")
        table.add_row("dead letters", f"{self.dead_letters:,}")
        table.add_row("silver", "", self.silver)
        table.add_row("gold", "", self.gold)
        return table


class Screen:
    """Where a demo tells what it does. Lines stay; the progress below them is replaced by the next."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or _console()
        self._began = time.monotonic()
        self._live = Live(console=self.console, auto_refresh=False, transient=True)
        self._next_line = 0.0
        self._shown: Progress | None = None

    def say(self, text: str) -> None:
        """Print a line with the seconds since the beginning."""
        seconds = time.monotonic() - self._began
        self.console.print(f"{seconds:5.0f} s  {text}", markup=False, highlight=False, soft_wrap=True)

    def show(self, progress: Progress) -> None:
        """Show how far it has come; without a terminal every few seconds only."""
        if self.console.is_terminal:
            self._live.update(progress.as_table(), refresh=True)
        elif time.monotonic() >= self._next_line and progress != self._shown:
            self._next_line, self._shown = time.monotonic() + _SECONDS_BETWEEN_LINES, progress
            self.say(progress.as_line())

    def waiting(self) -> AbstractContextManager[object]:
        """Where nothing is told for a while: a terminal shows that the program lives."""
        return self.console.status("") if self.console.is_terminal else nullcontext()

    def progressing(self) -> AbstractContextManager[object]:
        """Where `show` may be called."""
        return self._live if self.console.is_terminal else nullcontext()


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_PLAIN_WIDTH)
