"""What Kafka no longer holds is not passed over in silence."""

from dataclasses import replace

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from jobs.flink.bronze_world import Record, World
from jobs.flink.test_ingestion import ARRIVAL, event
from lakehouse_contract.decoding import SettingsRefused
from lakehouse_jobs import bronze


def events(first: int, count: int) -> list[Record]:
    return [Record(event(f"id-{number}"), arrival=ARRIVAL) for number in range(first, first + count)]


def drop_before(world: World, offset: int) -> None:
    """What retention does."""
    admin = AdminClient({"bootstrap.servers": world.bootstrap_servers})
    for answer in admin.delete_records([TopicPartition(world.settings.kafka.topic, 0, offset)]).values():
        answer.result(30)


def offsets(world: World) -> list[int]:
    return sorted(row["kafka_offset"] for row in world.rows())


def commit(world: World, offset: int) -> None:
    kafka = world.settings.kafka
    consumer = Consumer({"bootstrap.servers": world.bootstrap_servers, "group.id": kafka.consumer_group})
    consumer.commit(offsets=[TopicPartition(kafka.topic, 0, offset)], asynchronous=False)
    consumer.close()


@pytest.fixture
def quick(world: World) -> World:
    """Flink gives the job up at its first failure."""
    return world.change(restart=replace(world.settings.restart, attempts=0))


def fails_with(world: World, savepoint: str) -> str:
    """Why a job fails that is started from a savepoint."""
    rest = world.cluster.rest
    job = bronze.submit(world.settings, {}, target=world.cluster.address, from_savepoint=savepoint)
    world.until(lambda: rest.state(job) == "FAILED", "the job fails")
    return rest.root_exception(job) or ""


def test_the_job_fails_where_records_are_gone_and_goes_on_without_them_only_where_it_may(quick: World) -> None:
    quick.create_topics()
    quick.produce(events(0, 5))
    savepoint = quick.run()
    quick.produce(events(5, 10))
    drop_before(quick, 12)
    assert "OffsetOutOfRangeException" in fails_with(quick, savepoint)
    assert offsets(quick) == [0, 1, 2, 3, 4]

    may = quick.change(kafka=replace(quick.settings.kafka, offsets_gone="skip"))
    job = may.submit(from_savepoint=savepoint)
    may.until(may.caught_up, "everything is read", job=job)
    may.stop(job)
    assert offsets(may) == [0, 1, 2, 3, 4, 12, 13, 14]


def test_the_job_fails_where_its_topic_was_made_again_and_is_shorter(quick: World) -> None:
    quick.create_topics()
    quick.produce(events(0, 5))
    savepoint = quick.run()
    make_again(quick)
    quick.produce(events(100, 2))
    assert "OffsetOutOfRangeException" in fails_with(quick, savepoint)
    # Without state the new topic is read from its beginning, even where a group's offset of the old one is left.
    commit(quick, 5)
    quick.run()
    assert sorted(row["event_id"] for row in quick.rows()) == [
        "id-0",
        "id-1",
        "id-100",
        "id-101",
        *(f"id-{n}" for n in (2, 3, 4)),
    ]


def make_again(world: World) -> None:
    admin, topic = AdminClient({"bootstrap.servers": world.bootstrap_servers}), world.settings.kafka.topic
    admin.delete_topics([topic], operation_timeout=30)[topic].result(30)
    world.until(lambda: topic not in admin.list_topics(timeout=10).topics, "the topic is gone")
    again = NewTopic(topic, 1, 1, config={"message.timestamp.type": "CreateTime"})
    admin.create_topics([again], operation_timeout=30)[topic].result(30)


def test_a_group_that_has_read_nothing_begins_at_the_oldest_record_that_is_there(world: World) -> None:
    world.create_topics(partitions=3)
    world.produce(events(0, 5))
    drop_before(world, 3)
    world.run()
    assert offsets(world) == [3, 4]


def test_a_topic_that_is_not_there_is_named(world: World) -> None:
    with pytest.raises(SettingsRefused, match=f"Kafka has no topic {world.settings.kafka.topic}"):
        bronze.submit(world.settings, {}, target=world.cluster.address)
