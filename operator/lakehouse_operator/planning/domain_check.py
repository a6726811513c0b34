"""The domain as data, checked before anything runs.

What clashes is the contract's to say (`coherence`: the jobs refuse it too). What only the operator looks at before a
run stands here: expressions over columns that are not there, SQL that is none, models that read what nobody makes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import TypeVar

from lakehouse_contract import coherence, decoding, layout
from lakehouse_contract.decoding import Problem
from lakehouse_contract.domain import Dimension, KeyedTable, Model, PayloadColumn, Rule
from lakehouse_operator.api.parts import Part
from lakehouse_operator.api.pipeline import Gold, PipelineSpec, Silver
from lakehouse_operator.api.pipeline import KeyedTable as KeyedTableSpec
from lakehouse_operator.api.pipeline import Model as ModelSpec
from lakehouse_operator.api.values import seconds
from lakehouse_operator.planning import sql_check
from lakehouse_operator.planning.pipeline import GoldModels, OwnJob, SilverTables
from lakehouse_operator.planning.sql_check import ParsedModel

T = TypeVar("T")

_BRONZE = frozenset(column.name for column in layout.bronze("bronze.any").columns)


@dataclass(frozen=True, slots=True)
class Domain:
    """What a pipeline's batch stages compute; of use only where there are no problems."""

    silver: SilverTables | OwnJob | None
    gold: GoldModels | OwnJob | None
    problems: tuple[Problem, ...]


def check(spec: PipelineSpec, bronze_table: str, config_maps: Mapping[str, Mapping[str, str]]) -> Domain:
    """Check what silver and gold compute.

    Args:
        spec: The pipeline's spec, sound in its shape.
        bronze_table: The bronze table's name.
        config_maps: Name -> data of the ConfigMaps that may hold models.
    """
    silver = _silver(spec.silver)
    gold = _Gold(spec.gold, silver, config_maps)
    problems = [
        *_silver_problems(silver, bronze_table),
        *_ages(spec.silver),
        *gold.problems(),
        *_doubles(spec, silver, bronze_table),
    ]
    return Domain(silver, gold.build(), tuple(problems))


def _contract(kind: type[T], part: Part) -> T:
    return decoding.decode(kind, part.to_raw())


def _table(table: KeyedTableSpec) -> KeyedTable:
    """The same in the contract's units."""
    raw = table.to_raw()
    for rule in raw.get("rules", ()):
        if "freshness" in rule:
            # Nothing is no age: a spec that says it is refused (`_ages`), so it must still be read here.
            rule["freshness"] = {"maxAgeSeconds": max(1, seconds(rule["freshness"]["maxAge"]))}
    return decoding.decode(KeyedTable, raw)


def _silver(silver: Silver | None) -> SilverTables | OwnJob | None:
    if silver is None:
        return None
    if silver.job is not None:
        return OwnJob(entry_point=silver.job.entry_point, arguments=silver.job.arguments, writes=silver.job.writes)
    return SilverTables(
        columns=tuple(_contract(PayloadColumn, column) for column in silver.columns),
        tables=tuple(map(_table, silver.tables)),
        dimensions=tuple(_contract(Dimension, dimension) for dimension in silver.dimensions),
    )


# --- silver ---------------------------------------------------------------------------------------------------------


def _silver_problems(silver: SilverTables | OwnJob | None, bronze_table: str) -> Iterator[Problem]:
    if not isinstance(silver, SilverTables):
        return
    clashes = coherence.silver_problems(bronze_table, silver.columns, silver.tables, silver.dimensions)
    yield from (Problem(f"spec.silver.{problem.path}", problem.message) for problem in clashes)
    known = _BRONZE | {column.name for column in silver.columns}
    for index, table in enumerate(silver.tables):
        path = f"spec.silver.tables[{index}]"
        for number, column in enumerate(table.columns):
            yield from _expression(f"{path}.columns[{number}].expression", column.expression, known)
        if table.where is not None:
            yield from _expression(f"{path}.where", table.where, known)
        for number, rule in enumerate(table.rules):
            yield from _rule(f"{path}.rules[{number}]", rule, known)


def _rule(path: str, rule: Rule, known: frozenset[str]) -> Iterator[Problem]:
    if rule.expression is not None:
        yield from _expression(f"{path}.expression", rule.expression, known)
    if rule.pattern is not None:
        for message in sql_check.regex_problems(rule.pattern.regex):
            yield Problem(f"{path}.pattern.regex", message)


def _ages(silver: Silver | None) -> Iterator[Problem]:
    for index, table in enumerate(silver.tables if silver else ()):
        for number, rule in enumerate(table.rules):
            if rule.freshness is not None and not seconds(rule.freshness.max_age):
                path = f"spec.silver.tables[{index}].rules[{number}].freshness.maxAge"
                yield Problem(path, "must be longer than 0s: no event is younger than that")


def _expression(path: str, text: str, known: frozenset[str]) -> Iterator[Problem]:
    for message in sql_check.expression_problems(text, known):
        yield Problem(path, message)


# --- gold -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Read:
    """A model with its SQL found and parsed."""

    path: str
    model: ModelSpec
    sql: str
    parsed: ParsedModel


class _Gold:
    """The models of a pipeline, read once; then what is wrong with them, and in which order they run."""

    def __init__(
        self,
        gold: Gold | None,
        silver: SilverTables | OwnJob | None,
        config_maps: Mapping[str, Mapping[str, str]],
    ) -> None:
        self._gold = gold
        self._silver = silver
        self._unreadable: list[Problem] = []
        self._read = tuple(self._read_models(config_maps))
        self._sources: Mapping[str, tuple[str, ...] | None] = dict(_silver_columns(silver))

    def _read_models(self, config_maps: Mapping[str, Mapping[str, str]]) -> Iterator[_Read]:
        for index, model in enumerate(self._gold.models if self._gold else ()):
            path = f"spec.gold.models[{index}]"
            sql = _sql(model, path, config_maps)
            parsed = sql_check.parse_model(sql) if isinstance(sql, str) else sql
            if isinstance(parsed, ParsedModel) and isinstance(sql, str):
                yield _Read(path, model, sql, parsed)
            elif isinstance(parsed, Problem):
                self._unreadable.append(parsed)
            elif isinstance(parsed, str):
                self._unreadable.append(Problem(f"{path}.{_sql_field(model)}", parsed))

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong with the models."""
        yield from self._unreadable
        yield from self._clashes()
        names = [model.name for model in self._gold.models] if self._gold else []
        schemas = {**self._sources, **{each.model.name: _model_columns(each) for each in self._read}}
        for each in self._read:
            where = f"{each.path}.{_sql_field(each.model)}"
            for table in each.parsed.reads:
                if table not in self._sources and table not in names:
                    known = ", ".join((*self._sources, *(name for name in names if name != each.model.name)))
                    yield Problem(where, f"reads {table}, which this pipeline does not make; it makes: {known}")
            for column in sql_check.unknown_columns(each.parsed, schemas):
                yield Problem(where, f"there is no column {column} in what it reads")
            yield from _day_column(each)
        if isinstance(cycle := self._order(), Problem):
            yield cycle

    def _clashes(self) -> Iterator[Problem]:
        declared = self._gold.models if self._gold else ()
        models = [Model(name=model.name, kind="full", sql="any") for model in declared]
        for problem in coherence.gold_problems(tuple(self._sources), models):
            yield Problem(f"spec.gold.{problem.path}", problem.message)

    def _order(self) -> tuple[_Read, ...] | Problem:
        """The models so that each stands after what it reads; those that could stand anywhere stay where they are."""
        by_name = {each.model.name: each for each in self._read}
        graph = TopologicalSorter(
            {name: [table for table in each.parsed.reads if table in by_name] for name, each in by_name.items()}
        )
        try:
            graph.prepare()
        except CycleError as error:
            circle = list(reversed(error.args[1]))
            return Problem(by_name[circle[0]].path, f"reads what is computed from it: {' reads '.join(circle)}")
        ordered: list[_Read] = []
        declared, ready = list(by_name), set(graph.get_ready())
        while ready:
            first = min(ready, key=declared.index)
            ordered.append(by_name[first])
            graph.done(first)
            ready = (ready - {first}) | set(graph.get_ready())
        return tuple(ordered)

    def build(self) -> GoldModels | OwnJob | None:
        """What gold computes; of use only where there are no problems."""
        if self._gold is None:
            return None
        if self._gold.job is not None:
            job = self._gold.job
            return OwnJob(entry_point=job.entry_point, arguments=job.arguments, writes=job.writes)
        order = self._order()
        models = () if isinstance(order, Problem) else order
        return GoldModels(
            sources=tuple(self._sources),
            models=tuple(
                Model(
                    name=each.model.name,
                    kind=each.model.kind,
                    sql=each.sql,
                    day_column=each.model.day_column,
                    when_changed=each.model.when_changed,
                )
                for each in models
            ),
        )


def _sql_field(model: ModelSpec) -> str:
    return "sql" if model.sql is not None else "sqlFrom"


def _sql(model: ModelSpec, path: str, config_maps: Mapping[str, Mapping[str, str]]) -> str | Problem:
    if model.sql_from is None:
        return model.sql or ""
    named = model.sql_from
    found = config_maps.get(named.config_map)
    if found is None:
        return Problem(
            f"{path}.sqlFrom.configMap", f"there is no ConfigMap {named.config_map} in the namespace or the file"
        )
    if named.key not in found:
        known = ", ".join(sorted(found)) or "nothing"
        return Problem(f"{path}.sqlFrom.key", f"ConfigMap {named.config_map} has no key {named.key}; it has: {known}")
    return found[named.key]


def _silver_columns(silver: SilverTables | OwnJob | None) -> Iterator[tuple[str, tuple[str, ...] | None]]:
    """The tables that models may read, each with its columns where they are known."""
    if isinstance(silver, OwnJob):
        yield from ((name, None) for name in silver.writes)
    if isinstance(silver, SilverTables):
        tables = {table.name: table for table in silver.tables}
        for table in silver.tables:
            yield table.name, tuple(column.name for column in layout.silver(table).columns)
        for dimension in silver.dimensions:
            yield dimension.name, _dimension_columns(dimension, tables.get(dimension.source))


def _dimension_columns(dimension: Dimension, source: KeyedTable | None) -> tuple[str, ...] | None:
    if source is None or not {dimension.key, *dimension.tracked} <= {column.name for column in source.columns}:
        return None
    return tuple(column.name for column in layout.dimension(dimension, source).columns)


def _model_columns(each: _Read) -> tuple[str, ...] | None:
    if each.parsed.columns is None:
        return None
    return (*each.parsed.columns, *(column.name for column in layout.AUDIT))


def _day_column(each: _Read) -> Iterator[Problem]:
    day, columns = each.model.day_column, each.parsed.columns
    if day is not None and columns is not None and day not in columns:
        yield Problem(f"{each.path}.dayColumn", f"the SELECT gives no column {day}; it gives: {', '.join(columns)}")


# --- everything -----------------------------------------------------------------------------------------------------


def _doubles(spec: PipelineSpec, silver: SilverTables | OwnJob | None, bronze_table: str) -> Iterator[Problem]:
    """What gold, or a job of one's own, would write over. Clashes within a stage are the contract's."""
    taken = {bronze_table}
    if isinstance(silver, SilverTables):
        taken |= {table.name + layout.QUARANTINE_SUFFIX for table in silver.tables}
        taken |= set(silver.results)
        own = set(silver.writes)
    else:
        own = set(silver.writes) if silver else set()
        yield from _taken("spec.silver.job.writes", silver.writes if silver else (), taken, "")
    if spec.gold is not None:
        yield from _taken("spec.gold.models", [model.name for model in spec.gold.models], taken, ".name")
        yield from _taken("spec.gold.job.writes", spec.gold.job.writes if spec.gold.job else (), taken | own, "")


def _taken(path: str, names: Sequence[str], taken: set[str], field: str) -> Iterator[Problem]:
    for index, name in enumerate(names):
        if name in taken:
            yield Problem(f"{path}[{index}]{field}", f"{name} is another table of the pipeline; choose another name")
