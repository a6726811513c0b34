"""How the columns of a table may change, and what to do where they may not. Both the operator and the jobs ask here.

A column that is new is added, and a type that only gets wider is widened, without rewriting a file; rows from before
hold NULL in a new column until their days are computed again. Everything else would make old rows wrong or lost.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lakehouse_contract.tables import widens


@dataclass(frozen=True, slots=True)
class Refusal:
    """A change of a column that can't be made, with the plan that would work."""

    column: str
    message: str


def refusals(table: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Refusal]:
    """The changes from one set of columns to another that a table can't follow.

    Args:
        table: The table's name.
        old: Column -> type as it is.
        new: Column -> type as it is wanted.
    """
    for name, kind in old.items():
        if name not in new:
            yield Refusal(name, f"{table} has the column {name}, which can't be dropped or renamed: {_KEEP}")
        elif kind != new[name] and not widens(kind, new[name]):
            said = f"{table} has the column {name} as {kind}, which can't become {new[name]}"
            yield Refusal(name, f"{said}: {_INSTEAD.format(name=name, wanted=new[name])}")


_KEEP = (
    "old rows would lose it, and what reads the table would break. Keep it, with the expression NULL if it is to be "
    "filled no more; a column of the new name can be added beside it and backfilled. Or declare a table of another "
    "name, backfill it, and move what reads this one over"
)
_INSTEAD = (
    "old rows would not fit; only int can become long, and a decimal one of more digits and the same scale. Add a "
    "column of another name with the type {wanted}, backfill it, and move what reads {name} over; or declare a table "
    "of another name"
)
