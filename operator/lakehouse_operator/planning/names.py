"""Names and labels of everything that a pipeline owns: made from what they stand for, within every limit.

The same thing always gets the same name, so a repeated call or a crash can't make a second one.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Literal

from lakehouse_operator.api import API_VERSION, GROUP

FLINK_DEPLOYMENT_LIMIT = 45
"""The Flink operator refuses longer names (its DefaultValidator)."""
RUN_LIMIT = 50
ATTEMPT_LIMIT = 55
"""The Spark operator makes a Service `<name>-ui-svc` of an application; a Service's name has at most 63 characters."""
_LABEL_LIMIT = 63

PIPELINE_LABEL = f"{GROUP}/pipeline"
STAGE_LABEL = f"{GROUP}/stage"
RUN_LABEL = f"{GROUP}/run"
ATTEMPT_LABEL = f"{GROUP}/attempt"
REVISION_ANNOTATION = f"{GROUP}/revision"
HASH_ANNOTATION = f"{GROUP}/spec-hash"

Kind = Literal["LakehousePipeline", "LakehouseRun", "LakehouseBackfill"]


def digest(text: str, length: int = 12) -> str:
    """The first hexadecimal digits of the text's SHA-256: a revision, or the end of a shortened name."""
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def _fitted(head: str, tail: str, limit: int) -> str:
    """`head` + `tail`; a head that is too long is cut and ends in eight digits that stand for the whole of it."""
    room = limit - len(tail)
    if len(head) <= room:
        return head + tail
    return f"{head[: room - 9].rstrip('-')}-{digest(head, 8)}{tail}"


def deployment(pipeline: str) -> str:
    """The FlinkDeployment of a pipeline."""
    return f"{pipeline}-bronze"


def high_availability(pipeline: str) -> str:
    """The ConfigMap in which Flink notes what a cluster runs (Flink, `KubernetesLeaderElectionHaServices`)."""
    return f"{deployment(pipeline)}-cluster-config-map"


def record(pipeline: str) -> str:
    """The ConfigMap with the pipeline's durable record."""
    return f"{pipeline}-record"


def definition(pipeline: str, spec_hash: str) -> str:
    """The ConfigMap that holds one accepted spec of a pipeline."""
    return f"{pipeline}-spec-{spec_hash}"


def interval_run(pipeline: str, stage: str, start: str, revision: str | None = None) -> str:
    """The run of a stage over the interval that begins at `start` (`2026-01-31T05:00:00Z`).

    With a `revision`, the run that computes the interval again under another definition.
    """
    again = f"-{revision[:6]}" if revision else ""
    return _fitted(pipeline, f"-{stage}-{_compact(start)}{again}", RUN_LIMIT)


def days_run(pipeline: str, stage: str, first: str, last: str, backfill: str) -> str:
    """The run of a backfill over the days from `first` to `last` (`2026-01-31`); `backfill` is its UID.

    A backfill that is created again under its name has runs of its own.
    """
    until = "" if first == last else f"-{_compact(last)}"
    return _fitted(pipeline, f"-{stage}-{_compact(first)}{until}-{digest(backfill, 6)}", RUN_LIMIT)


def manual_run(pipeline: str, stage: str, asked_at: str) -> str:
    """The run that a person asked for at an instant."""
    return _fitted(pipeline, f"-{stage}-by-hand-{_compact(asked_at, seconds=True)}", RUN_LIMIT)


def manual_backfill(pipeline: str, first: str, last: str, asked_at: str) -> str:
    """The backfill over the days from `first` to `last` that a person asked for at an instant."""
    tail = f"-{_compact(first)}-{_compact(last)}-{_compact(asked_at, seconds=True)}"
    return _fitted(pipeline, tail, _LABEL_LIMIT)


def attempt(run: str, number: int) -> str:
    """The SparkApplication of the run's attempt, counted from 1."""
    return _fitted(run, f"-a{number}", ATTEMPT_LIMIT)


def executor_prefix(application: str) -> str:
    """What the names of an application's executor pods begin with; Spark allows 47 characters."""
    return _fitted(application, "", 47)


def savepoint(pipeline: str, token: str) -> str:
    """The FlinkStateSnapshot of a pipeline that `token` (a trigger, a time) asks for."""
    return _fitted(pipeline, f"-savepoint-{digest(token, 8)}", _LABEL_LIMIT)


def _compact(moment: str, *, seconds: bool = False) -> str:
    """`2026-01-31T05:00:00Z` -> `20260131t0500`; a day keeps its eight digits."""
    text = re.sub(r"[-:Z]", "", moment).lower()
    return text if seconds else text[:13]


def label_value(text: str) -> str:
    """A text as a label's value: shortened as a name is, if need be."""
    return _fitted(text, "", _LABEL_LIMIT)


def labels(pipeline: str, stage: str, **more: str) -> dict[str, str]:
    """The labels of everything that belongs to a stage of a pipeline.

    Args:
        pipeline: The pipeline's name.
        stage: bronze, silver, gold or maintenance.
        more: Further labels of this project: `run="..."` becomes `lakehouse.dev/run`.
    """
    return {
        "app.kubernetes.io/name": "lakehouse-pipeline",
        "app.kubernetes.io/instance": pipeline,
        "app.kubernetes.io/component": stage,
        "app.kubernetes.io/managed-by": "lakehouse-operator",
        PIPELINE_LABEL: pipeline,
        STAGE_LABEL: stage,
        **{f"{GROUP}/{name}": label_value(value) for name, value in more.items()},
    }


def owned_by(kind: Kind, name: str, uid: str) -> list[dict[str, Any]]:
    """The owner references of a child. Without a UID (a manifest that no server has seen) there are none."""
    if not uid:
        return []
    return [
        {
            "apiVersion": API_VERSION,
            "kind": kind,
            "name": name,
            "uid": uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]


def metadata(
    name: str, namespace: str, *, labels: Mapping[str, str], annotations: Mapping[str, str], owner: list[dict[str, Any]]
) -> dict[str, Any]:
    """A child's metadata, without empty parts."""
    parts = {"labels": dict(labels), "annotations": dict(annotations), "ownerReferences": owner}
    return {"name": name, "namespace": namespace, **{key: part for key, part in parts.items() if part}}
