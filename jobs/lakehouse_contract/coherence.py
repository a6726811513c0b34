"""What only the parts of a domain together can tell: names that clash, columns and tables that are not there."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from lakehouse_contract import layout
from lakehouse_contract.decoding import Problem
from lakehouse_contract.domain import Dimension, KeyedTable, Model, PayloadColumn, Rule, built_in_rules
from lakehouse_contract.names import identifier, qualified, split

_ANY = KeyedTable(name="silver.any", columns=())
_BRONZE_TYPES: Mapping[str, str] = {column.name: column.type for column in layout.bronze("bronze.any").columns}
_BRONZE = frozenset(_BRONZE_TYPES)
_SILVER = frozenset(column.name for column in (*layout.silver(_ANY).columns, *layout.quarantine(_ANY).columns))
_VERSION = frozenset({"version_id", "valid_from", "valid_to", "is_current"})
_NUMBERS = ("int", "long", "double", "decimal")
_KIND_TYPES: Mapping[str, tuple[str, ...]] = {
    "range": _NUMBERS,
    "pattern": ("string",),
    "acceptedValues": ("string", "int", "long", "boolean"),
}
"""The types of columns that a kind of rule can look at; the other kinds take any."""
_LONGEST_TABLE = 63 - len(layout.QUARANTINE_SUFFIX)


def silver_problems(
    bronze: str, columns: Sequence[PayloadColumn], tables: Sequence[KeyedTable], dimensions: Sequence[Dimension]
) -> Iterator[Problem]:
    """What is wrong with silver's definition as a whole, with paths from its root."""
    yield from _names("columns", [column.name for column in columns], taken=_BRONZE, whose="bronze's own")
    for number, table in enumerate(tables):
        yield from _table_problems(f"tables[{number}]", table, columns)
    known = {table.name: table for table in tables}
    for number, dimension in enumerate(dimensions):
        yield from _dimension_problems(f"dimensions[{number}]", dimension, known)
    yield from _written_twice(bronze, tables, dimensions)


def gold_problems(sources: Sequence[str], models: Sequence[Model]) -> Iterator[Problem]:
    """What is wrong with gold's definition as a whole, with paths from its root."""
    yield from _each("sources", sources, qualified)
    namespaces = {split(model.name).namespace for model in models}
    beside = (layout.REFRESHES_TABLE, layout.FRESHNESS_VIEW, layout.AUDITS_TABLE)
    own = {f"{space}.{name}" for space in namespaces for name in beside}
    seen = {*sources, *own}
    for number, model in enumerate(models):
        if model.name in seen:
            yield Problem(
                f"models[{number}].name", f"{model.name} is another table of the pipeline; choose another name"
            )
        seen.add(model.name)


def _table_problems(path: str, table: KeyedTable, payload: Sequence[PayloadColumn]) -> Iterator[Problem]:
    names = [column.name for column in table.columns]
    yield from _names(f"{path}.columns", names, taken=_SILVER, whose="every silver table's own")
    rules = [rule.name for rule in table.rules]
    yield from _names(
        f"{path}.rules", rules, taken=frozenset(built_in_rules(payload, table)), whose="a built-in rule's"
    )
    for number, rule in enumerate(table.rules):
        yield from _rule_problems(f"{path}.rules[{number}]", rule, table, payload)
    if len(split(table.name).table) > _LONGEST_TABLE:
        yield Problem(
            f"{path}.name", f"must have at most {_LONGEST_TABLE} characters after the dot, for its quarantine"
        )


def _rule_problems(path: str, rule: Rule, table: KeyedTable, payload: Sequence[PayloadColumn]) -> Iterator[Problem]:
    if rule.unique is not None:
        own = {column.name: column.type for column in layout.silver(table).columns}
        for number, name in enumerate(rule.unique.columns):
            where = f"{path}.unique.columns[{number}]"
            if name not in own:
                yield Problem(where, f"{table.name} has no column {name}; it has: {', '.join(own)}")
            elif name in rule.unique.columns[:number]:
                yield Problem(where, f"{name} is there twice; name each column once")
    if rule.column is not None:
        known = {**_BRONZE_TYPES, **{column.name: column.type for column in payload}}
        wanted = _KIND_TYPES.get(rule.kind, ())
        found = known.get(rule.column)
        if found is None:
            message = f"there is no column {rule.column} to read; known here: {', '.join(sorted(known))}"
            yield Problem(f"{path}.{rule.kind}.column", message)
        elif wanted and not found.startswith(wanted):
            message = f"{rule.column} is of type {found}, and {rule.kind} is for {', '.join(wanted)}; use expression"
            yield Problem(f"{path}.{rule.kind}.column", message)


def _dimension_problems(path: str, dimension: Dimension, tables: dict[str, KeyedTable]) -> Iterator[Problem]:
    yield from _each(f"{path}.tracked", dimension.tracked, identifier)
    if dimension.source not in tables:
        yield Problem(
            f"{path}.source", f"there is no silver table {dimension.source}; known: {', '.join(sorted(tables))}"
        )
        return
    columns = {column.name: column.type for column in tables[dimension.source].columns}
    used = [(f"{path}.key", dimension.key)]
    used += [(f"{path}.tracked[{number}]", name) for number, name in enumerate(dimension.tracked)]
    for where, name in used:
        if name not in columns:
            yield Problem(where, f"{dimension.source} has no column {name}; it has: {', '.join(columns)}")
    if columns.get(dimension.key) == "list<string>":
        yield Problem(f"{path}.key", "a list can't be a key")
    yield from _names(
        f"{path}.tracked", dimension.tracked, taken=_VERSION | {dimension.key}, whose="the dimension's own"
    )
    if dimension.key in _VERSION:
        yield Problem(f"{path}.key", f"{dimension.key} is the dimension's own; choose another name")


def _written_twice(bronze: str, tables: Sequence[KeyedTable], dimensions: Sequence[Dimension]) -> Iterator[Problem]:
    spaces = {split(table.name).namespace for table in tables}
    seen = {bronze, *(f"{space}.{name}" for space in spaces for name in (layout.QUALITY_TABLE, layout.AUDITS_TABLE))}
    written = [(f"tables[{i}].name", name) for i, table in enumerate(tables) for name in _written(table)]
    written += [(f"dimensions[{i}].name", dimension.name) for i, dimension in enumerate(dimensions)]
    for path, name in written:
        if name in seen:
            yield Problem(path, f"{name} is another table of the pipeline; choose another name")
        seen.add(name)


def _written(table: KeyedTable) -> tuple[str, str]:
    return table.name, table.name + layout.QUARANTINE_SUFFIX


def _names(path: str, names: Sequence[str], *, taken: frozenset[str], whose: str) -> Iterator[Problem]:
    for number, name in enumerate(names):
        where = f"{path}[{number}]" if path.endswith("tracked") else f"{path}[{number}].name"
        if name in taken:
            yield Problem(where, f"{name} is {whose}; choose another name")
        elif name in names[:number]:
            yield Problem(where, f"{name} is there twice; give each a name of its own")
        elif name.startswith("_"):
            yield Problem(where, f"{name}: names with a leading underscore are the jobs' own; choose another name")


def _each(path: str, names: Sequence[str], check: Callable[[str], str | None]) -> Iterator[Problem]:
    for number, name in enumerate(names):
        if wrong := check(name):
            yield Problem(f"{path}[{number}]", wrong)
