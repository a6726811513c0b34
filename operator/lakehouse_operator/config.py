"""The operator's own settings, from the environment, read once at the start."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass


class ConfigurationRefused(ValueError):
    """An environment variable has a value that can't be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How this replica of the operator runs.

    Attributes:
        namespaces: what it cares for; empty means every namespace, which takes cluster-wide rights.
        namespace: where the operator itself, and its Lease, lives.
        identity: of this replica, for the Lease.
        leader_election: whether to wait for the Lease before doing anything.
        lease: the name of the Lease. Replicas of one name take turns, whatever they care for.
        allowed_endpoints: `host:port` patterns that it may talk to on behalf of pipelines; none means no observation.
        concurrency: how many pipelines are looked at at the same moment.
        metrics_port: where metrics are served; 0 serves none.
        health_port: where /healthz answers; 0 serves none.
        stale_after: seconds after which a pipeline that nobody tends, though it exists, counts as a silent watch.
    """

    namespaces: tuple[str, ...] = ()
    namespace: str = "default"
    identity: str = "local"
    leader_election: bool = True
    lease: str = "lakehouse-operator"
    allowed_endpoints: tuple[str, ...] = ()
    concurrency: int = 32
    metrics_port: int = 8080
    health_port: int = 8081
    stale_after: float = 120.0


def read_config(environment: Mapping[str, str] = os.environ) -> Config:
    """Read the settings.

    Raises:
        ConfigurationRefused: A value can't be used; the message names the variable.
    """
    base = Config()
    return Config(
        namespaces=_list(environment.get("WATCH_NAMESPACES", "")),
        namespace=environment.get("POD_NAMESPACE", base.namespace),
        identity=environment.get("POD_NAME", socket.gethostname()) + "_" + environment.get("POD_UID", str(os.getpid())),
        leader_election=_flag(environment, "LEADER_ELECTION", default=base.leader_election),
        lease=environment.get("LEASE_NAME") or base.lease,
        allowed_endpoints=_list(environment.get("ALLOWED_ENDPOINTS", "")),
        concurrency=_number(environment, "CONCURRENCY", base.concurrency, low=1),
        metrics_port=_number(environment, "METRICS_PORT", base.metrics_port),
        health_port=_number(environment, "HEALTH_PORT", base.health_port),
        stale_after=_number(environment, "STALE_AFTER_SECONDS", int(base.stale_after), low=10),
    )


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _flag(environment: Mapping[str, str], name: str, *, default: bool) -> bool:
    value = environment.get(name, "true" if default else "false").lower()
    if value not in ("true", "false"):
        raise ConfigurationRefused(f"{name} must be true or false, not {value!r}")
    return value == "true"


def _number(environment: Mapping[str, str], name: str, default: int, *, low: int = 0) -> int:
    value = environment.get(name, str(default))
    if not value.isdigit() or int(value) < low:
        raise ConfigurationRefused(f"{name} must be a whole number, at least {low}, not {value!r}")
    return int(value)
