"""What differs between two specs, and what each difference does to what runs.

The effect stands on the field itself (`api.parts.rolls`), so whoever reads the type knows it; fields below inherit it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from lakehouse_contract import evolution, layout
from lakehouse_contract.tables import Table
from lakehouse_operator.api.parts import Effect, KeyedBy, Rolls
from lakehouse_operator.planning.pipeline import SilverTables, ValidPipeline

_SEVERITY: Mapping[Effect, int] = {"none": 0, "hot": 1, "restart": 2, "newState": 3}
_NOTHING = Rolls("none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One field that differs. `renews`: the stages whose earlier results keep the old definition until a backfill.

    `refused` says why a table that is there can't follow the change, and what would work instead.
    """

    path: str
    effect: Effect
    renews: tuple[str, ...]
    before: Any
    after: Any
    refused: str | None = None

    @property
    def is_refused(self) -> bool:
        """Whether the spec with this change is not accepted."""
        return self.effect == "newState" or self.refused is not None


def classify(old: ValidPipeline, new: ValidPipeline) -> tuple[Change, ...]:
    """Every field in which two pipelines differ, in the order of the types. Defaults count as if they were written."""
    changes = (*_below(old.spec, new.spec, "spec", _NOTHING), *_tables_left_behind(old, new))
    if old.bronze_table == new.bronze_table:
        return tuple(each for each in changes if each.path != "spec.bronze.table")
    others = (each for each in changes if each.path != "spec.bronze.table")
    table = Change(
        path="spec.bronze.table", effect="newState", renews=(), before=old.bronze_table, after=new.bronze_table
    )
    return (*others, table)


def _tables_left_behind(old: ValidPipeline, new: ValidPipeline) -> Iterator[Change]:
    """The changes of silver's columns that its tables can't follow."""
    if not isinstance(old.silver, SilverTables) or not isinstance(new.silver, SilverTables):
        return
    before, after = _columns(old.silver), _columns(new.silver)
    for (kind, table), columns in before.items():
        wanted = after.get((kind, table))
        if wanted is None:  # it is no longer kept up, and stays as it is
            continue
        for each in evolution.refusals(table, columns, wanted):
            yield Change(
                path=f"spec.silver.{kind}[{table}].{'columns' if kind == 'tables' else 'tracked'}[{each.column}]",
                effect="hot",
                renews=(),
                before=columns[each.column],
                after=wanted.get(each.column),
                refused=each.message,
            )


def _columns(silver: SilverTables) -> dict[tuple[str, str], dict[str, str]]:
    """Each table's columns with their types."""
    tables = {table.name: table for table in silver.tables}
    found = {("tables", name): _types(layout.silver(table)) for name, table in tables.items()}
    for dimension in silver.dimensions:
        found["dimensions", dimension.name] = _types(layout.dimension(dimension, tables[dimension.source]))
    return found


def _types(table: Table) -> dict[str, str]:
    return {column.name: column.type for column in table.columns}


def worst(changes: tuple[Change, ...]) -> Effect:
    """The strongest effect among changes; `none` for none."""
    return max((each.effect for each in changes), key=_SEVERITY.__getitem__, default="none")


def _below(old: BaseModel, new: BaseModel, path: str, inherited: Rolls) -> Iterator[Change]:
    for name, info in type(new).model_fields.items():
        own = next((each for each in info.metadata if isinstance(each, Rolls)), inherited)
        key = next((each.key for each in info.metadata if isinstance(each, KeyedBy)), None)
        yield from _compare(getattr(old, name), getattr(new, name), f"{path}.{info.alias or name}", own, key)


def _compare(old: Any, new: Any, path: str, rolls: Rolls, key: str | None) -> Iterator[Change]:
    if old == new:
        return
    if isinstance(old, BaseModel) and type(old) is type(new):
        yield from _below(old, new, path, rolls)
    elif key is not None and isinstance(old, tuple) and isinstance(new, tuple):
        yield from _by_key(old, new, path, rolls, key)
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for each in sorted({*old, *new}):
            yield from _compare(old.get(each), new.get(each), f"{path}[{each}]", rolls, None)
    else:
        yield Change(path=path, effect=rolls.effect, renews=rolls.renews, before=_shown(old), after=_shown(new))


def _by_key(old: tuple[Any, ...], new: tuple[Any, ...], path: str, rolls: Rolls, key: str) -> Iterator[Change]:
    """Lists whose items are told apart by a field. Their order counts only where nothing else differs."""
    before = {getattr(item, key): item for item in old}
    after = {getattr(item, key): item for item in new}
    if set(before) == set(after) and all(before[each] == after[each] for each in before):
        yield Change(path=path, effect=rolls.effect, renews=rolls.renews, before=list(before), after=list(after))
        return
    for each in dict.fromkeys([*after, *before]):
        yield from _compare(before.get(each), after.get(each), f"{path}[{each}]", rolls, None)


def _shown(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    return [_shown(item) for item in value] if isinstance(value, tuple) else value
