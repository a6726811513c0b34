"""A gold model's SQL: what it reads, whether it may, and how it is bound to the snapshots that a run works on.

A model is one SELECT over the pipeline's silver tables and the models before it. Spark parses the text first: that
tells what it reads, and nothing but a query gets further. Each table's name in the text is then replaced by a view on
one snapshot, so that everything that a run reads is one state, and what Spark makes of it is checked once more.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from lakehouse_contract import decoding
from lakehouse_contract.decoding import Problem, SettingsRefused
from lakehouse_contract.domain import Model
from lakehouse_contract.names import identifier, quoted_identifier
from lakehouse_jobs.expressions import first_sentence, unrepeatable

_LEAVES = frozenset(
    {"Range", "OneRowRelation", "LocalRelation", "CTERelationRef", "UnionLoopRef", "DataSourceV2Relation"}
)
_ROW_BY_ROW = frozenset({"Project", "Filter", "SubqueryAlias", "View", "DataSourceV2Relation"})
IS_CURRENT = "is_current"
_LATER = frozenset({IS_CURRENT, "valid_to"})
"""The columns of a version that later events change. A table that has all of them is a dimension or a copy of one."""
_TYPES = (
    *("string", "boolean", "tinyint", "smallint", "int", "bigint", "float", "double", "decimal", "date"),
    *("timestamp", "timestamp_ntz", "binary", "array", "map", "struct"),
)


@dataclass(frozen=True, slots=True)
class Relation:
    """A table's name in a model's text: which table, where it stands, and whether an alias follows."""

    table: str
    first: int
    last: int
    has_alias: bool


@dataclass(frozen=True, slots=True)
class Query:
    """A model's checked text."""

    text: str
    relations: tuple[Relation, ...]

    @property
    def reads(self) -> tuple[str, ...]:
        """The tables that it reads, each once, sorted."""
        return tuple(sorted({relation.table for relation in self.relations}))


def revision(model: Model) -> str:
    """Names what a model computes: another text, kind or day column is another revision."""
    return hashlib.sha256(decoding.to_json(model).encode()).hexdigest()[:16]


def parse(spark: SparkSession, catalog: str, model: Model, allowed: Sequence[str]) -> Query:
    """Read a model's text.

    Raises:
        SettingsRefused: It is not one SELECT over allowed tables. The path is `sql`.
    """
    text = model.sql.strip().rstrip(";").rstrip()
    try:
        plan = _parser(spark).parsePlan(text)
        if not _is_query(spark, plan):
            raise _refused(f"must be one SELECT, not {plan.nodeName()}")
        _parser(spark).parsePlan(f"SELECT * FROM (\n{text}\n)")  # noqa: S608 - parsed, not run
    except PySparkException as error:
        raise _refused(first_sentence(error)) from None
    relations, problems = [], []
    ctes = {str(name).lower() for name in _cte_names(plan)}
    for found in sorted(set(_relations(plan)), key=lambda relation: relation.first):
        # A catalog may have the name of a namespace.
        name = found.table if found.table in allowed else found.table.removeprefix(f"{catalog}.")
        if "." not in name and name in ctes:
            continue
        if name not in allowed:
            problems.append(
                f"reads {found.table}, which is neither a silver table of the pipeline nor a model before it"
            )
        relations.append(Relation(name, found.first, found.last, found.has_alias))
    if problems:
        raise _refused(*problems)
    return Query(text, tuple(relations))


def bind(spark: SparkSession, query: Query, tables: Mapping[str, DataFrame]) -> DataFrame:
    """The query as a DataFrame over these DataFrames in the place of the tables that it names.

    Raises:
        SettingsRefused: It can't be computed from their columns, or not the same way every time. The path is `sql`.
    """
    views = {table: f"lakehouse_{table.replace('.', '__')}" for table in query.reads}
    for table, view in views.items():
        tables[table].createOrReplaceTempView(view)
    text = query.text
    for relation in sorted(query.relations, key=lambda relation: -relation.first):
        view = quoted_identifier(views[relation.table])
        name = view if relation.has_alias else f"{view} AS {quoted_identifier(relation.table.split('.')[1])}"
        text = f"{text[: relation.first]}{name}{text[relation.last + 1 :]}"
    try:
        bound = spark.sql(text)
    except PySparkException as error:
        raise _refused(first_sentence(error)) from None
    finally:
        for view in views.values():
            spark.catalog.dropTempView(view)
    wrong = _strange(bound, tables)
    if wrong:
        raise _refused(wrong)
    return bound


def _strange(bound: DataFrame, tables: Mapping[str, DataFrame]) -> str | None:
    """What Spark must not have made of a query, in words. It trusts nothing that was read in the text."""
    plan = _plan(bound)
    if plan.isStreaming():
        return "must not read a table as a stream"
    given = {_name(leaf) for table in tables.values() for leaf in _leaves(_plan(table))}
    strange = {
        _name(leaf) for leaf in _leaves(plan) if leaf.nodeName() not in _LEAVES or _name(leaf) not in given | _LEAVES
    }
    if strange:
        return f"reads something that is not a table of the pipeline: {', '.join(sorted(strange))}"
    return unrepeatable(plan)


def _name(leaf: Any) -> str:
    """A leaf of a plan: a table with its snapshot, else the kind of leaf."""
    if leaf.nodeName() != "DataSourceV2Relation":
        return str(leaf.nodeName())
    return f"{leaf.identifier().get()} {leaf.timeTravelSpec()}"


def _leaves(plan: Any) -> list[Any]:
    return [node for node in _every(plan) if not node.children().nonEmpty()]


def _plan(rows: DataFrame) -> Any:
    return rows._jdf.queryExecution().analyzed()


def check_columns(model: Model, columns: DataFrame) -> None:
    """Refuse columns that a table can't have.

    Raises:
        SettingsRefused: The path is `sql` or `dayColumn`.
    """
    problems = []
    names = [field.name.lower() for field in columns.schema.fields]
    for field in columns.schema.fields:
        said = identifier(field.name.lower())
        if said:
            problems.append(Problem("sql", f"its column {said}; name it with AS"))
        elif field.name.startswith("_audit"):
            problems.append(Problem("sql", f"its column {field.name} is one that every gold table has already"))
        if not field.dataType.simpleString().startswith(_TYPES):
            problems.append(Problem("sql", f"its column {field.name} is of type {field.dataType.simpleString()}, "
                                           "which no table can hold; cast it"))  # fmt: skip
    problems += [
        Problem("sql", f"gives the column {name} twice") for name in sorted({n for n in names if names.count(n) > 1})
    ]
    if model.day_column is not None:
        types = {field.name.lower(): field.dataType.simpleString() for field in columns.schema.fields}
        found = types.get(model.day_column)
        if found != "date":
            what = "gives no such column" if found is None else f"gives it as {found}, not as date"
            problems.append(Problem("dayColumn", f"{model.day_column}: the model's SQL {what}"))
    if problems:
        raise SettingsRefused(tuple(problems))


def check_as_of(model: Model, bound: DataFrame) -> None:
    """Refuse a model by day whose rows of old days would change with every later version of a dimension.

    Only days on which another version was in force are computed again. `valid_to` and `is_current` of a version change
    with what comes after it, so `is_current` has no place in such a model, and `valid_to` only in conditions.

    Raises:
        SettingsRefused: The path is `sql`.
    """
    if model.kind != "incrementalByDay":
        return
    later = {name: set[int]() for name in _LATER}
    plan = _plan(bound)
    for leaf in _leaves(plan):
        columns = {str(column.name()): column.exprId().id() for column in _items(leaf.output())}
        if columns.keys() >= _LATER:
            for name in _LATER:
                later[name].add(columns[name])
    tainted = set.union(*later.values())
    for node in _from_leaves(plan):
        for expression in _items(node.expressions()):
            used = {attribute.exprId().id() for attribute in _items(expression.references().toSeq())}
            if used & later[IS_CURRENT] and not _passes_on(expression):
                raise _refused(f"a model by day must not depend on {IS_CURRENT}: join as of the event's time")
            if used & tainted and expression.getClass().getSimpleName() == "Alias":
                tainted.add(expression.exprId().id())
    given = [column.name() for column in _items(plan.output()) if column.exprId().id() in tainted]
    if given:
        raise _refused(
            f"a model by day must not give {', '.join(given)}: the end of a version changes with what comes after it"
        )


def _passes_on(expression: Any) -> bool:
    return str(expression.getClass().getSimpleName()) == "AttributeReference"


def is_row_by_row(bound: DataFrame) -> bool:
    """Whether each row comes from one row of one table, so that what changed there is all that can change here."""
    plan = _plan(bound)
    return len(_leaves(plan)) == 1 and all(node.nodeName() in _ROW_BY_ROW for node in _every(plan))


def _parser(spark: SparkSession) -> Any:
    return spark._jsparkSession.sessionState().sqlParser()


def _is_query(spark: SparkSession, plan: Any) -> bool:
    jvm: Any = spark._jvm
    command = jvm.java.lang.Class.forName("org.apache.spark.sql.catalyst.plans.logical.Command")
    parsed = jvm.java.lang.Class.forName("org.apache.spark.sql.catalyst.plans.logical.ParsedStatement")
    return not (command.isInstance(plan) or parsed.isInstance(plan)) and "Insert" not in plan.nodeName()


def _relations(plan: Any) -> Iterator[Relation]:
    for node, parent in _with_parents(plan):
        if node.getClass().getSimpleName() == "UnresolvedRelation":
            origin = node.origin()
            table = ".".join(str(part) for part in _items(node.multipartIdentifier())).lower()
            yield Relation(table, origin.startIndex().get(), origin.stopIndex().get(), parent == "SubqueryAlias")


def _cte_names(plan: Any) -> Iterator[Any]:
    for node, _parent in _with_parents(plan):
        if node.getClass().getSimpleName() == "UnresolvedWith":
            for relation in _items(node.cteRelations()):
                yield relation._1()


def _every(plan: Any) -> Iterator[Any]:
    """Every node of an analyzed plan, with those of its subqueries."""
    for node, _parent in _with_parents(plan):
        yield node


def _from_leaves(plan: Any) -> Iterator[Any]:
    """Every node after those that it is made of."""
    for child in (*_items(plan.children()), *_items(plan.subqueries())):
        yield from _from_leaves(child)
    yield plan


def _with_parents(plan: Any, parent: str = "") -> Iterator[tuple[Any, str]]:
    yield plan, parent
    name = plan.getClass().getSimpleName()
    children = [*_items(plan.children())]
    if name == "UnresolvedWith":
        children += [relation._2() for relation in _items(plan.cteRelations())]
    for child in children:
        yield from _with_parents(child, name)
    for subquery in _items(plan.subqueries()):
        yield from _with_parents(subquery, name)


def _items(sequence: Any) -> Iterator[Any]:
    for index in range(sequence.size()):
        yield sequence.apply(index)


def _refused(*sentences: str) -> SettingsRefused:
    return SettingsRefused(tuple(Problem("sql", sentence) for sentence in sentences))
