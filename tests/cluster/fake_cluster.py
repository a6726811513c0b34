"""The local cluster with what tests need besides. It passes the same suite as the real one (`test_cluster_port.py`)."""

import copy
from collections.abc import Callable, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count

from typing_extensions import override

from lakehouse_operator.cluster.errors import Refused
from lakehouse_operator.cluster.kinds import Kind
from lakehouse_operator.local.cluster import CAPABILITIES, LocalCluster, Write
from lakehouse_operator.local.objects import Held, Key, Objects, from_json, to_json
from lakehouse_operator.planning.observed import Capabilities

__all__ = ["FakeCluster", "InMemory", "Store", "Write"]


class InMemory(Objects):
    """Objects that end with the program."""

    def __init__(self) -> None:
        self._held: MutableMapping[Key, str] = {}
        self._numbers = count(1)

    @override
    def find(self, key: Key) -> Held | None:
        text = self._held.get(key)
        return None if text is None else from_json(text)

    @override
    def keys(self, group: str, plural: str) -> list[Key]:
        return sorted(key for key in self._held if key[:2] == (group, plural))

    @override
    def put(self, key: Key, held: Held) -> None:
        self._held[key] = to_json(held)

    @override
    def remove(self, key: Key) -> None:
        del self._held[key]

    @override
    def next_number(self) -> int:
        return next(self._numbers)

    @override
    def changing(self) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass
class Store:
    """What all views of one fake cluster share.

    `writes` lists what really changed something; `before_write` is called before each such change and may raise, as if
    the process died or the server failed; `missing` holds (group, plural) of the kinds that are not installed;
    `capabilities` can be exchanged. In an `ending` namespace nothing is created.
    """

    capabilities: Capabilities = CAPABILITIES
    missing: set[tuple[str, str]] = field(default_factory=set)
    ending: set[str] = field(default_factory=set)
    writes: list[Write] = field(default_factory=list)
    before_write: Callable[[Write], None] | None = None


class FakeCluster(LocalCluster):
    """A local cluster in memory, unless other objects are given."""

    def __init__(
        self,
        *,
        namespaces: tuple[str, ...] = ("default",),
        now: Callable[[], datetime] = lambda: datetime(2026, 1, 1, tzinfo=UTC),
        objects: Objects | None = None,
    ) -> None:
        super().__init__(objects or InMemory(), namespaces=set(namespaces), now=now)
        self.store = Store()

    @override
    def about_to(self, write: Write) -> None:
        metadata = write.resource["metadata"]
        is_new = self.objects.find(self._key_of(write.resource)) is None
        if is_new and metadata["namespace"] in self.store.ending:
            raise Refused(f"namespace {metadata['namespace']} is being terminated")
        if self.store.before_write is not None:
            self.store.before_write(write)
        self.store.writes.append(replace(write, resource=copy.deepcopy(write.resource)))

    @override
    def is_missing(self, kind: Kind) -> bool:
        return (kind.group, kind.plural) in self.store.missing

    @override
    async def capabilities(self) -> Capabilities:
        return self.store.capabilities

    @override
    async def is_ending(self, namespace: str) -> bool:
        return namespace in self.store.ending

    def add_namespace(self, name: str) -> None:
        """Make a namespace."""
        assert self.namespaces is not None
        self.namespaces.add(name)
