"""What can be said about a user's SQL without Spark. Provisional: Spark's own analysis decides when the job runs.

Only what is certain is refused: text that is no expression or no SELECT, columns and tables that do not exist. Where a
name could come from somewhere that is not known here, nothing is said. Answers are remembered: a spec is validated
often and its SQL changes seldom.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from sqlglot import exp, parse, parse_one
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.scope import Scope, traverse_scope

# Their value differs from one evaluation to the next: a retry would write other rows, and a MERGE that evaluates its
# source twice would lose some (apache/iceberg #11765).
_UNSTABLE = frozenset(
    {
        *("rand", "random", "randn", "randstr", "uniform", "uuid", "shuffle"),
        *("monotonically_increasing_id", "spark_partition_id", "input_file_name"),
        *("now", "current_timestamp", "current_date", "curdate", "current_time", "localtimestamp", "unix_timestamp"),
    }
)

# Columns that Spark and Iceberg add without being asked.
_HIDDEN = frozenset({"grouping__id", "_metadata", "_file", "_pos", "_spec_id", "_partition", "_deleted"})


@dataclass(frozen=True, slots=True)
class ParsedModel:
    """A SELECT: the tables that it reads, as they are written, and its result's columns, if they can be told."""

    sql: str
    reads: tuple[str, ...]
    columns: tuple[str, ...] | None


@lru_cache(maxsize=8192)
def expression_problems(text: str, known: frozenset[str]) -> tuple[str, ...]:
    """What is certainly wrong with a Spark SQL expression over the columns `known` (lower-case)."""
    found = _parsed(f"SELECT {text}\n")
    if isinstance(found, str):
        return (found,)
    if not isinstance(found, exp.Select) or len(found.expressions) != 1 or _has_more_than_columns(found):
        return ("is not one SQL expression",)
    root = found.expressions[0]
    if isinstance(root, exp.Alias):
        return ("must not be given a name with AS: its name stands beside it",)
    if isinstance(root, exp.Star) or root.find(exp.Query):
        return ("must be computed from the columns of one row: no * and no SELECT",)
    unknown = sorted({column.name for column in root.find_all(exp.Column) if _is_unknown(column, known)})
    problems = [f"there is no column {name}; known here: {', '.join(sorted(known))}" for name in unknown]
    unstable = sorted({name for name in map(_function_name, root.find_all(exp.Func)) if name in _UNSTABLE})
    problems += [f"{name}() gives another value each time, so a retry would write other rows" for name in unstable]
    return tuple(problems)


# What both Java and Python refuse, as Python says it.
_CERTAIN = ("unterminated", "unbalanced parenthesis", "missing ), ", "nothing to repeat")
_SET_IN_SET = re.compile(r"\[[^\]]*(\[|&&)")
"""Java has sets within sets, which Python reads in another way."""


def regex_problems(regex: str) -> tuple[str, ...]:
    """What is certainly wrong with a Java regular expression. The job lets Java say the rest before it writes."""
    if _SET_IN_SET.search(regex):
        return ()
    try:
        re.compile(regex)
    except re.error as error:
        if str(error).startswith(_CERTAIN):
            return (f"is no regular expression: {error}",)
    except (OverflowError, RecursionError):
        pass
    return ()


def _has_more_than_columns(select: exp.Select) -> bool:
    return any(value for name, value in select.args.items() if name not in ("expressions", "kind", "hint"))


def _is_unknown(column: exp.Column, known: frozenset[str]) -> bool:
    # A qualified name could be a field of a struct that a function makes.
    return not column.table and column.name.lower() not in known


def _function_name(function: exp.Expression) -> str:
    name: str = function.name if isinstance(function, exp.Anonymous) else function.sql_name()
    return name.lower()


@lru_cache(maxsize=1024)
def parse_model(text: str) -> ParsedModel | str:
    """Read a model's SQL; a string says why it can't be used."""
    found = _parsed(text)
    if isinstance(found, str):
        return found
    if not isinstance(found, exp.Query):
        return "must be one SELECT"
    if found.find(exp.Into):
        return "must be one SELECT that writes nothing"
    return ParsedModel(text, tuple(sorted(set(_tables(found)))), _output(found))


def _parsed(text: str) -> exp.Expression | str:
    try:
        statements = parse(text, read="spark")
    except SqlglotError as error:
        detail = str(error).splitlines()[0] if str(error) else "no detail"
        return f"is not Spark SQL: {_plain(detail)}"
    except RecursionError:
        return "is nested too deeply to be read"
    if len(statements) != 1 or statements[0] is None:
        return "must be one statement, without a semicolon"
    return statements[0]


def _plain(detail: str) -> str:
    """The parser's message without the codes that underline text in a terminal."""
    return detail.replace("\x1b[4m", "").replace("\x1b[0m", "").rstrip(".")


def _tables(query: exp.Query) -> Iterator[str]:
    defined = {cte.alias.lower() for cte in query.find_all(exp.CTE)}
    for table in query.find_all(exp.Table):
        # range(...) is a function, not a table; and a hint only repeats an alias.
        if isinstance(table.this, exp.Func) or table.find_ancestor(exp.Hint):
            continue
        name = ".".join(part.name for part in table.parts)
        if name.lower() not in defined:
            yield name.lower()


def _output(query: exp.Query) -> tuple[str, ...] | None:
    names = query.named_selects
    if len(names) != len(query.selects) or any(projection.is_star for projection in query.selects):
        return None
    return tuple(name.lower() for name in names)


def unknown_columns(model: ParsedModel, schemas: Mapping[str, tuple[str, ...] | None]) -> tuple[str, ...]:
    """The columns that a model certainly reads in vain, as `table.column`.

    Args:
        model: The model.
        schemas: The columns of the tables that it reads, lower-case; None where they can't be told.
    """
    return _unknown(model.sql, tuple((table, schemas.get(table)) for table in model.reads))


@lru_cache(maxsize=1024)
def _unknown(sql: str, schemas: tuple[tuple[str, tuple[str, ...] | None], ...]) -> tuple[str, ...]:
    try:
        scopes = traverse_scope(parse_one(sql, read="spark"))
    except SqlglotError:
        return ()
    return tuple(sorted({name for scope in scopes for name in _unknown_in(scope, dict(schemas))}))


def _unknown_in(scope: Scope, schemas: Mapping[str, tuple[str, ...] | None]) -> Iterator[str]:
    columns = {name: _columns_of(source, schemas) for name, source in scope.sources.items()}
    everywhere = {name for names in columns.values() for name in names or ()} | _aliases(scope) | _HIDDEN
    for column in scope.columns:
        # The scope also lists what its subqueries may take from it; that is theirs.
        if column.parent_select is not scope.expression:
            continue
        source, name = columns.get(column.table), column.name.lower()
        if column.table and source is not None and name not in source | _HIDDEN:
            yield f"{column.table}.{column.name}"
        if not column.table and _can_come_only_from(scope, columns) and name not in everywhere:
            yield column.name


def _columns_of(source: exp.Table | Scope, schemas: Mapping[str, tuple[str, ...] | None]) -> frozenset[str] | None:
    if isinstance(source, Scope):
        query = source.expression
        holder = query.find_ancestor(exp.CTE, exp.Subquery)
        found = _output(query) if isinstance(query, exp.Query) and not _renames(holder) else None
    else:
        known = schemas.get(".".join(part.name for part in source.parts).lower())
        found = None if _renames(source) else known
    return None if found is None else frozenset(found)


def _renames(source: exp.Expression | None) -> bool:
    """Whether it is given names for its columns: `AS t(a, b)`."""
    alias = source.args.get("alias") if source else None
    return isinstance(alias, exp.TableAlias) and bool(alias.columns)


def _can_come_only_from(scope: Scope, columns: Mapping[str, frozenset[str] | None]) -> bool:
    """Whether every source is known, and no lateral view or surrounding query could add names."""
    select = scope.expression
    open_ended = select.args.get("laterals") or select.find(exp.Lateral, exp.Unnest, exp.Pivot)
    return bool(columns) and not scope.is_subquery and not open_ended and None not in columns.values()


def _aliases(scope: Scope) -> set[str]:
    """Names that the SELECT itself gives: Spark lets later columns, GROUP BY, HAVING and ORDER BY use them."""
    projections = getattr(scope.expression, "selects", ())
    return {projection.alias.lower() for projection in projections if isinstance(projection, exp.Alias)}
