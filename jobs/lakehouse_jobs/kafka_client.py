"""How the job's Kafka clients connect, without a secret in any of their properties.

A secret stands in them as `${env:VARIABLE}`, and each client fills it in from the environment of its own process. So it
is neither in the job's SQL, nor in the job graph that Flink keeps in the store for high availability.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lakehouse_contract.decoding import Problem, SettingsRefused
from lakehouse_contract.settings import KafkaLogin, KafkaSettings

SHADED = "org.apache.flink.kafka.shaded.org.apache.kafka"
"""Where Flink's SQL connector keeps the Kafka client."""

_LOGIN_MODULES: Mapping[str, str] = {
    "PLAIN": "plain.PlainLoginModule",
    "SCRAM-SHA-256": "scram.ScramLoginModule",
    "SCRAM-SHA-512": "scram.ScramLoginModule",
}
OWN: Mapping[str, str] = {
    "bootstrap.servers": "use kafka.bootstrapServers",
    "group.id": "use kafka.consumerGroup",
    "transaction.timeout.ms": "use transactionTimeoutSeconds",
    "auto.offset.reset": "a new consumer group starts at the earliest record",
    "isolation.level": "only committed records are read",
    "enable.auto.commit": "offsets are committed with each checkpoint",
    "transactional.id": "each dead letter writer has its own",
    "enable.idempotence": "dead letters are written exactly once",
    "acks": "dead letters are written exactly once",
    "key.serializer": "keys are bytes",
    "value.serializer": "values are bytes",
    "key.deserializer": "keys are bytes",
    "value.deserializer": "values are bytes",
    "max.request.size": "it follows the dead letter topic's max.message.bytes",
    "buffer.memory": "it follows the dead letter topic's max.message.bytes",
    "config.providers": "secrets come by secretProperties and login",
    "sasl.mechanism": "use kafka.login",
    "sasl.jaas.config": "use kafka.login",
}
"""What the job sets itself: property, and what to do instead."""
_NOT_LET_IN = ("SaslAuthenticationException", "SslAuthenticationException")
_NO_JAAS = re.compile(r'["\\\x00-\x1f\x7f]')
_PKCS8 = re.compile(r"-----BEGIN (ENCRYPTED )?PRIVATE KEY-----")


def properties(kafka: KafkaSettings) -> dict[str, str]:
    """The properties of every client, with a reference for each secret.

    Raises:
        SettingsRefused: A property is one that the job sets itself.
    """
    if refused := tuple(_refused(kafka)):
        raise SettingsRefused(refused)
    secret = {name: _reference(variable) for name, variable in kafka.secret_properties.items()}
    if kafka.login is not None:
        secret |= {"sasl.mechanism": kafka.login.mechanism, "sasl.jaas.config": _jaas(kafka.login)}
    return {
        **kafka.properties,
        **(_provider(kafka) if secret else {}),
        **secret,
        "bootstrap.servers": kafka.bootstrap_servers,
    }


def _refused(kafka: KafkaSettings) -> Iterator[Problem]:
    for section, given in (("properties", kafka.properties), ("secretProperties", kafka.secret_properties)):
        for name, value in given.items():
            reason = OWN.get("config.providers" if name.startswith("config.providers.") else name)
            if reason is not None:
                yield Problem(f"kafka.{section}.{name}", f"can't be set: {reason}")
            elif "${" in value:
                yield Problem(f"kafka.{section}.{name}", "must not hold ${: secrets come by secretProperties and login")


def _provider(kafka: KafkaSettings) -> dict[str, str]:
    """What fills the references in; of the environment it sees nothing but the variables that are named here."""
    return {
        "config.providers": "env",
        "config.providers.env.class": f"{SHADED}.common.config.provider.EnvVarConfigProvider",
        "config.providers.env.param.allowlist.pattern": "|".join(sorted(variables(kafka))),
    }


def variables(kafka: KafkaSettings) -> dict[str, str]:
    """The environment variables that the clients read, each with the path of the setting that names it."""
    named = {variable: f"kafka.secretProperties.{name}" for name, variable in kafka.secret_properties.items()}
    login = kafka.login
    return named | ({login.username: "kafka.login.username", login.password: "kafka.login.password"} if login else {})


def _reference(variable: str) -> str:
    return f"${{env:{variable}}}"


def _jaas(login: KafkaLogin) -> str:
    module = f"{SHADED}.common.security.{_LOGIN_MODULES[login.mechanism]}"
    return f'{module} required username="{_reference(login.username)}" password="{_reference(login.password)}";'


def check_secrets(kafka: KafkaSettings, environment: Mapping[str, str]) -> None:
    """Check that the environment holds every secret, in a form that Kafka's client can read. No value is told.

    Raises:
        SettingsRefused: One is missing, or can't be used.
    """
    login = kafka.login
    logins = (login.username, login.password) if login else ()
    key = kafka.secret_properties.get("ssl.keystore.key")
    problems = []
    for variable, path in variables(kafka).items():
        value = environment.get(variable)
        if value is None:
            problems.append(Problem(path, f"the environment has no variable {variable}"))
        elif variable in logins and _NO_JAAS.search(value):
            told = "a double quote, a backslash, a line break or another control character"
            problems.append(Problem(path, f"the value of {variable} holds {told}, which Kafka's login can't take"))
        elif variable == key and not _PKCS8.search(value):
            told = "is no PKCS #8 key in PEM (BEGIN PRIVATE KEY); openssl pkcs8 -topk8 makes one of another"
            problems.append(Problem(path, f"the value of {variable} {told}"))
    if problems:
        raise SettingsRefused(tuple(problems))


def package(jvm: Any) -> Any:
    """The package of the Kafka client in the JVM that PyFlink talks to."""
    return jvm.org.apache.flink.kafka.shaded.org.apache.kafka


def admin(jvm: Any, kafka: KafkaSettings, seconds: int) -> Any:
    """Open Kafka's client for administrators, which waits so long for an answer. Whoever opens it closes it."""
    known = jvm.java.util.HashMap()
    for key, value in properties(kafka).items():
        known.put(key, value)
    for name in ("default.api.timeout.ms", "request.timeout.ms"):
        known.put(name, str(1000 * seconds))
    return package(jvm).clients.admin.Admin.create(known)


def java_name(error: Any) -> str:
    """The class of what the future of a Kafka client ended with, without its package; empty if it has no cause."""
    cause = error.java_exception.getCause()
    return "" if cause is None else str(cause.getClass().getSimpleName())


def refusal(error: Any, kafka: KafkaSettings) -> SettingsRefused | None:
    """What a person has to change, if the future of a Kafka client ended with something that no retry mends."""
    name = java_name(error)
    if name in _NOT_LET_IN:
        told = Problem("kafka", f"Kafka refused the login: {error.java_exception.getCause().getMessage()}")
    elif name == "UnknownTopicOrPartitionException":
        told = Problem("kafka.topic", f"Kafka has no topic {kafka.topic}: create it")
    elif name == "TopicAuthorizationException":
        told = Problem("kafka.topic", f"Kafka does not let the job read {kafka.topic}: allow it (docs/kafka.md)")
    elif name == "GroupAuthorizationException":
        told = Problem(
            "kafka.consumerGroup", f"Kafka does not let the job be {kafka.consumer_group}: allow it (docs/kafka.md)"
        )
    else:
        return None
    return SettingsRefused((told,))
