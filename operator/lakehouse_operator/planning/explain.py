"""A plan as sentences, and a change as what it would do: the second interpreter, for people, beforehand."""

import json
from typing import Any, assert_never

from lakehouse_operator.planning.change import Change, classify, worst
from lakehouse_operator.planning.pipeline import ValidPipeline
from lakehouse_operator.planning.plan import (
    Action,
    Announce,
    ApplyChild,
    CreateOnce,
    Delete,
    DropFinalizer,
    DropTag,
    KeepFinalizer,
    Plan,
    RollBackTable,
    SaveRecord,
    TagSnapshot,
)

_WHAT_FOLLOWS = {
    "none": "nothing that runs is touched",
    "hot": "it counts from the next decision or the next run on; the stream is not stopped",
    "restart": "the stream is stopped with a savepoint and started again from it",
    "newState": "it is refused: the stream's state belongs to the old value; create a pipeline of another name",
}


def explain(plan: Plan) -> tuple[str, ...]:
    """What a plan would do, one sentence for each action, in their order."""
    return tuple(map(_sentence, plan.actions)) or ("Nothing to do.",)


def _sentence(action: Action) -> str:  # noqa: PLR0911, C901 - one case per kind of action
    match action:
        case KeepFinalizer():
            return "Let a deletion of the pipeline wait until its state is on record."
        case DropFinalizer():
            return "Let the deletion of the pipeline go on."
        case SaveRecord(record):
            operation = record.operation
            return f"Write down: {operation.kind}, {operation.stage}." if operation else "Write the record."
        case ApplyChild(manifest, why, _):
            return f"Apply {_named(manifest)}: {_launch(manifest)}{why}."
        case CreateOnce(manifest, why):
            return f"Create {_named(manifest)}, unless it exists: {why}."
        case Delete(_, kind, name, _, why):
            return f"Delete {kind} {name}: {why}."
        case TagSnapshot(table, tag, snapshot):
            return f"Tag snapshot {snapshot} of {table} as {tag}."
        case DropTag(table, tag):
            return f"Drop the tag {tag} of {table}."
        case RollBackTable(table, to_snapshot, _, discarded_tag):
            return f"Roll {table} back to snapshot {to_snapshot}; its head is kept under the tag {discarded_tag}."
        case Announce(_, reason, message):
            return f"Say: {reason}: {message}."
        case _:
            assert_never(action)


def _named(manifest: Any) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def _launch(manifest: Any) -> str:
    job = manifest.get("spec", {}).get("job", {}) if manifest["kind"] == "FlinkDeployment" else {}
    return f"{job['state']}, upgrade mode {job['upgradeMode']}; " if "state" in job else ""


def explain_change(old: ValidPipeline, new: ValidPipeline) -> tuple[str, ...]:
    """What a change of the spec would do, like `terraform plan`: each field, then the sum of it."""
    changes = classify(old, new)
    if not changes:
        return ("Nothing changes.",)
    lines = [_line(each) for each in changes]
    left_behind = [each for each in changes if each.refused is not None]
    if left_behind:
        return (*lines, "In all: it is refused, because a table that is there can't follow it.")
    effect = worst(changes)
    lines.append(f"In all: {effect}; {_WHAT_FOLLOWS[effect]}.")
    renewed = sorted({stage for each in changes for stage in each.renews}, key=("silver", "gold").index)
    if renewed and effect != "newState":
        lines.append(
            f"Earlier results of {' and '.join(renewed)} keep the old definition until a LakehouseBackfill renews them."
        )
    return tuple(lines)


def _line(change: Change) -> str:
    what = change.effect if change.refused is None else f"refused: {change.refused}"
    return f"{change.path}: {_short(change.before)} -> {_short(change.after)} ({what})"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str) if value is not None else "(unset)"
    return text if len(text) <= 80 else text[:77] + "..."
