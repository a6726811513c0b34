"""Connections that pipelines share: a thousand of them with one Kafka and one catalog need one client of each.

What two pipelines share is told by everything that a client is made from, secrets included. So a pipeline with other
rights never looks through somebody else's connection, and a changed Secret gives a new one. A client ends with the last
pipeline that uses it.
"""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from pyiceberg.catalog import Catalog

from lakehouse_contract.decoding import to_json
from lakehouse_contract.settings import CatalogSettings
from lakehouse_operator.observation.kafka import KafkaObserver
from lakehouse_operator.tables.catalog import open_catalog

T = TypeVar("T")
R = TypeVar("R")
SLOW_SECONDS, REST_SECONDS = 5.0, 30.0
"""How long an error has to take before the others are spared it, and for how long they are."""


class Silent(Exception):
    """Something has not answered for a while. It tells the first error of that while, so that all say the same of it.

    Attributes:
        kind: the kind of that error; its text is this one's.
    """

    def __init__(self, kind: type[Exception], text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Shared(Generic[T]):
    """A client that is opened when it is first asked for, by whoever asks first. Whoever keeps this keeps it open.

    Args:
        make: Opens the client. It may block; only those who want the same client wait then.
        monotonic: A clock, in seconds.
    """

    def __init__(self, make: Callable[[], T], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._make = make
        self._monotonic = monotonic
        self._judging = threading.Lock()
        self._not_before = 0.0
        self._first: tuple[type[Exception], str] | None = None
        self._opening = threading.Lock()
        self._client: T | None = None

    def get(self) -> T:
        """The client; what opening it raises is raised to each who asks, and it is tried again."""
        with self._opening:
            if self._client is None:
                self._client = self._make()
            return self._client

    def ask(self, work: Callable[[T], R]) -> R:
        """Ask the client something.

        Whoever had to wait long for an error spares the others that: for a while they are told so at once, and then
        one of them tries again for all. Otherwise a thousand pipelines would wait, one after the other, for one broker.

        Raises:
            Silent: It has not answered for a while, whether or not it was asked just now.
        """
        began = self._monotonic()
        with self._judging:
            if self._first is not None and began < self._not_before:
                raise Silent(*self._first)
            if self._first is not None:
                self._not_before = began + REST_SECONDS  # this one tries for all
        try:
            answer = work(self.get())
        except Exception as error:
            if self._monotonic() - began < SLOW_SECONDS:
                self._first = None  # it has answered, and each may learn for itself what
                raise
            with self._judging:
                first = self._first = self._first or (type(error), str(error))
                self._not_before = self._monotonic() + REST_SECONDS
            raise Silent(*first) from error
        self._first = None
        return answer


class Clients:
    """The clients of one process, for use from many threads."""

    def __init__(self) -> None:
        self._finding = threading.Lock()
        self._kafka: WeakValueDictionary[str, Shared[KafkaObserver]] = WeakValueDictionary()
        self._catalogs: WeakValueDictionary[str, Shared[Catalog]] = WeakValueDictionary()

    def kafka(self, connection: Mapping[str, str]) -> Shared[KafkaObserver]:
        """The client for librdkafka's properties."""
        return self._found(self._kafka, _identity(dict(connection)), lambda: KafkaObserver(connection))

    def catalog(self, settings: CatalogSettings, secrets: Mapping[str, str]) -> Shared[Catalog]:
        """The client for a catalog with the values of its secret properties."""
        identity = _identity([to_json(settings), dict(secrets)])
        return self._found(self._catalogs, identity, lambda: open_catalog(settings, secrets))

    def _found(self, known: "WeakValueDictionary[str, Shared[T]]", identity: str, make: Callable[[], T]) -> Shared[T]:
        with self._finding:
            found = known.get(identity)
            if found is None:
                found = known[identity] = Shared(make)
            return found


def _identity(made_from: object) -> str:
    """Stands for everything that a client is made from, without holding its secrets."""
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
