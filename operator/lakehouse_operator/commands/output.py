"""How answers are printed: for people, or as JSON or YAML for programs."""

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import typer
import yaml
from rich.console import Console
from rich.table import Table


class Format(StrEnum):
    """How an answer is printed."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


def show(value: Any, form: Format) -> None:
    """Print a value of JSON's types."""
    if form is Format.JSON:
        typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
    else:
        typer.echo(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), nl=False)


def show_all(values: Sequence[Any], form: Format) -> None:
    """Print several objects: a JSON list, or a YAML document each."""
    if form is Format.JSON:
        show(list(values), form)
    else:
        typer.echo(yaml.safe_dump_all(values, sort_keys=False, allow_unicode=True), nl=False)


def show_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table as wide as it needs to be when nobody looks at a terminal."""
    console = Console()
    if not console.is_terminal:
        console.width = 400
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    console.print(table)
