"""A real broker that lets nobody in unknown: SASL (PLAIN and SCRAM), TLS, and TLS with client certificates, with ACLs.

Its plain listener is the test's own way in: the administrator's.
"""

import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from lakehouse_contract.settings import KafkaLogin, KafkaSettings
from lakehouse_jobs import kafka_client
from lakehouse_operator.local import kafka, ports
from lakehouse_operator.local.engines import Engines
from lakehouse_operator.local.processes import Processes

USER = "numerals"
PASSWORD = "it's ${secret}; =$(x)%s ''#"
"""With everything in it that SQL, shells and templates might take for theirs."""
PREFIX = "secured-"
"""What the user may read and write begins with this."""

_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
_PROTOCOLS = {"SASLPLAIN": "SASL_PLAINTEXT", "SASLTLS": "SASL_SSL", "MTLS": "SSL"}


@dataclass(frozen=True)
class Way:
    """A way in.

    Attributes:
        bootstrap_servers: Where.
        security: What `source.security` of a pipeline says, but for its Secret.
        kafka: The settings that follow from it, as the jobs get them.
        environment: The Secret's values, as the jobs get them.
    """

    bootstrap_servers: str
    security: Mapping[str, Any]
    kafka: KafkaSettings
    environment: Mapping[str, str]


@dataclass(frozen=True)
class SecuredBroker:
    """The broker, for its administrator, and the ways in for everybody else. `again` starts it where it was."""

    plain: kafka.Broker
    ways: Mapping[str, Way]
    again: Callable[[], kafka.Broker]


def start(processes: Processes, engines: Engines, directory: Path, certificates: Mapping[str, str]) -> SecuredBroker:
    """Start it, and wait until the user may come in."""
    taken: set[int] = set()
    listeners = {name: _port(taken) for name in _PROTOCOLS}
    port = _port(taken)

    def run() -> kafka.Broker:
        deadline = time.monotonic() + 60
        while not ports.free("127.0.0.1", port):
            assert time.monotonic() < deadline, "the port of the broker is not free again"
            time.sleep(0.1)
        broker = kafka.start(
            processes,
            engines,
            directory / "kafka",
            port=port,
            listeners=listeners,
            properties=_properties(certificates),
        )
        broker.wait_until_ready()
        return broker

    broker = run()
    _admit(AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 2}))
    ways = _ways(certificates, {name: f"127.0.0.1:{where}" for name, where in listeners.items()})
    return SecuredBroker(broker, ways, run)


def _port(taken: set[int]) -> int:
    port = ports.choose(taken=frozenset(taken))
    taken.add(port)
    return port


def environment(certificates: Mapping[str, str]) -> dict[str, str]:
    """All variables that any of the ways needs."""
    return {
        "KAFKA_USERNAME": USER,
        "KAFKA_PASSWORD": PASSWORD,
        "KAFKA_SSL_TRUSTSTORE_CERTIFICATES": certificates["ca.crt"],
        "KAFKA_SSL_KEYSTORE_CERTIFICATE_CHAIN": certificates["client.crt"],
        "KAFKA_SSL_KEYSTORE_KEY": certificates["client.key"],
    }


def _ways(certificates: Mapping[str, str], servers: Mapping[str, str]) -> dict[str, Way]:
    values = environment(certificates)
    trust = {"ssl.truststore.certificates": "KAFKA_SSL_TRUSTSTORE_CERTIFICATES"}
    shown = {
        "ssl.keystore.certificate.chain": "KAFKA_SSL_KEYSTORE_CERTIFICATE_CHAIN",
        "ssl.keystore.key": "KAFKA_SSL_KEYSTORE_KEY",
    }

    def way(listener: str, mechanism: Any, *, secret: Mapping[str, str], **more: Any) -> Way:
        protocol = _PROTOCOLS[listener]
        types = {"ssl.truststore.type": "PEM"} if secret else {}
        types |= {"ssl.keystore.type": "PEM"} if "ssl.keystore.key" in secret else {}
        login = KafkaLogin(mechanism=mechanism, username="KAFKA_USERNAME", password="KAFKA_PASSWORD")
        kafka = KafkaSettings(
            bootstrap_servers=servers[listener],
            topic=f"{PREFIX}events",
            consumer_group=f"{PREFIX}bronze",
            properties={"security.protocol": protocol, **types},
            secret_properties=secret,
            login=login if mechanism else None,
        )
        wanted = kafka_client.variables(kafka)
        security = {"protocol": protocol, **({"mechanism": mechanism} if mechanism else {}), **more}
        return Way(servers[listener], security, kafka, {name: values[name] for name in wanted})

    verified = {"verifyWith": "secret"}
    return {
        "SCRAM-SHA-256": way("SASLPLAIN", "SCRAM-SHA-256", secret={}),
        "SCRAM-SHA-512 over TLS": way("SASLTLS", "SCRAM-SHA-512", secret=trust, **verified),
        "PLAIN over TLS": way("SASLTLS", "PLAIN", secret=trust, **verified),
        "mTLS": way("MTLS", None, secret=trust | shown, **verified, clientCertificate=True),
    }


def _properties(certificates: Mapping[str, str]) -> dict[str, str]:
    protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **_PROTOCOLS}
    plain = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    sasl = {
        f"listener.name.{name}.{key}": value
        for name in ("saslplain", "sasltls")
        for key, value in {
            "sasl.enabled.mechanisms": "SCRAM-SHA-256,SCRAM-SHA-512,PLAIN",
            "scram-sha-256.sasl.jaas.config": _SCRAM,
            "scram-sha-512.sasl.jaas.config": _SCRAM,
            "plain.sasl.jaas.config": plain,
        }.items()
    }
    return {
        "listener.security.protocol.map": ",".join(f"{name}:{value}" for name, value in protocols.items()),
        "inter.broker.listener.name": "PLAINTEXT",
        **sasl,
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": certificates["broker.pem"],
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": certificates["ca.pem"],
        "listener.name.mtls.ssl.client.auth": "required",
        "listener.name.mtls.ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/$1/,DEFAULT",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        # Transactions that have taken too long are ended at once, not within ten seconds.
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    }


def _admit(admin: AdminClient) -> None:
    """Make the user, with the rights that docs/kafka.md names, and none but those."""
    mechanisms = (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)
    wanted = [
        UserScramCredentialUpsertion(USER, ScramCredentialInfo(each, 4096), PASSWORD.encode()) for each in mechanisms
    ]
    for each in wanted:
        admin.alter_user_scram_credentials([each])[USER].result(30)
    rights = {
        ResourceType.TOPIC: (AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE_CONFIGS),
        ResourceType.GROUP: (AclOperation.READ,),
        ResourceType.TRANSACTIONAL_ID: (AclOperation.WRITE,),
    }
    acls = [
        AclBinding(kind, "default/" + PREFIX if kind is ResourceType.TRANSACTIONAL_ID else PREFIX,
                   ResourcePatternType.PREFIXED, f"User:{USER}", "*", operation, AclPermissionType.ALLOW)
        for kind, operations in rights.items()
        for operation in operations
    ]  # fmt: skip
    acls += [AclBinding(ResourceType.GROUP, "lakehouse-verify", ResourcePatternType.LITERAL, f"User:{USER}", "*",
                        AclOperation.READ, AclPermissionType.ALLOW)]  # fmt: skip
    for answer in admin.create_acls(acls).values():
        answer.result(30)


def make_certificates(directory: Path) -> dict[str, str]:
    """Certificates of an authority of their own: PEM texts, and for the broker the files that hold them."""
    folder = directory / "certificates"
    folder.mkdir()
    new = ("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-sha256")
    made = {"ca": ("-x509", "-days", "2")}
    for name in ("broker", "client"):
        made[name] = ("-x509", "-days", "2", "-CA", "ca.crt", "-CAkey", "ca.key",
                      "-addext", "basicConstraints=CA:FALSE",
                      *(("-addext", "subjectAltName=IP:127.0.0.1") if name == "broker" else ()))  # fmt: skip
    for name, more in made.items():
        subject = f"/CN={USER if name == 'client' else name}"
        done = subprocess.run(
            [*new, *more, "-subj", subject, "-keyout", f"{name}.key", "-out", f"{name}.crt"],
            cwd=folder, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    read = {path.name: path.read_text() for path in folder.iterdir()}
    (folder / "broker.pem").write_text(read["broker.key"] + read["broker.crt"])
    return {**read, "broker.pem": str(folder / "broker.pem"), "ca.pem": str(folder / "ca.crt")}
