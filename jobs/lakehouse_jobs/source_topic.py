"""Where a consumer group that has read nothing yet begins is written down, so that nothing is passed over in silence.

With `auto.offset.reset=earliest` Kafka's client would go on from the oldest record, without a word, wherever the one
that is to be read next is gone. So it is `none`, and the group's first offsets are committed here, before the job runs.
"""

import sys
from typing import Any

from lakehouse_contract.settings import KafkaSettings
from lakehouse_jobs import kafka_client

_SECONDS = 30


def begin(jvm: Any, settings: KafkaSettings) -> None:
    """Let the group begin at the oldest record of each partition for which it has committed nothing.

    So it does where what it has committed lies behind the partition's end: the topic was made again since.

    Args:
        jvm: The JVM that PyFlink talks to.
        settings: Where Kafka is, the topic and the group.

    Raises:
        SettingsRefused: There is no such topic, or Kafka does not let the job read it.
    """
    from py4j.protocol import Py4JJavaError  # noqa: PLC0415 - only where PyFlink is

    admin = kafka_client.admin(jvm, settings, _SECONDS)
    try:
        _begin(jvm, admin, settings)
    except Py4JJavaError as error:
        raise kafka_client.refusal(error, settings) or error from None
    finally:
        admin.close()


def _begin(jvm: Any, admin: Any, settings: KafkaSettings) -> None:
    kafka = kafka_client.package(jvm)
    topic = settings.topic
    described = admin.describeTopics(jvm.java.util.List.of(topic)).allTopicNames().get().get(topic)
    partitions = [kafka.common.TopicPartition(topic, each.partition()) for each in described.partitions()]
    known = admin.listConsumerGroupOffsets(settings.consumer_group).partitionsToOffsetAndMetadata().get()
    starts = _offsets(jvm, admin, partitions, kafka.clients.admin.OffsetSpec.earliest())
    ends = _offsets(jvm, admin, partitions, kafka.clients.admin.OffsetSpec.latest())
    wanted = jvm.java.util.HashMap()
    for partition in partitions:
        committed = known.get(partition)
        number = partition.partition()
        if committed is not None and committed.offset() <= ends[number]:
            continue
        if committed is not None:
            print(
                f"partition {number} of {topic} ends before offset {committed.offset()}, which the group"
                f" {settings.consumer_group} has committed: the topic was made again, and is read from its beginning",
                file=sys.stderr,
            )
        wanted.put(partition, kafka.clients.consumer.OffsetAndMetadata(starts[number]))
    if wanted.size():
        admin.alterConsumerGroupOffsets(settings.consumer_group, wanted).all().get()


def _offsets(jvm: Any, admin: Any, partitions: list[Any], spec: Any) -> dict[int, int]:
    asked = jvm.java.util.HashMap()
    for partition in partitions:
        asked.put(partition, spec)
    found = admin.listOffsets(asked).all().get()
    return {partition.partition(): found.get(partition).offset() for partition in partitions}
