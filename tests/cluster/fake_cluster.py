"""The local cluster with what tests need besides. It passes the same suite as the real one (`test_cluster_port.py`)."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from typing_extensions import override

from lakehouse_operator.cluster.kinds import Kind
from lakehouse_operator.local.cluster import CAPABILITIES, LocalCluster, Write
from lakehouse_operator.local.objects import InMemory, Objects
from lakehouse_operator.planning.observed import Capabilities

__all__ = ["FakeCluster", "Store", "Write"]


@dataclass
class Store:
    """What all views of one fake cluster share.

    `writes` lists what really changed something; `before_write` is called before each such change and may raise, as if
    the process died or the server failed; `missing` holds (group, plural) of the kinds that are not installed;
    `capabilities` can be exchanged.
    """

    capabilities: Capabilities = CAPABILITIES
    missing: set[tuple[str, str]] = field(default_factory=set)
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
        if self.store.before_write is not None:
            self.store.before_write(write)
        self.store.writes.append(replace(write, resource=copy.deepcopy(write.resource)))

    @override
    def is_missing(self, kind: Kind) -> bool:
        return (kind.group, kind.plural) in self.store.missing

    @override
    async def capabilities(self) -> Capabilities:
        return self.store.capabilities

    def add_namespace(self, name: str) -> None:
        """Make a namespace."""
        assert self.namespaces is not None
        self.namespaces.add(name)
