"""What the operator needs of a cluster.

Resources are plain dictionaries in the API server's own JSON: foreign kinds are not modelled, and a field that we don't
name is not ours. Every operation may be repeated: after a crash, a timeout or a lost answer, doing it again leads to
the same state.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol, TypeAlias

from lakehouse_operator.cluster.kinds import Kind
from lakehouse_operator.planning.observed import Capabilities

Manifest: TypeAlias = Mapping[str, Any]
Resource: TypeAlias = dict[str, Any]

FIELD_MANAGER = "lakehouse-operator"
"""The one name under which the operator owns fields. Changing it would orphan every field that it ever applied."""


@dataclass(frozen=True, slots=True)
class Created:
    """The outcome of `create_once`.

    Attributes:
        resource: the object as the API server holds it.
        is_new: False where it existed before. It may then be somebody else's: compare owner and spec before trusting
            it. After a lost answer, False is also what the creator itself gets.
    """

    resource: Resource
    is_new: bool


def generation_of(resource: Resource) -> tuple[tuple[str, str], int]:
    """An object's namespace and name, and its generation."""
    metadata = resource["metadata"]
    return (metadata["namespace"], metadata["name"]), metadata.get("generation", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to an object, for people to read.

    Attributes:
        reason: one word in PascalCase, made for machines.
        message: a sentence; what is beyond 1024 characters is cut off.
        at: when it happened, with a time zone.
    """

    kind: Kind
    namespace: str
    name: str
    uid: str
    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    at: datetime


class Cluster(Protocol):
    """A cluster, as far as the operator is concerned.

    All operations may raise `Unavailable`, `Throttled`, `Refused` and `NotInstalled` (see `errors`), after they have
    been retried for a while where that makes sense; the docstrings name only what else there is.
    """

    async def read(self, kind: Kind, namespace: str, name: str) -> Resource:
        """The object as it is now.

        Raises:
            NotFound: if there is none.
        """
        ...

    async def list_labelled(self, kind: Kind, namespace: str | None, labels: Mapping[str, str]) -> list[Resource]:
        """All objects of a kind that carry all these labels, sorted by namespace and name.

        Args:
            kind: what to look for.
            namespace: where; None looks everywhere, which takes cluster-wide rights.
            labels: labels with the values that they must have; none means every object.
        """
        ...

    async def list_followed(self, kind: Kind, namespace: str | None, labels: Mapping[str, str]) -> list[Resource]:
        """As `list_labelled`, for whoever also watches the kind: cheaper, and perhaps a moment old.

        It is never older than what was listed, written (deletions apart) or `heard` here before. The first one is as
        new as `list_labelled`.
        """
        return await self.list_labelled(kind, namespace, labels)

    def heard(self, kind: Kind, version: str) -> None:  # noqa: ARG002 - nothing lags where there is no cache
        """Tell that a watch has spoken of a resource version of a kind, so that no followed list is older."""
        return

    async def generations(self, kind: Kind, namespace: str | None) -> Mapping[tuple[str, str], int]:
        """The generation of every object of a kind, by namespace and name; 0 where the kind has none."""
        found = await self.list_labelled(kind, namespace, {})
        return dict(map(generation_of, found))

    async def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Resource:
        """Make the object have these fields (server-side apply under one field manager, taking over contested fields).

        Fields that we applied before and don't name now are removed; fields of others stay. An apply that changes
        nothing is not a write. A field that the kind does not have is refused, never dropped in silence. With
        `metadata.uid` only that very object is changed, and none is made if it is gone. With `metadata.resourceVersion`
        only the version that was read is changed; give the UID too, or an object that was deleted in between comes
        back.

        Args:
            manifest: with `apiVersion`, `kind`, `metadata.namespace` and `metadata.name`; a status in it is ignored.
            dry_run: only ask what would come out.

        Returns:
            The object after the change.

        Raises:
            NotFound: if the namespace does not exist.
            Conflict: if the manifest names a UID or a resource version that is not the object's.
        """
        ...

    async def create_once(self, manifest: Manifest) -> Created:
        """Create the object unless one of this name exists; that one is returned as it is.

        Raises:
            NotFound: if the namespace does not exist.
        """
        ...

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Delete this very object, and in the background what it owns. One that is gone already is no mistake.

        Raises:
            Conflict: if there is another object of this name.
        """
        ...

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
        """Make the whole status of this very object be this; the rest of the object stays as it is.

        A status that is so already is not a write.

        Args:
            kind: the kind of the object.
            namespace: where it is.
            name: its name.
            uid: the object that is meant.
            status: the whole status. What stood there before and is not named now is removed, whoever wrote it.
            resource_version: if given, the object must not have changed since.

        Raises:
            NotFound: if the object is gone.
            Conflict: if there is another object of this name, or it has changed.
        """
        ...

    async def add_finalizer(self, kind: Kind, namespace: str, name: str, *, uid: str, finalizer: str) -> None:
        """Keep this very object from vanishing until the finalizer is removed. Refused once it is being deleted.

        Raises:
            NotFound: if the object is gone.
            Conflict: if there is another object of this name, or it changes again and again.
        """
        ...

    async def remove_finalizer(self, kind: Kind, namespace: str, name: str, *, uid: str, finalizer: str) -> None:
        """Let this very object go. One that is gone, or was replaced by another, needs nothing.

        Raises:
            Conflict: if the object changes again and again.
        """
        ...

    async def is_ending(self, namespace: str) -> bool:
        """Whether a namespace is being deleted, so that nothing can be created in it any more.

        Where the right to read it is missing, it counts as one that stays.
        """
        ...

    async def announce(self, event: Event) -> None:
        """Post an event. The same one about the same object again only raises its count."""
        ...

    async def capabilities(self) -> Capabilities:
        """What the installed upstream operators can do, from the schemas of their CRDs. May be half a minute old."""
        ...
