"""The FlinkDeployment as it should be, and whether the one that was seen is like that.

A revision is the part of its spec whose change restarts the job. How it is launched (from which point, in which state)
and the Flink operator's own policies are added to it, and change no revision.
"""

from collections.abc import Mapping
from typing import Any, Literal

from lakehouse_operator.api import GROUP
from lakehouse_operator.planning.flink_manifest import build_flink_deployment
from lakehouse_operator.planning.names import REVISION_ANNOTATION, digest
from lakehouse_operator.planning.observed import Capabilities, Stream
from lakehouse_operator.planning.pipeline import ValidPipeline
from lakehouse_operator.planning.plan import Manifest
from lakehouse_operator.planning.record import Launch, Revision, canonical

DesiredState = Literal["running", "suspended"]

OPERATION_ANNOTATION = f"{GROUP}/operation"
"""On the child: the operation that last changed it, so that a crash in between is recognizable."""
PIPELINE_UID_ANNOTATION = f"{GROUP}/pipeline-uid"
"""On the child: the pipeline that it belongs to.

It has no owner reference: a deletion in the foreground, which is Argo CD's, deletes what an object owns at once, before
anybody could take a savepoint. The finalizer sees to it instead.
"""

_LAUNCH_FIELDS = ("state", "upgradeMode", "initialSavepointPath", "savepointRedeployNonce", "savepointTriggerNonce")
# Changes under this prefix reach the Flink operator without a restart (its DiffType IGNORE).
_POLICIES = "kubernetes.operator."
# A JobManager that vanishes before it has restored its savepoint would be recovered from empty high-availability
# metadata, that is, without state (FKO `ApplicationReconciler.deploy`). So this is on only once the job has run.
_JOB_MANAGER_RECOVERY = f"{_POLICIES}jm-deployment-recovery.enabled"


def wanted_revision(pipeline: ValidPipeline) -> Revision:
    """The revision of the stream that a pipeline asks for."""
    content = _cold(build_flink_deployment(pipeline)["spec"])
    return Revision(digest(canonical(content)), canonical(content))


def seen_revision(child: Stream) -> Revision | None:
    """The revision that a FlinkDeployment of ours runs, as far as it can be told from the object itself."""
    name = child.annotations.get(REVISION_ANNOTATION)
    return Revision(name, canonical(_cold(child.spec))) if name is not None else None


def _cold(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A FlinkDeployment's spec without launch and policies."""
    job = {key: value for key, value in spec.get("job", {}).items() if key not in _LAUNCH_FIELDS}
    configuration = spec.get("flinkConfiguration", {})
    cold = {key: value for key, value in configuration.items() if not key.startswith(_POLICIES)}
    rest = {key: value for key, value in spec.items() if key != "restartNonce"}
    return {**rest, "job": job, "flinkConfiguration": cold}


def build_child(
    pipeline: ValidPipeline,
    revision: Revision,
    launch: Launch,
    *,
    state: DesiredState,
    operation: str | None,
    capabilities: Capabilities,
    stop: Literal["savepoint", "last-state"] | None = None,
) -> Manifest:
    """The FlinkDeployment that runs or rests with a revision.

    Args:
        pipeline: Whose stream it is; its policies count, even where an older revision runs.
        revision: What runs, which may be an older revision than the pipeline's.
        launch: How it is launched.
        state: Whether it should run.
        operation: The operation that this belongs to.
        capabilities: What the installed Flink operator can do; a field that it does not have is left out.
        stop: How it is stopped, where that differs from the launch.
    """
    newest = build_flink_deployment(pipeline)
    content = revision.content
    policies = {key: value for key, value in newest["spec"]["flinkConfiguration"].items() if key.startswith(_POLICIES)}
    policies[_JOB_MANAGER_RECOVERY] = str(launch.ran).lower()
    redeploy = launch.redeploy_nonce if capabilities.savepoint_redeploy else 0
    extra = {
        "initialSavepointPath": launch.point,
        "savepointTriggerNonce": launch.savepoint_nonce or None,
        "savepointRedeployNonce": redeploy or None,
    }
    job = {
        **content["job"],
        "state": state,
        "upgradeMode": stop or _upgrade_mode(pipeline, launch),
        **{name: value for name, value in extra.items() if value is not None},
    }
    spec = {**content, "flinkConfiguration": {**content["flinkConfiguration"], **policies}, "job": job}
    if launch.restart_nonce:
        spec["restartNonce"] = launch.restart_nonce
    metadata = {key: value for key, value in newest["metadata"].items() if key != "ownerReferences"}
    annotations = {REVISION_ANNOTATION: revision.id, PIPELINE_UID_ANNOTATION: pipeline.uid}
    if operation is not None:
        annotations[OPERATION_ANNOTATION] = operation
    metadata["annotations"] = {**metadata.get("annotations", {}), **annotations}
    return {**newest, "metadata": metadata, "spec": spec}


def _upgrade_mode(pipeline: ValidPipeline, launch: Launch) -> Literal["savepoint", "last-state"]:
    """The Flink operator refuses mode savepoint where there is no place for savepoints."""
    has_place = pipeline.spec.bronze.checkpoint.savepoint_directory is not None
    return "savepoint" if has_place and launch.mode != "last-state" else "last-state"


def differs(manifest: Manifest, seen: Stream) -> bool:
    """Whether a field that we own is not as it should be. Fields of others are left alone, so they don't count."""
    wanted = manifest["metadata"]
    pairs = (
        (seen.spec, manifest["spec"]),
        (seen.annotations, wanted["annotations"]),
        (seen.labels, wanted["labels"]),  # the watch finds the child by one
    )
    return not all(_covers(found, ours) for found, ours in pairs)


def _covers(seen: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        return isinstance(seen, Mapping) and all(
            key in seen and _covers(seen[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, (list, tuple)):
        return (
            isinstance(seen, (list, tuple))
            and len(seen) == len(wanted)
            and all(_covers(left, right) for left, right in zip(seen, wanted, strict=True))
        )
    return bool(seen == wanted)
