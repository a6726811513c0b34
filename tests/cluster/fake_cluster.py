"""A cluster in memory. It is trusted because it passes the same suite as the real one (`test_cluster_port.py`).

It knows nothing of schemas, so it refuses no field; lists are owned as a whole; and nobody collects garbage, which is
also so on the API server of the tests.
"""

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

from typing_extensions import override

from lakehouse_operator.cluster.errors import Conflict, NotFound, NotInstalled, Refused
from lakehouse_operator.cluster.events import counted_again, event_manifest
from lakehouse_operator.cluster.kinds import Kind, kind_of
from lakehouse_operator.cluster.port import FIELD_MANAGER, Cluster, Created, Event, Manifest, Resource
from lakehouse_operator.planning.observed import Capabilities

EVERYTHING = Capabilities(
    flink_versions=frozenset({"v1_18", "v1_19", "v1_20"}),
    savepoint_redeploy=True,
    state_snapshots=True,
    spark_applications=True,
)
_WITHOUT_GENERATION = frozenset({"ConfigMap", "Secret", "Pod", "Event", "Lease"})

Key = tuple[str, str, str, str]
FieldPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Write:
    """Something that changes the store, or tries to.

    Attributes:
        verb: apply, create, delete, status or finalizers.
        resource: the object as it will be; for a deletion as it was.
    """

    verb: str
    resource: Resource


@dataclass
class Held:
    """An object in the store, and who owns which of its fields."""

    resource: Resource
    owners: dict[str, set[FieldPath]] = field(default_factory=dict)


@dataclass
class Store:
    """What all views of one fake cluster share."""

    now: Callable[[], datetime]
    namespaces: set[str]
    capabilities: Capabilities
    missing: set[tuple[str, str]] = field(default_factory=set)
    objects: dict[Key, Held] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    writes: list[Write] = field(default_factory=list)
    before_write: Callable[[Write], None] | None = None


class FakeCluster(Cluster):
    """A cluster in memory, seen by one field manager.

    Attributes:
        store: everything there is. `store.writes` lists what really changed something; `store.before_write` is called
            before each such change and may raise, as if the process died or the server failed; `store.missing` holds
            (group, plural) of the kinds that are not installed; `store.capabilities` can be exchanged.
    """

    def __init__(
        self,
        *,
        namespaces: tuple[str, ...] = ("default",),
        now: Callable[[], datetime] = lambda: datetime(2026, 1, 1, tzinfo=UTC),
        field_manager: str = FIELD_MANAGER,
        store: Store | None = None,
    ) -> None:
        self.store = store or Store(now, set(namespaces), EVERYTHING)
        self._field_manager = field_manager

    def seen_by(self, field_manager: str) -> "FakeCluster":
        """The same cluster for somebody else: another operator, or a person with kubectl."""
        return FakeCluster(field_manager=field_manager, store=self.store)

    @override
    async def read(self, kind: Kind, namespace: str, name: str) -> Resource:
        return copy.deepcopy(self._held(kind, namespace, name).resource)

    @override
    async def list_labelled(self, kind: Kind, namespace: str | None, labels: Mapping[str, str]) -> list[Resource]:
        self._check_installed(kind)
        return [
            copy.deepcopy(held.resource)
            for key, held in sorted(self.store.objects.items())
            if key[:2] == (kind.group, kind.plural)
            and namespace in {None, key[2]}
            and labels.items() <= held.resource["metadata"].get("labels", {}).items()
        ]

    @override
    async def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Resource:
        key = self._key_of(manifest)
        metadata = manifest["metadata"]
        held = self.store.objects.get(key)
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
        key = self._key_of(manifest)
        if key in self.store.objects:
            return Created(copy.deepcopy(self.store.objects[key].resource), is_new=False)
        body = {key: value for key, value in copy.deepcopy(dict(manifest)).items() if key != "status"}
        newborn = self._newborn(manifest)
        newborn = {**body, **newborn, "metadata": {**body["metadata"], **newborn["metadata"]}}
        return Created(self._put(key, Held(newborn), "create"), is_new=True)

    @override
    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        try:
            held = self._held(kind, namespace, name)
        except NotFound:
            return
        _check_precondition(held.resource, uid, None)
        metadata = held.resource["metadata"]
        if not metadata.get("finalizers"):
            self._remove(_key(kind, namespace, name))
        elif "deletionTimestamp" not in metadata:
            after = copy.deepcopy(held)
            after.resource["metadata"]["deletionTimestamp"] = self._timestamp()
            self._put(_key(kind, namespace, name), after, "delete")

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
        held = self._held(kind, namespace, name)
        _check_precondition(held.resource, uid, resource_version)
        after = copy.deepcopy(held)
        after.resource["status"] = json.loads(json.dumps(status))
        return self._put(_key(kind, namespace, name), after, "status")

    @override
    async def add_finalizer(self, kind: Kind, namespace: str, name: str, *, uid: str, finalizer: str) -> None:
        held = self._held(kind, namespace, name)
        _check_precondition(held.resource, uid, None)
        finalizers = held.resource["metadata"].get("finalizers", [])
        if finalizer in finalizers:
            return
        if "deletionTimestamp" in held.resource["metadata"]:
            raise Refused("no new finalizers can be added if the object is being deleted")
        after = copy.deepcopy(held)
        after.resource["metadata"]["finalizers"] = [*finalizers, finalizer]
        self._put(_key(kind, namespace, name), after, "finalizers")

    @override
    async def remove_finalizer(self, kind: Kind, namespace: str, name: str, *, uid: str, finalizer: str) -> None:
        try:
            held = self._held(kind, namespace, name)
        except NotFound:
            return
        finalizers = held.resource["metadata"].get("finalizers", [])
        if held.resource["metadata"]["uid"] != uid or finalizer not in finalizers:
            return
        after = copy.deepcopy(held)
        left = [each for each in finalizers if each != finalizer]
        after.resource["metadata"]["finalizers"] = left
        if not left:
            del after.resource["metadata"]["finalizers"]
        key = _key(kind, namespace, name)
        if not left and "deletionTimestamp" in after.resource["metadata"]:
            self._remove(key)
        else:
            self._put(key, after, "finalizers")

    @override
    async def announce(self, event: Event) -> None:
        manifest = event_manifest(event, self._field_manager, self._field_manager)
        created = await self.create_once(manifest)
        if not created.is_new:
            key = self._key_of(manifest)
            after = copy.deepcopy(self.store.objects[key])
            after.resource["series"] = counted_again(after.resource, event.at)
            self._put(key, after, "apply")

    @override
    async def capabilities(self) -> Capabilities:
        return self.store.capabilities

    def add_namespace(self, name: str) -> None:
        """Make a namespace."""
        self.store.namespaces.add(name)

    def _held(self, kind: Kind, namespace: str, name: str) -> Held:
        self._check_installed(kind)
        try:
            return self.store.objects[_key(kind, namespace, name)]
        except KeyError:
            raise NotFound(f"{kind.plural} {name!r} not found") from None

    def _key_of(self, manifest: Manifest) -> Key:
        kind, metadata = kind_of(manifest), manifest["metadata"]
        self._check_installed(kind)
        if metadata["namespace"] not in self.store.namespaces:
            raise NotFound(f"namespaces {metadata['namespace']!r} not found")
        return _key(kind, metadata["namespace"], metadata["name"])

    def _check_installed(self, kind: Kind) -> None:
        if (kind.group, kind.plural) in self.store.missing:
            raise NotInstalled(f"{kind.name} is not installed")

    def _newborn(self, manifest: Manifest) -> Resource:
        metadata = {key: manifest["metadata"][key] for key in ("namespace", "name")}
        metadata |= {"uid": f"uid-{next(self.store.numbers)}", "creationTimestamp": self._timestamp()}
        if manifest["kind"] not in _WITHOUT_GENERATION:
            metadata["generation"] = 0
        return {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": metadata}

    def _put(self, key: Key, after: Held, verb: str, *, dry_run: bool = False) -> Resource:
        before = self.store.objects.get(key)
        if before is not None and before.resource == after.resource:
            if not dry_run:
                self.store.objects[key] = after
            return copy.deepcopy(after.resource)
        metadata = after.resource["metadata"]
        if "generation" in metadata and (before is None or _counts(before.resource) != _counts(after.resource)):
            metadata["generation"] += 1
        metadata["resourceVersion"] = str(next(self.store.numbers))
        if not dry_run:
            self._about_to(Write(verb, after.resource))
            self.store.objects[key] = after
        return copy.deepcopy(after.resource)

    def _remove(self, key: Key) -> None:
        self._about_to(Write("delete", self.store.objects[key].resource))
        del self.store.objects[key]

    def _about_to(self, write: Write) -> None:
        if self.store.before_write is not None:
            self.store.before_write(write)
        self.store.writes.append(replace(write, resource=copy.deepcopy(write.resource)))

    def _timestamp(self) -> str:
        return self.store.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_IDENTITY = frozenset({"namespace", "name", "uid", "resourceVersion"})


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
    chain[-1].pop(last, None)
    for outer, emptied, name in zip(chain[-2::-1], chain[:0:-1], reversed(parents), strict=True):
        if emptied or name in {"metadata", "spec", "status"}:
            return
        del outer[name]
