"""What the job has to know of the topic of its dead letters: how large a record it takes."""

import sys
from typing import Any

from lakehouse_contract.settings import BronzeSettings
from lakehouse_jobs import kafka_client

KAFKA_DEFAULT = 1_048_588
"""`max.message.bytes` of a topic, where nobody has set it."""
_SECONDS = 30
_SILENT = ("UnknownTopicOrPartitionException", "TopicAuthorizationException", "ClusterAuthorizationException")


def largest_record(jvm: Any, settings: BronzeSettings) -> int:
    """The `max.message.bytes` of the dead letter topic; Kafka's default where the topic is not there or won't say.

    Args:
        jvm: The JVM that PyFlink talks to; Flink's connector brings the Kafka client.
        settings: Where Kafka is and what the topic is called.

    Raises:
        SettingsRefused: Kafka does not let the job in.
    """
    from py4j.protocol import Py4JJavaError  # noqa: PLC0415 - only where PyFlink is

    kafka = kafka_client.package(jvm)
    topic = kafka.common.config.ConfigResource(
        getattr(kafka.common.config, "ConfigResource$Type").TOPIC, settings.dead_letter_topic
    )
    admin = kafka_client.admin(jvm, settings.kafka, _SECONDS)
    try:
        answer = admin.describeConfigs(jvm.java.util.List.of(topic)).all().get()
        return int(answer.get(topic).get("max.message.bytes").value())
    except Py4JJavaError as error:
        name = kafka_client.java_name(error)
        if name not in _SILENT:
            raise kafka_client.refusal(error, settings.kafka) or error from None
        print(
            f"the dead letter topic {settings.dead_letter_topic} does not say how large a record it takes ({name}):"
            f" {KAFKA_DEFAULT} bytes are assumed",
            file=sys.stderr,
        )
        return KAFKA_DEFAULT
    finally:
        admin.close()
