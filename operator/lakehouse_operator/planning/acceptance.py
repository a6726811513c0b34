"""Which spec is cared for: the newest one if it is accepted, else the last one that was."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lakehouse_contract.decoding import Problem
from lakehouse_operator.api import API_VERSION
from lakehouse_operator.planning import change, names
from lakehouse_operator.planning.change import Change
from lakehouse_operator.planning.observed import Observed
from lakehouse_operator.planning.pipeline import Problems, ValidPipeline, pinned_spec
from lakehouse_operator.planning.record import Record, canonical
from lakehouse_operator.planning.validate import Judge, validate


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """What is cared for, what is wrong with the newest spec, and the record afterwards.

    `pipeline` is None if no spec ever could be accepted. `changes` are those of the newest accepted spec against
    the one before it.
    """

    pipeline: ValidPipeline | None
    problems: tuple[Problem, ...]
    record: Record
    changes: tuple[Change, ...] = ()


def accept(seen: Observed, judge: Judge = validate) -> Acceptance:
    """Judge the newest spec, and go on with the last accepted one where it is refused."""
    record = seen.record
    newest = judge(_raw(seen, seen.pipeline.spec, seen.pipeline.generation), seen.config_maps)
    if isinstance(newest, Problems):
        return Acceptance(pipeline=_read(seen, record.accepted, judge), problems=newest.problems, record=record)
    content = canonical(pinned_spec(newest))
    if content == record.accepted:
        before = _read(seen, record.previous, judge)
        changes = change.classify(before, newest) if before else ()
        return Acceptance(pipeline=newest, problems=(), record=_at(record, seen), changes=changes)
    last = _read(seen, record.accepted, judge)
    changes = change.classify(last, newest) if last else ()
    refused = tuple(_refusal(each, seen) for each in changes if each.is_refused)
    if refused:
        return Acceptance(pipeline=last, problems=refused, record=record)
    record = replace(record, accepted=content, previous=record.accepted)
    return Acceptance(pipeline=newest, problems=(), record=_at(record, seen), changes=changes)


def _at(record: Record, seen: Observed) -> Record:
    return replace(record, accepted_generation=seen.pipeline.generation)


def _refusal(changed: Change, seen: Observed) -> Problem:
    if changed.refused is not None:
        return Problem(changed.path, changed.refused)
    return Problem(
        changed.path,
        f"can't change from {json.dumps(changed.before)} to {json.dumps(changed.after)}: the stream's state and its "
        f"bronze table belong to the old value. Create a pipeline of another name; or, if this one was deleted for "
        f"good, delete the ConfigMap {names.record(seen.pipeline.name)} first",
    )


def _read(seen: Observed, content: str | None, judge: Judge) -> ValidPipeline | None:
    """An earlier accepted spec. If a newer operator refuses its batch stages, its stream is cared for without them."""
    if content is None:
        return None
    spec: dict[str, Any] = json.loads(content)
    stream = {key: value for key, value in spec.items() if key not in ("silver", "gold", "maintenance")}
    for each in (spec, stream):
        read = judge(_raw(seen, each, seen.record.accepted_generation), {})
        if isinstance(read, ValidPipeline):
            return read
    return None


def _raw(seen: Observed, spec: Mapping[str, Any], generation: int) -> dict[str, Any]:
    pipeline = seen.pipeline
    metadata = {
        "name": pipeline.name,
        "namespace": pipeline.namespace,
        "uid": pipeline.uid,
        "generation": generation,
    }
    return {"apiVersion": API_VERSION, "kind": "LakehousePipeline", "metadata": metadata, "spec": spec}
