"""One look at everything outside the API server that a decision about a pipeline may need.

Each part is read on its own: Kafka being away does not hide the tables. The calls block; the caller runs them in a
thread.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from pyiceberg.catalog import Catalog

from lakehouse_contract.decoding import to_json
from lakehouse_contract.settings import BronzeSettings
from lakehouse_operator.observation.clients import Clients, Shared, Silent
from lakehouse_operator.observation.flink import FlinkUnreadable, job_health
from lakehouse_operator.observation.kafka import KafkaObserver, KafkaUnreadable
from lakehouse_operator.observation.savepoints import SavepointObserver
from lakehouse_operator.planning.observed import Observation
from lakehouse_operator.tables.observe import TableObserver

T = TypeVar("T")
_SELDOM_SECONDS = 600.0
"""How often is asked what hardly ever changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What to look at.

    `settings` name catalog and topic; `secrets` hold the values of their secret properties, by environment variable.
    `known` holds, for a table, a snapshot from which back nobody asks how far rows had arrived, and `asked` those that
    are looked for however old they are. `job` is the REST address and the id of the running job.
    """

    settings: BronzeSettings
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    tables: tuple[str, ...] = ()
    known: Mapping[str, int] = field(default_factory=dict)
    asked: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    boundaries: tuple[datetime, ...] = ()
    savepoints: tuple[str, ...] = ()
    job: tuple[str, str] | None = None


class Observer:
    """Looks at one pipeline again and again; connections and what never changes are kept between looks.

    Args:
        clients: The connections that it shares with other pipelines.
    """

    def __init__(self, clients: Clients | None = None) -> None:
        self._clients = clients or Clients()
        self._opened: str | None = None
        self._catalog: Shared[Catalog] | None = None
        self._tables: TableObserver | None = None
        self._kafka: Shared[KafkaObserver] | None = None
        self._savepoint_observer = SavepointObserver(time.monotonic)
        self._timestamps: str | None = None
        self._timestamps_read_at = float("-inf")

    def observe(self, look: Look) -> Observation:
        """Read what can be read. What can't is None, and `problem` says why, without any secret."""
        problems: list[str] = []
        self._open(look)
        tables = _part(
            problems,
            "the catalog",
            lambda: self._shared_catalog(look).ask(
                lambda catalog: self._table_observer(catalog).observe(look.tables, known=look.known, asked=look.asked)
            ),
        )
        kafka = _part(
            problems,
            "Kafka",
            lambda: self._shared_kafka(look).ask(
                lambda kafka: kafka.progress(
                    look.settings.kafka.topic, look.settings.kafka.consumer_group, look.boundaries
                )
            ),
        )
        topic_id = (
            _part(
                problems,
                "Kafka",
                lambda: self._shared_kafka(look).ask(lambda kafka: kafka.topic_id(look.settings.kafka.topic)),
            )
            if kafka is not None
            else None
        )
        savepoints = _part(problems, "savepoints", lambda: self._savepoints(look)) if look.savepoints else {}
        job = look.job
        health = _part(problems, "Flink", lambda: job_health(*job)) if job else None
        return Observation(
            tables=tables,
            kafka=kafka,
            savepoints=savepoints,
            job=health,
            timestamps=self._timestamp_type(look) if kafka is not None else None,
            topic_id=topic_id,
            problem="; ".join(problems) or None,
            interrupted=bool(problems),
        )

    def _timestamp_type(self, look: Look) -> str | None:
        """Whose clock the topic's timestamps are by. Not everybody may read it, which is no problem."""
        now = time.monotonic()
        if now - self._timestamps_read_at > _SELDOM_SECONDS:
            self._timestamps_read_at = now
            with suppress(KafkaUnreadable, Silent):
                self._timestamps = self._shared_kafka(look).ask(
                    lambda kafka: kafka.timestamp_type(look.settings.kafka.topic)
                )
        return self._timestamps

    def catalog(self, look: Look) -> Catalog:
        """The opened catalog, for moving what was observed."""
        return self._shared_catalog(look).get()

    def _shared_catalog(self, look: Look) -> Shared[Catalog]:
        self._open(look)
        if self._catalog is None:
            settings = look.settings.catalog
            secrets = {**_s3_keys(look), **_named(settings.secret_properties, look.secrets)}
            self._catalog = self._clients.catalog(settings, secrets)
        return self._catalog

    def _open(self, look: Look) -> None:
        """Forget everything when addresses or secrets have changed."""
        wanted = to_json(look.settings.catalog) + to_json(look.settings.kafka) + str(sorted(look.secrets.items()))
        if wanted != self._opened:
            self._opened, self._catalog, self._tables, self._kafka = wanted, None, None, None
            self._timestamps, self._timestamps_read_at = None, float("-inf")

    def _table_observer(self, catalog: Catalog) -> TableObserver:
        if self._tables is None:
            self._tables = TableObserver(catalog)
        return self._tables

    def _shared_kafka(self, look: Look) -> Shared[KafkaObserver]:
        if self._kafka is None:
            self._kafka = self._clients.kafka(kafka_connection(look))
        return self._kafka

    def _savepoints(self, look: Look) -> dict[str, int]:
        io = self.catalog(look)._load_file_io(location=look.savepoints[0])
        return self._savepoint_observer.readable(io, look.savepoints)


_JAVA_TO_LIBRDKAFKA = {
    "ssl.truststore.certificates": "ssl.ca.pem",
    "ssl.keystore.certificate.chain": "ssl.certificate.pem",
    "ssl.keystore.key": "ssl.key.pem",
}


def kafka_connection(look: Look) -> dict[str, str]:
    """Librdkafka's properties. Java's that it does not know by the same name are translated or left out."""
    kafka = look.settings.kafka
    plain = {name: value for name, value in kafka.properties.items() if name == "security.protocol"}
    if "ssl.endpoint.identification.algorithm" in kafka.properties:
        # Java's client leaves the broker's name unchecked where this is empty.
        plain["ssl.endpoint.identification.algorithm"] = (
            kafka.properties["ssl.endpoint.identification.algorithm"].lower() or "none"
        )
    given = _named(kafka.secret_properties, look.secrets)
    secret = {_JAVA_TO_LIBRDKAFKA[name]: value for name, value in given.items() if name in _JAVA_TO_LIBRDKAFKA}
    return {"bootstrap.servers": kafka.bootstrap_servers, **plain, **secret, **_login(look)}


def _login(look: Look) -> dict[str, str]:
    login = look.settings.kafka.login
    if login is None:
        return {}
    values = _named({"sasl.username": login.username, "sasl.password": login.password}, look.secrets)
    return {"sasl.mechanism": login.mechanism, **values}


def _s3_keys(look: Look) -> dict[str, str]:
    """The store's keys, as pyiceberg calls what the jobs get as AWS's environment variables."""
    return _named(
        {
            "s3.access-key-id": "AWS_ACCESS_KEY_ID",
            "s3.secret-access-key": "AWS_SECRET_ACCESS_KEY",
            "s3.session-token": "AWS_SESSION_TOKEN",
        },
        look.secrets,
    )


def _named(properties: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    return {name: values[variable] for name, variable in properties.items() if variable in values}


def _part(problems: list[str], what: str, read: Callable[[], T]) -> T | None:
    try:
        return read()
    except Silent as silent:
        problems.append(_told(what, silent.kind, str(silent)))
    except Exception as error:  # noqa: BLE001 - which errors there are is up to catalogs, stores and drivers
        problems.append(_told(what, type(error), str(error)))
    return None


def _told(what: str, kind: type[Exception], text: str) -> str:
    """What may be told of an error. A driver's message can hold the URL that it was given, password and all."""
    return text if issubclass(kind, (KafkaUnreadable, FlinkUnreadable)) else f"{what} can't be read: {kind.__name__}"
