"""The real cluster: the documented REST API, spoken through the official client's login and transport."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

from typing_extensions import override

from lakehouse_operator.cluster.errors import Conflict, NotFound, NotInstalled, Refused, Unavailable
from lakehouse_operator.cluster.events import counted_again, event_manifest
from lakehouse_operator.cluster.kinds import (
    FLINK_DEPLOYMENT,
    FLINK_STATE_SNAPSHOT,
    NAMESPACE,
    SPARK_APPLICATION,
    Kind,
    kind_of,
)
from lakehouse_operator.cluster.port import FIELD_MANAGER, Cluster, Created, Event, Manifest, Resource, generation_of
from lakehouse_operator.cluster.rest import (
    APPLY_PATCH,
    JSON,
    JSON_PATCH,
    MERGE_PATCH,
    METADATA_ONLY,
    AlreadyExists,
    Expired,
    Login,
    Patience,
    Rest,
)
from lakehouse_operator.planning.observed import Capabilities

PAGE = 250
CAPABILITIES_AGE = 30.0
_ATTEMPTS = 5
_ASKED: Mapping[str, Any] = {"spec": {"flinkVersion": {}, "job": {"savepointRedeployNonce": {}}}}
"""The fields of foreign kinds that tell what their operators can do."""
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")


class KubernetesCluster(Cluster):
    """A cluster that is reached over HTTP. Use it as an async context manager, or `close` it."""

    def __init__(
        self,
        login: Login | None = None,
        *,
        field_manager: str = FIELD_MANAGER,
        instance: str = FIELD_MANAGER,
        patience: Patience | None = None,
        page: int = PAGE,
        capabilities_age: float = CAPABILITIES_AGE,
    ) -> None:
        """Nothing is sent yet.

        Args:
            login: where the API server is and who we are.
            field_manager: the name under which fields are owned.
            instance: which replica this is; it stands in events.
            patience: timeouts and retries.
            page: how many objects are listed with one request.
            capabilities_age: seconds for which an answer of `capabilities` is good.
        """
        self._rest = Rest(login or Login(), patience or Patience())
        self._field_manager = field_manager
        self._instance = instance
        self._page = page
        self._capabilities_age = capabilities_age
        self._reading_capabilities = asyncio.Lock()
        self._capabilities: tuple[float, Capabilities] | None = None
        self._schemas: dict[str, tuple[str, Resource]] = {}
        self._newest: dict[Kind, int] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._rest.close()

    @override
    async def read(self, kind: Kind, namespace: str, name: str) -> Resource:
        return await self._rest.request("GET", _path(kind, namespace, name))

    @override
    async def list_labelled(self, kind: Kind, namespace: str | None, labels: Mapping[str, str]) -> list[Resource]:
        for _ in range(_ATTEMPTS):
            try:
                found = await self._list(kind, namespace, labels)
            except Expired:
                # The pages are of one moment, which the server remembers for some minutes only.
                continue
            return _sorted(found)
        raise Conflict(f"the list of {kind.plural} kept expiring while it was read")

    async def _list(self, kind: Kind, namespace: str | None, labels: Mapping[str, str]) -> list[Resource]:
        return [
            item
            async for page in self._pages(kind, namespace, {"limit": str(self._page), **_selector(labels)})
            for item in _items(kind, page)
        ]

    async def _pages(
        self, kind: Kind, namespace: str | None, query: dict[str, str], accept: str = JSON
    ) -> AsyncIterator[Resource]:
        while True:
            page = await self._rest.request("GET", _path(kind, namespace), query=query, accept=accept)
            yield page
            following = page["metadata"].get("continue")
            if not following:
                self.heard(kind, page["metadata"].get("resourceVersion", ""))
                return
            query = {**query, "continue": following}

    @override
    async def list_followed(self, kind: Kind, namespace: str | None, labels: Mapping[str, str]) -> list[Resource]:
        # A list without a version waits until the server's cache has heard from etcd, about 100 ms for a kind of which
        # nothing has changed lately. This one is answered at once.
        newest = self._newest.get(kind)
        if newest is None:
            return await self.list_labelled(kind, namespace, labels)
        query = {"resourceVersion": str(newest), "resourceVersionMatch": "NotOlderThan", **_selector(labels)}
        try:
            page = await self._rest.request("GET", _path(kind, namespace), query=query)
        except Unavailable:
            # Perhaps etcd was restored from a backup, and the server never gets to a version that new.
            self._newest.pop(kind, None)
            raise
        self.heard(kind, page["metadata"].get("resourceVersion", ""))
        return _sorted(_items(kind, page))

    @override
    def heard(self, kind: Kind, version: str) -> None:
        # Versions of one kind may be compared as numbers (KEP-5504). One that is no number says nothing.
        if version.isdigit():
            self._newest[kind] = max(int(version), self._newest.get(kind, 0))

    def _wrote(self, kind: Kind, resource: Resource) -> Resource:
        self.heard(kind, resource["metadata"].get("resourceVersion", ""))
        return resource

    @override
    async def generations(self, kind: Kind, namespace: str | None) -> Mapping[tuple[str, str], int]:
        for _ in range(_ATTEMPTS):
            try:
                # Metadata alone, page by page: a thousand pipelines with their status are tens of megabytes.
                return dict(
                    [
                        generation_of(item)
                        async for page in self._pages(kind, namespace, {"limit": str(self._page)}, METADATA_ONLY)
                        for item in page["items"] or ()  # null where there are none
                    ]
                )
            except Expired:
                continue
        raise Conflict(f"the list of {kind.plural} kept expiring while it was read")

    @override
    async def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Resource:
        query = {"fieldManager": self._field_manager, "force": "true", "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        applied = await self._rest.request(
            "PATCH", _path_of(manifest), query=query, body=dict(manifest), content_type=APPLY_PATCH
        )
        return applied if dry_run else self._wrote(kind_of(manifest), applied)

    @override
    async def create_once(self, manifest: Manifest) -> Created:
        kind, metadata = kind_of(manifest), manifest["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        query = {"fieldManager": self._field_manager, "fieldValidation": "Strict"}
        for _ in range(_ATTEMPTS):
            try:
                created = await self._rest.request("POST", _path(kind, namespace), query=query, body=dict(manifest))
                return Created(self._wrote(kind, created), is_new=True)
            except AlreadyExists:
                pass
            try:
                return Created(await self.read(kind, namespace, name), is_new=False)
            except NotFound:
                # Deleted between the two questions.
                continue
        raise Conflict(f"{kind.name} {namespace}/{name} comes and goes")

    @override
    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        body = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            await self._rest.request("DELETE", _path(kind, namespace, name), body=body)
        except NotFound:
            return

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
        # Not server-side apply: on the status it ignores metadata.uid (Kubernetes 1.34), and would write into the
        # status of an object that was deleted and created again.
        patch: list[Resource] = [{"op": "test", "path": "/metadata/uid", "value": uid}]
        if resource_version is not None:
            patch.append({"op": "test", "path": "/metadata/resourceVersion", "value": resource_version})
        patch.append({"op": "add", "path": "/status", "value": status})
        written = await self._rest.request(
            "PATCH",
            f"{_path(kind, namespace, name)}/status",
            query={"fieldManager": self._field_manager, "fieldValidation": "Strict"},
            body=patch,
            content_type=JSON_PATCH,
        )
        return self._wrote(kind, written)

    @override
    async def add_finalizer(self, kind: Kind, namespace: str, name: str, *, uid: str, finalizer: str) -> None:
        for _ in range(_ATTEMPTS):
            seen = await self.read(kind, namespace, name)
            if seen["metadata"]["uid"] != uid:
                raise Conflict(f"{kind.name} {namespace}/{name} is another object now")
            finalizers = seen["metadata"].get("finalizers", [])
            if finalizer in finalizers or await self._set_finalizers(kind, seen, [*finalizers, finalizer]):
                return
        raise Conflict(f"{kind.name} {namespace}/{name} changes too fast")

    @override
    async def remove_finalizer(self, kind: Kind, namespace: str, name: str, *, uid: str, finalizer: str) -> None:
        for _ in range(_ATTEMPTS):
            try:
                seen = await self.read(kind, namespace, name)
                finalizers = seen["metadata"].get("finalizers", [])
                if seen["metadata"]["uid"] != uid or finalizer not in finalizers:
                    return
                if await self._set_finalizers(kind, seen, [each for each in finalizers if each != finalizer]):
                    return
            except NotFound:
                return
        raise Conflict(f"{kind.name} {namespace}/{name} changes too fast")

    async def _set_finalizers(self, kind: Kind, seen: Resource, finalizers: list[str]) -> bool:
        """Whether it worked; it does not if the object has changed since it was seen."""
        metadata = seen["metadata"]
        body = {"metadata": {"finalizers": finalizers, "resourceVersion": metadata["resourceVersion"]}}
        try:
            await self._rest.request(
                "PATCH",
                _path(kind, metadata["namespace"], metadata["name"]),
                query={"fieldManager": self._field_manager},
                body=body,
                content_type=MERGE_PATCH,
            )
        except Conflict:
            return False
        return True

    @override
    async def is_ending(self, namespace: str) -> bool:
        try:
            found = await self._rest.request("GET", _path(NAMESPACE, None, namespace))
        except (NotFound, Refused):
            return False
        return "deletionTimestamp" in found["metadata"]

    @override
    async def announce(self, event: Event) -> None:
        manifest = event_manifest(event, self._field_manager, self._instance)
        created = await self.create_once(manifest)
        if created.is_new:
            return
        body = {
            "metadata": {"resourceVersion": created.resource["metadata"]["resourceVersion"]},
            "series": counted_again(created.resource, event.at),
        }
        try:
            await self._rest.request("PATCH", _path_of(manifest), body=body, content_type=MERGE_PATCH)
        except (Conflict, NotFound):
            # Counted by somebody else, or expired, at this very moment: the event itself has been seen.
            return

    @override
    async def capabilities(self) -> Capabilities:
        async with self._reading_capabilities:
            now = time.monotonic()
            if self._capabilities is None or now - self._capabilities[0] >= self._capabilities_age:
                self._capabilities = (now, await self._read_capabilities())
            return self._capabilities[1]

    async def _read_capabilities(self) -> Capabilities:
        # Every authenticated user may read the schemas; to read the CRDs themselves takes cluster-wide rights.
        index = (await self._rest.request("GET", "openapi/v3"))["paths"]
        deployment = await self._schema(index, FLINK_DEPLOYMENT)
        return Capabilities(
            flink_versions=frozenset(_within(deployment, "spec", "flinkVersion").get("enum", ())),
            savepoint_redeploy=bool(_within(deployment, "spec", "job", "savepointRedeployNonce")),
            state_snapshots=await self._schema(index, FLINK_STATE_SNAPSHOT) is not None,
            spark_applications=await self._schema(index, SPARK_APPLICATION) is not None,
        )

    async def _schema(self, index: Resource, kind: Kind) -> Resource | None:
        """The OpenAPI schema of a kind, None if it is not installed. Fetched again only when its hash has changed.

        Raises:
            Unavailable: The kind is served, but its schema is not published. An API server that has just started
                publishes those of CRDs a little later than it is ready.
        """
        schema = await self._published(index, kind)
        if schema is None and await self._is_served(kind):
            raise Unavailable(f"the API server has not published the schema of {kind.plural}.{kind.group} yet")
        return schema

    async def _is_served(self, kind: Kind) -> bool:
        try:
            served = await self._rest.request("GET", kind.root)
        except (NotFound, NotInstalled):
            return False
        return any(each["name"] == kind.plural for each in served["resources"])

    async def _published(self, index: Resource, kind: Kind) -> Resource | None:
        if kind.root not in index:
            self._schemas.pop(kind.root, None)
            return None
        url: str = index[kind.root]["serverRelativeURL"]
        known = self._schemas.get(kind.root)
        if known is None or known[0] != url:
            try:
                document = await self._rest.request("GET", url.lstrip("/"))
            except (NotFound, NotInstalled):
                # Removed since the index was written.
                return None
            known = (url, _by_kind(document))
            self._schemas[kind.root] = known
        schema: Resource | None = known[1].get(kind.name)
        return schema


def _path(kind: Kind, namespace: str | None, name: str | None = None) -> str:
    """The path of an object, or of a collection where the name is None.

    Names come from users' resources too (a Secret's, a ConfigMap's): none of them may lead to another path.
    """
    namespaces = () if namespace is None else ("namespaces", _checked(_NAME, "name of a namespace", namespace))
    names = () if name is None else (_checked(_NAME, f"name of a {kind.name}", name),)
    return "/".join((kind.root, *namespaces, kind.plural, *names))


def _selector(labels: Mapping[str, str]) -> dict[str, str]:
    wanted = ",".join(f"{key}={_label(value)}" for key, value in sorted(labels.items()))
    return {"labelSelector": wanted} if wanted else {}


def _items(kind: Kind, page: Resource) -> list[Resource]:
    """The objects of a list; they don't repeat what stands at its head."""
    return [{"apiVersion": kind.api_version, "kind": kind.name, **item} for item in page["items"]]


def _sorted(found: list[Resource]) -> list[Resource]:
    return sorted(found, key=lambda each: (each["metadata"]["namespace"], each["metadata"]["name"]))


def _label(value: str) -> str:
    return _checked(_LABEL, "value of a label", value)


def _checked(pattern: re.Pattern[str], what: str, value: str) -> str:
    if not pattern.fullmatch(value):
        raise Refused(f"{value!r} can't be the {what}")
    return value


def _path_of(manifest: Manifest) -> str:
    metadata = manifest["metadata"]
    return _path(kind_of(manifest), metadata["namespace"], metadata["name"])


def _by_kind(document: Resource) -> Resource:
    """The schemas of an OpenAPI document of one group and version, by kind, as far as they are asked about."""
    schemas: dict[str, Resource] = document["components"]["schemas"]
    return {
        marks[0]["kind"]: _pruned(schema, _ASKED)
        for schema in schemas.values()
        if len(marks := schema.get("x-kubernetes-group-version-kind", ())) == 1
    }


def _pruned(schema: Resource, asked: Mapping[str, Any]) -> Resource:
    """A schema without the fields that nobody asks about: whole ones are kept for ever and take some megabytes."""
    if not asked:
        return schema
    fields = schema.get("properties", {})
    return {"properties": {name: _pruned(fields[name], below) for name, below in asked.items() if name in fields}}


def _within(schema: Resource | None, *path: str) -> Resource:
    """The schema of a field, empty if there is none."""
    for name in path:
        schema = (schema or {}).get("properties", {}).get(name)
    return schema or {}
