"""Which environment variable of a job holds which key of which Secret. No secret value ever passes through here."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from lakehouse_contract.settings import KafkaLogin
from lakehouse_operator.api.pipeline import Catalog, KafkaSecurity, PipelineSpec

_CATALOG_DEFAULTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "jdbc": {"jdbc.user": "username", "jdbc.password": "password"},
        "rest": {"credential": "credential"},
        "hive": {},
    }
)
_USER, _PASSWORD = "KAFKA_USERNAME", "KAFKA_PASSWORD"


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable that is filled from a key of a Secret."""

    name: str
    secret: str
    key: str
    optional: bool = False

    def as_env(self) -> dict[str, Any]:
        """The entry of a container's `env`."""
        reference: dict[str, Any] = {"name": self.secret, "key": self.key}
        if self.optional:
            reference["optional"] = True
        return {"name": self.name, "valueFrom": {"secretKeyRef": reference}}


def catalog_secret_properties(catalog: Catalog) -> dict[str, str]:
    """Catalog property -> the environment variable that holds its value."""
    return {name: _variable("CATALOG", name) for name in _catalog_keys(catalog)}


def _catalog_keys(catalog: Catalog) -> Mapping[str, str]:
    if catalog.secret_ref is None:
        return {}
    return catalog.secret_ref.properties or _CATALOG_DEFAULTS[catalog.type]


def kafka_properties(security: KafkaSecurity | None) -> dict[str, str]:
    """The Kafka client properties that say how to authenticate and hold no secret."""
    if security is None:
        return {}
    properties: dict[str, str] = {"security.protocol": security.protocol}
    if security.verify_with == "secret":
        properties["ssl.truststore.type"] = "PEM"
    if security.client_certificate:
        properties["ssl.keystore.type"] = "PEM"
    return properties


def kafka_secret_properties(security: KafkaSecurity | None) -> dict[str, str]:
    """Kafka client property -> the environment variable that holds its value."""
    if security is None:
        return {}
    return {name: _variable("KAFKA", name) for name, _ in _kafka_files(security)}


def kafka_login(security: KafkaSecurity | None) -> KafkaLogin | None:
    """How to log in, with the environment variables that hold user and password."""
    if security is None or security.mechanism is None:
        return None
    return KafkaLogin(mechanism=security.mechanism, username=_USER, password=_PASSWORD)


def _kafka_files(security: KafkaSecurity) -> list[tuple[str, str]]:
    """The PEM texts that the client reads: property and key in the Secret."""
    files = []
    if security.verify_with == "secret":
        files.append(("ssl.truststore.certificates", "ca.crt"))
    if security.client_certificate:
        files += [("ssl.keystore.certificate.chain", "tls.crt"), ("ssl.keystore.key", "tls.key")]
    return files


def _variable(section: str, name: str) -> str:
    return f"{section}_{re.sub('[^A-Z0-9]', '_', name.upper())}"


def stream_environment(spec: PipelineSpec) -> list[dict[str, Any]]:
    """The `env` of the stream's containers: storage, catalog and Kafka."""
    return [*batch_environment(spec), *_kafka_environment(spec.source.security)]


def batch_environment(spec: PipelineSpec) -> list[dict[str, Any]]:
    """The `env` of a batch job's containers: storage and catalog."""
    return [*_storage_environment(spec), *_catalog_environment(spec.catalog)]


def _storage_environment(spec: PipelineSpec) -> list[dict[str, Any]]:
    if spec.storage is None:
        return []
    found: list[dict[str, Any]] = [{"name": "AWS_REGION", "value": spec.storage.region}]
    if spec.storage.secret_ref is not None:
        secret = spec.storage.secret_ref.name
        found += [
            Variable("AWS_ACCESS_KEY_ID", secret, "AWS_ACCESS_KEY_ID").as_env(),
            Variable("AWS_SECRET_ACCESS_KEY", secret, "AWS_SECRET_ACCESS_KEY").as_env(),
            Variable("AWS_SESSION_TOKEN", secret, "AWS_SESSION_TOKEN", optional=True).as_env(),
        ]
    return found


def _catalog_environment(catalog: Catalog) -> list[dict[str, Any]]:
    if catalog.secret_ref is None:
        return []
    return [
        Variable(_variable("CATALOG", name), catalog.secret_ref.name, key).as_env()
        for name, key in sorted(_catalog_keys(catalog).items())
    ]


def _kafka_environment(security: KafkaSecurity | None) -> list[dict[str, Any]]:
    if security is None or security.secret_ref is None:
        return []
    secret = security.secret_ref.name
    found = [Variable(_variable("KAFKA", name), secret, key).as_env() for name, key in _kafka_files(security)]
    if security.mechanism is not None:
        found += [Variable(_USER, secret, "username").as_env(), Variable(_PASSWORD, secret, "password").as_env()]
    return found
