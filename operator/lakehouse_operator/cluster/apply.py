"""Doing what a plan says, one action after the other.

An action that fails ends the round: what follows may rest on it. Only a record that is not needed is done without.
"""

import logging
from collections.abc import Iterable
from typing import Protocol, assert_never

from lakehouse_operator.cluster.errors import ClusterError, Refused
from lakehouse_operator.cluster.gather import Gathered
from lakehouse_operator.cluster.kinds import LAKEHOUSE_PIPELINE, Kind, kind_named
from lakehouse_operator.cluster.port import Cluster, Event, Manifest
from lakehouse_operator.planning import names
from lakehouse_operator.planning.observed import Observed
from lakehouse_operator.planning.plan import (
    FINALIZER,
    Action,
    Announce,
    ApplyChild,
    CreateOnce,
    Delete,
    DropFinalizer,
    DropTag,
    KeepFinalizer,
    RollBackTable,
    SaveRecord,
    TagSnapshot,
)
from lakehouse_operator.planning.record import Record, to_data

_log = logging.getLogger(__name__)


class Tables(Protocol):
    """Moving the tables of one pipeline; see `tables.move`. Each call may be repeated."""

    async def tag(self, table: str, tag: str, snapshot: int) -> None:
        """Tag a snapshot."""
        ...

    async def drop_tag(self, table: str, tag: str) -> None:
        """Remove a tag."""
        ...

    async def roll_back(self, table: str, *, to: int, expected_head: int, discarded_tag: str) -> None:
        """Make an earlier snapshot the head again."""
        ...


class Foreign(Refused):
    """An object of the name that a child should have belongs to somebody else, or was made for something else."""


async def apply(cluster: Cluster, tables: Tables, actions: Iterable[Action], gathered: Gathered) -> None:
    """Do the actions in their order.

    Raises:
        ClusterError: One could not be done; those after it were not tried.
    """
    for action in actions:
        await _do(cluster, tables, action, gathered)


async def _do(cluster: Cluster, tables: Tables, action: Action, gathered: Gathered) -> None:
    seen = gathered.seen
    namespace = seen.pipeline.namespace
    match action:
        case KeepFinalizer():
            await cluster.add_finalizer(*_pipeline(seen), uid=seen.pipeline.uid, finalizer=FINALIZER)
        case DropFinalizer():
            await cluster.remove_finalizer(*_pipeline(seen), uid=seen.pipeline.uid, finalizer=FINALIZER)
        case SaveRecord(record, needed):
            await _save(cluster, record, gathered, needed=needed)
        case ApplyChild(manifest, _, uid):
            await cluster.apply(manifest if uid is None else _this_very(manifest, uid))
        case CreateOnce():
            await _create(cluster, action)
        case Delete(api_version, kind, name, uid):
            await cluster.delete(kind_named(api_version, kind), namespace, name, uid)
        case TagSnapshot() | DropTag() | RollBackTable():
            await _move(tables, action)
        case Announce():
            await cluster.announce(_event(action, seen))
        case _:
            assert_never(action)


def _this_very(manifest: Manifest, uid: str) -> Manifest:
    """A manifest that changes the object of this UID, or nothing."""
    return {**manifest, "metadata": {**manifest["metadata"], "uid": uid}}


async def _move(tables: Tables, action: TagSnapshot | DropTag | RollBackTable) -> None:
    match action:
        case TagSnapshot(table, tag, snapshot):
            await tables.tag(table, tag, snapshot)
        case DropTag(table, tag):
            await tables.drop_tag(table, tag)
        case RollBackTable(table, to_snapshot, expected_head, discarded_tag):
            await tables.roll_back(table, to=to_snapshot, expected_head=expected_head, discarded_tag=discarded_tag)


def _pipeline(seen: Observed) -> tuple[Kind, str, str]:
    return LAKEHOUSE_PIPELINE, seen.pipeline.namespace, seen.pipeline.name


async def _save(cluster: Cluster, record: Record, gathered: Gathered, *, needed: bool) -> None:
    try:
        await _write(cluster, record, gathered)
    except ClusterError as error:
        if needed:
            raise
        pipeline = gathered.seen.pipeline
        _log.warning("%s/%s: its record is left as it was: %s", pipeline.namespace, pipeline.name, error)


async def _write(cluster: Cluster, record: Record, gathered: Gathered) -> None:
    """Write the record, unless somebody else did since it was read. It has no owner, so it outlives the pipeline."""
    pipeline = gathered.seen.pipeline
    name = names.record(pipeline.name)
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": pipeline.namespace,
            "labels": {**names.labels(pipeline.name, "record")},
            **({"resourceVersion": gathered.record_version} if gathered.record_version else {}),
        },
        "data": to_data(record),
    }
    if gathered.record_version:
        await cluster.apply(manifest)
        return
    created = await cluster.create_once(manifest)
    if created.resource.get("data") != manifest["data"]:
        raise Refused(f"ConfigMap {name} was written by somebody else since it was read")


async def _create(cluster: Cluster, action: CreateOnce) -> None:
    """Create a child once. One that exists is ours only if it has our owner and was made for the same."""
    created = await cluster.create_once(action.manifest)
    if created.is_new:
        return
    wanted, found = action.manifest["metadata"], created.resource["metadata"]
    owners = {each["uid"] for each in wanted.get("ownerReferences", ())}
    others = {each["uid"] for each in found.get("ownerReferences", ())}
    hashes = [each.get("annotations", {}).get(names.HASH_ANNOTATION) for each in (wanted, found)]
    if not owners <= others or hashes[0] != hashes[1]:
        raise Foreign(
            f"{action.manifest['kind']} {wanted['name']} exists and is not ours: delete or rename it, or the pipeline"
        )


def _event(action: Announce, seen: Observed) -> Event:
    kind, name, uid = LAKEHOUSE_PIPELINE, seen.pipeline.name, seen.pipeline.uid
    return Event(
        kind=kind,
        namespace=seen.pipeline.namespace,
        name=name,
        uid=uid,
        type=action.type,
        reason=action.reason,
        message=action.message,
        at=seen.now,
    )
