"""The cluster of one machine: the port that the operator works through, without an API server.

It behaves as the API server does as far as the port says; one suite of tests holds for both. It knows nothing of
schemas, so it refuses no field, and lists are owned as a whole.
"""

import copy
import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from typing_extensions import override

from lakehouse_operator.cluster.errors import Conflict, NotFound, NotInstalled, Refused
from lakehouse_operator.cluster.events import counted_again, event_manifest
from lakehouse_operator.cluster.kinds import Kind, kind_of
from lakehouse_operator.cluster.port import FIELD_MANAGER, Cluster, Created, Event, Manifest, Resource
from lakehouse_operator.local.objects import FieldPath, Held, Key, Objects
from lakehouse_operator.planning.observed import Capabilities
from lakehouse_operator.planning.schedule import instant

CAPABILITIES = Capabilities(
    flink_versions=frozenset({"v1_18", "v1_19", "v1_20", "v2_0", "v2_1"}),
    savepoint_redeploy=True,
    state_snapshots=True,
    spark_applications=True,
)
"""What the local counterparts of the upstream operators can do (`local.flink_operator`, `local.spark_operator`)."""
_WITHOUT_GENERATION = frozenset({"ConfigMap", "Secret", "Pod", "Event", "Lease"})
_IDENTITY = frozenset({"namespace", "name", "uid", "resourceVersion"})


@dataclass(frozen=True, slots=True)
class Write:
    """Something that changes the store, or tries to.

    Attributes:
        verb: apply, create, delete, status or finalizers.
        resource: the object as it will be; for a deletion as it was.
    """

    verb: str
    resource: Resource


def system_clock() -> datetime:
    """The machine's clock."""
    return datetime.now(UTC)  # noqa: TID251 - the edge reads the clock


class LocalCluster(Cluster):
    """A cluster on one machine, seen by one field manager.

    Args:
        objects: where everything is kept.
        namespaces: those that exist; None means every one does.
        now: the clock.
        field_manager: who applies.
    """

    def __init__(
        self,
        objects: Objects,
        *,
        namespaces: set[str] | None = None,
        now: Callable[[], datetime] = system_clock,
        field_manager: str = FIELD_MANAGER,
    ) -> None:
        self.objects = objects
        self.namespaces = namespaces
        self._now = now
        self._field_manager = field_manager

    def seen_by(self, field_manager: str) -> "LocalCluster":
        """The same cluster for somebody else: another operator, or a person at the command line."""
        other = copy.copy(self)
        other._field_manager = field_manager
        return other

    def about_to(self, write: Write) -> None:
        """Called before each change; what it raises prevents the change."""

    def is_missing(self, kind: Kind) -> bool:  # noqa: ARG002 - for those that lack some
        """Whether a kind is not installed."""
        return False

    @override
    async def read(self, kind: Kind, namespace: str, name: str) -> Resource:
        return self._held(kind, namespace, name).resource

    @override
    async def list_labelled(self, kind: Kind, namespace: str | None, labels: Mapping[str, str]) -> list[Resource]:
        self._check_installed(kind)
        keys = [key for key in self.objects.keys(kind.group, kind.plural) if namespace in {None, key[2]}]
        found = [held.resource for key in keys if (held := self.objects.find(key))]
        return [each for each in found if labels.items() <= each["metadata"].get("labels", {}).items()]

    @override
    async def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Resource:
        with self.objects.changing():
            key = self._key_of(manifest)
            metadata = manifest["metadata"]
            held = self.objects.find(key)
            if held is None:
                if "uid" in metadata:
                    raise Conflict(f"there is no object with uid {metadata['uid']}")
                held = Held(self._newborn(manifest))
            _check_precondition(held.resource, metadata.get("uid"), metadata.get("resourceVersion"))
            wanted = {key: value for key, value in manifest.items() if key not in {"apiVersion", "kind", "status"}}
            wanted["metadata"] = {key: value for key, value in metadata.items() if key not in _IDENTITY}
            after = _merged(held, self._field_manager, wanted)
            return self._put(key, after, "apply", dry_run=dry_run)

    @override
    async def create_once(self, manifest: Manifest) -> Created:
        with self.objects.changing():
            key = self._key_of(manifest)
            if held := self.objects.find(key):
                return Created(held.resource, is_new=False)
            body = {key: value for key, value in copy.deepcopy(dict(manifest)).items() if key != "status"}
            newborn = self._newborn(manifest)
            newborn = {**body, **newborn, "metadata": {**body["metadata"], **newborn["metadata"]}}
            return Created(self._put(key, Held(newborn), "create"), is_new=True)

    @override
    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        with self.objects.changing():
            try:
                held = self._held(kind, namespace, name)
            except NotFound:
                return
            _check_precondition(held.resource, uid, None)
            self._delete(_key(kind, namespace, name), held)

    def _delete(self, key: Key, held: Held) -> None:
        metadata = held.resource["metadata"]
        if not metadata.get("finalizers"):
            self._remove(key, held)
        elif "deletionTimestamp" not in metadata:
            metadata["deletionTimestamp"] = self._timestamp()
            self._put(key, held, "delete")

    @override
    async def write_status(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        uid: str,
        status: Manifest,
        resource_version: str | None = None,
    ) -> Resource:
        with self.objects.changing():
            held = self._held(kind, namespace, name)
            _check_precondition(held.resource, uid, resource_version)
            held.resource["status"] = json.loads(json.dumps(status))
            return self._put(_key(kind, namespace, name), held, "status")

    @override
    async def add_finalizer(self, kind: Kind, namespace: str, name: str, *, uid: str, finalizer: str) -> None:
        with self.objects.changing():
            held = self._held(kind, namespace, name)
            _check_precondition(held.resource, uid, None)
            metadata = held.resource["metadata"]
            finalizers = metadata.get("finalizers", [])
            if finalizer in finalizers:
                return
            if "deletionTimestamp" in metadata:
                raise Refused("no new finalizers can be added if the object is being deleted")
            metadata["finalizers"] = [*finalizers, finalizer]
            self._put(_key(kind, namespace, name), held, "finalizers")

    @override
    async def remove_finalizer(self, kind: Kind, namespace: str, name: str, *, uid: str, finalizer: str) -> None:
        with self.objects.changing():
            try:
                held = self._held(kind, namespace, name)
            except NotFound:
                return
            metadata = held.resource["metadata"]
            finalizers = metadata.get("finalizers", [])
            if metadata["uid"] != uid or finalizer not in finalizers:
                return
            metadata["finalizers"] = [each for each in finalizers if each != finalizer]
            if not metadata["finalizers"]:
                del metadata["finalizers"]
            key = _key(kind, namespace, name)
            if "finalizers" not in metadata and "deletionTimestamp" in metadata:
                self._remove(key, held)
            else:
                self._put(key, held, "finalizers")

    @override
    async def is_ending(self, namespace: str) -> bool:
        return False

    @override
    async def announce(self, event: Event) -> None:
        manifest = event_manifest(event, self._field_manager, self._field_manager)
        created = await self.create_once(manifest)
        if not created.is_new:
            with self.objects.changing():
                key = self._key_of(manifest)
                after = self.objects.find(key) or Held(created.resource)
                after.resource["series"] = counted_again(after.resource, event.at)
                self._put(key, after, "apply")

    @override
    async def capabilities(self) -> Capabilities:
        return CAPABILITIES

    def _held(self, kind: Kind, namespace: str, name: str) -> Held:
        self._check_installed(kind)
        held = self.objects.find(_key(kind, namespace, name))
        if held is None:
            raise NotFound(f"{kind.plural} {name!r} not found")
        return held

    def _key_of(self, manifest: Manifest) -> Key:
        kind, metadata = kind_of(manifest), manifest["metadata"]
        self._check_installed(kind)
        if self.namespaces is not None and metadata["namespace"] not in self.namespaces:
            raise NotFound(f"namespaces {metadata['namespace']!r} not found")
        return _key(kind, metadata["namespace"], metadata["name"])

    def _check_installed(self, kind: Kind) -> None:
        if self.is_missing(kind):
            raise NotInstalled(f"{kind.name} is not installed")

    def _newborn(self, manifest: Manifest) -> Resource:
        metadata = {key: manifest["metadata"][key] for key in ("namespace", "name")}
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": self._timestamp()}
        if manifest["kind"] not in _WITHOUT_GENERATION:
            metadata["generation"] = 0
        return {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": metadata}

    def _put(self, key: Key, after: Held, verb: str, *, dry_run: bool = False) -> Resource:
        before = self.objects.find(key)
        if before is not None and before.resource == after.resource:
            if not dry_run and before.owners != after.owners:
                self.objects.put(key, after)
            return after.resource
        metadata = after.resource["metadata"]
        if "generation" in metadata and (before is None or _counts(before.resource) != _counts(after.resource)):
            metadata["generation"] += 1
        if not dry_run:
            metadata["resourceVersion"] = str(self.objects.next_number())
            self.about_to(Write(verb, after.resource))
            self.objects.put(key, after)
        return copy.deepcopy(after.resource)

    def _remove(self, key: Key, held: Held) -> None:
        self.about_to(Write("delete", held.resource))
        self.objects.remove(key)

    def _timestamp(self) -> str:
        return instant(self._now())


def _key(kind: Kind, namespace: str, name: str) -> Key:
    return (kind.group, kind.plural, namespace, name)


def _counts(resource: Resource) -> Resource:
    """What the generation counts: everything but status and metadata, and that the object is being deleted."""
    spec = {key: value for key, value in resource.items() if key not in {"metadata", "status"}}
    return {**spec, "deletionTimestamp": resource["metadata"].get("deletionTimestamp")}


def _check_precondition(seen: Resource, uid: str | None, resource_version: str | None) -> None:
    metadata = seen["metadata"]
    if uid is not None and uid != metadata["uid"]:
        raise Conflict(f"{metadata['name']} has uid {metadata['uid']}, not {uid}")
    if resource_version is not None and resource_version != metadata.get("resourceVersion"):
        raise Conflict(f"{metadata['name']} has been modified")


def _merged(held: Held, owner: str, wanted: Mapping[str, Any]) -> Held:
    """The object after a server-side apply: fields that the owner gives up and nobody else owns are gone."""
    after = copy.deepcopy(held)
    leaves = dict(_leaves(json.loads(json.dumps(wanted)), ()))
    for path in after.owners.get(owner, set()) - leaves.keys():
        if not any(path in theirs for other, theirs in after.owners.items() if other != owner):
            _remove_leaf(after.resource, path)
    for path, value in leaves.items():
        if _set_leaf(after.resource, path, value):
            for other, theirs in after.owners.items():
                if other != owner:
                    theirs.discard(path)
    after.owners[owner] = set(leaves)
    return after


def _leaves(value: object, path: FieldPath) -> Iterator[tuple[FieldPath, object]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif path:
        yield path, value


def _set_leaf(resource: Resource, path: FieldPath, value: object) -> bool:
    """Set a field; whether that changed an existing one."""
    *parents, last = path
    for parent in parents:
        inner = resource.setdefault(parent, {})
        if not isinstance(inner, dict):
            inner = resource[parent] = {}
        resource = inner
    if value == {} and isinstance(resource.get(last), dict):
        return False
    changed = last in resource and resource[last] != value
    resource[last] = value
    return changed


def _remove_leaf(resource: Resource, path: FieldPath) -> None:
    *parents, last = path
    chain = [resource]
    for parent in parents:
        inner = chain[-1].get(parent)
        if not isinstance(inner, dict):
            return
        chain.append(inner)
    if isinstance(chain[-1].get(last), dict) and chain[-1][last]:
        return  # it was applied empty, and others have filled it since
    chain[-1].pop(last, None)
    for outer, emptied, name in zip(chain[-2::-1], chain[:0:-1], reversed(parents), strict=True):
        if emptied or name in {"metadata", "spec", "status"}:
            return
        del outer[name]
