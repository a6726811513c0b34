"""Gives the parts of the job that keep state their fixed ids, in the plan that Flink has compiled.

Flink numbers the nodes of a plan as they come, and makes the names of state from the numbers. With fixed ones a
savepoint survives whatever is changed between the parts (`lakehouse_contract.state`).
"""

import json
from collections.abc import Mapping
from typing import Any

from lakehouse_contract import state
from lakehouse_jobs.plan_check import PlanRefused


def with_fixed_ids(text: str, tables: Mapping[str, str]) -> str:
    """The compiled plan with fixed ids.

    Args:
        text: The plan as JSON, as Flink has compiled it.
        tables: Which table, by its whole name in SQL, is which one of `state.PARTS`.

    Raises:
        PlanRefused: It has not exactly the parts that the contract names.
    """
    plan = json.loads(text)
    ids: dict[int, int] = {}
    free = state.FIRST_FREE_ID
    for node in plan["nodes"]:
        part = _part(node, tables)
        if part is None:
            part, free = free, free + 1
        ids[node["id"]] = part
    missing = {part.id for part in state.PARTS} - {*ids.values()}
    if missing or len({*ids.values()}) != len(ids):
        kinds = ", ".join(sorted(node["type"] for node in plan["nodes"]))
        raise PlanRefused(f"the plan has other parts that keep state than its savepoints: {kinds}")
    for node in plan["nodes"]:
        node["id"] = ids[node["id"]]
    for edge in plan["edges"]:
        edge["source"], edge["target"] = ids[edge["source"]], ids[edge["target"]]
    return json.dumps(plan)


def _part(node: Mapping[str, Any], tables: Mapping[str, str]) -> int | None:
    """The fixed id of a node; None for one that keeps nothing."""
    kind = node["type"].rpartition("_")[0]
    if kind in state.STATELESS:
        return None
    table = _written(node)
    wanted = None if table is None else tables.get(table)
    for part in state.PARTS:
        if part.node == kind and part.table == wanted:
            return part.id
    raise PlanRefused(f"the plan has a part of type {node['type']}, and it is not known whether that keeps state")


def _written(node: Mapping[str, Any]) -> str | None:
    """The name of the table that a sink writes."""
    sink = node.get("dynamicTableSink")
    return None if sink is None else str(sink["table"]["identifier"])
