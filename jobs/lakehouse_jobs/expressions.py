"""Expressions that a user wrote: checked before anything runs, and computed so that no row can fail the job.

Spark has no public `try` for any expression, only inside of `try_add` and its like. This module is the one place that
reaches into Catalyst for it, and for what Catalyst knows about an expression.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.errors import IllegalArgumentException, PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as fn

from lakehouse_contract.decoding import Problem


def attempt(expression: Column) -> Column:
    """A struct with the expression's `value`, or NULL where computing it fails.

    So a failure can be told from a NULL. It needs common subexpression elimination to be off (see `spark_session`).
    """
    jvm: Any = SparkSession.active()._jvm
    bridge = jvm.org.apache.spark.sql.classic.ExpressionUtils
    struct: Any = fn.struct(expression.alias("value"))
    tried = jvm.org.apache.spark.sql.catalyst.expressions.TryEval(bridge.expression(struct._jc))
    column: Column = type(struct)(bridge.column(tried))
    return column


def keeps(condition: str) -> Column:
    """Whether a condition is true; false where it is NULL or can't be computed."""
    return fn.coalesce(attempt(fn.expr(condition))["value"], fn.lit(False))


@dataclass(frozen=True, slots=True)
class Asked:
    """An expression of the settings: where it stands there, its text, and the Spark type that it must have."""

    path: str
    text: str
    type: str


def problems_of(expressions: Sequence[Asked], over: DataFrame) -> Sequence[Problem]:
    """What is wrong with expressions over the columns of a DataFrame, of which no row is read.

    Each must have its type, or one that can be cast to it, be computed from one row alone, and give the same value
    every time.
    """
    # Most often all are right, and Spark says so of all of them at once.
    if not expressions or _problem(expressions, over) is None:
        return ()
    each = ((asked, _problem([asked], over)) for asked in expressions)
    return tuple(Problem(asked.path, wrong) for asked, wrong in each if wrong is not None)


def _problem(expressions: Sequence[Asked], over: DataFrame) -> str | None:
    """What is wrong with some of these expressions, in words."""
    values = (fn.expr(asked.text).cast(asked.type) for asked in expressions)
    conditions = [fn.expr(asked.text) for asked in expressions if asked.type == "boolean"]
    try:
        # In one struct, so that no expression can name another one.
        selected = over.select(fn.struct(*values), *([fn.struct(*conditions)] if conditions else []))
        wrong = _wrong(selected._jdf.queryExecution().analyzed(), over)
        if wrong is None and conditions:
            found = {field.dataType.simpleString() for field in selected.schema.fields[1].dataType.fields}
            wrong = next((f"is of type {kind}, not boolean" for kind in sorted(found - {"boolean"})), None)
    except PySparkException as error:
        wrong = first_sentence(error)
    return wrong


def regex_problems(regex: str, path: str) -> Sequence[Problem]:
    """What Java says against a regular expression, alone and in the place where `quality.whole` puts it."""
    jvm: Any = SparkSession.active()._jvm
    try:
        jvm.java.util.regex.Pattern.compile(regex)
        jvm.java.util.regex.Pattern.compile(f"\\A(?:{regex})\\z")
    except IllegalArgumentException as error:
        return (Problem(path, f"is no regular expression: {first_sentence(error)}"),)
    return ()


def _wrong(analyzed: Any, over: DataFrame) -> str | None:
    source = over._jdf.queryExecution().analyzed()
    if analyzed.nodeName() != "Project" or analyzed.children().apply(0).nodeName() != source.nodeName():
        return "must be computed from one row: no aggregate, window or generator function"
    if analyzed.containsPattern(_pattern().PLAN_EXPRESSION()):
        return "must be computed from one row: no subquery"
    return unrepeatable(analyzed)


def unrepeatable(plan: Any) -> str | None:
    """Why a Catalyst plan may give another result the next time, in words; None if it can't."""
    if not plan.deterministic():
        return "must give the same value every time: no rand(), uuid(), reflect() or the like"
    if plan.containsPattern(_pattern().CURRENT_LIKE()):
        return "must give the same value every time: no current_date(), now() or the like"
    return None


def _pattern() -> Any:
    jvm: Any = SparkSession.active()._jvm
    return jvm.org.apache.spark.sql.catalyst.trees.TreePattern


def first_sentence(error: PySparkException) -> str:
    """What Spark says about an error, without the plan and the stack."""
    text = error.getMessage() if error.getCondition() else str(error)
    return text.strip().split(" SQLSTATE:")[0].split(";\n")[0].split("\n\n")[0].replace("\n", " ")
