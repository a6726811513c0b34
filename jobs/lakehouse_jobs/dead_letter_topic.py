"""What the job has to know of the topic of its dead letters: how large a record it takes."""

import sys
from collections.abc import Mapping
from typing import Any

from lakehouse_contract.settings import BronzeSettings

KAFKA_DEFAULT = 1_048_588
"""`max.message.bytes` of a topic, where nobody has set it."""
_SECONDS = 30
_SILENT = ("UnknownTopicOrPartitionException", "TopicAuthorizationException", "ClusterAuthorizationException")


def largest_record(jvm: Any, settings: BronzeSettings, secrets: Mapping[str, str]) -> int:
    """The `max.message.bytes` of the dead letter topic; Kafka's default where the topic is not there or won't say.

    Args:
        jvm: The JVM that PyFlink talks to; Flink's connector brings the Kafka client.
        settings: Where Kafka is and what the topic is called.
        secrets: Kafka client properties with their values.
    """
    from py4j.protocol import Py4JJavaError  # noqa: PLC0415 - only where PyFlink is

    kafka = jvm.org.apache.flink.kafka.shaded.org.apache.kafka
    properties = jvm.java.util.HashMap()
    for key, value in {**settings.kafka.properties, **secrets}.items():
        properties.put(key, value)
    properties.put("bootstrap.servers", settings.kafka.bootstrap_servers)
    for name in ("default.api.timeout.ms", "request.timeout.ms"):
        properties.put(name, str(1000 * _SECONDS))
    topic = kafka.common.config.ConfigResource(
        getattr(kafka.common.config, "ConfigResource$Type").TOPIC, settings.dead_letter_topic
    )
    admin = kafka.clients.admin.Admin.create(properties)
    try:
        answer = admin.describeConfigs(jvm.java.util.List.of(topic)).all().get()
        return int(answer.get(topic).get("max.message.bytes").value())
    except Py4JJavaError as error:
        reason = error.java_exception.getCause()
        name = "" if reason is None else reason.getClass().getSimpleName()
        if name not in _SILENT:
            raise
        print(
            f"the dead letter topic {settings.dead_letter_topic} does not say how large a record it takes ({name}):"
            f" {KAFKA_DEFAULT} bytes are assumed",
            file=sys.stderr,
        )
        return KAFKA_DEFAULT
    finally:
        admin.close()
