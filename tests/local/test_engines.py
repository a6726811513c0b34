"""A real broker starts, keeps its data, and ends without a trace; what can't start says why."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from lakehouse_operator.local import engines as find_engines
from lakehouse_operator.local import guard, kafka
from lakehouse_operator.local.engines import EngineMissing, Engines
from lakehouse_operator.local.processes import Processes, ProcessFailed
from lakehouse_operator.local.spark import result_line
from lakehouse_operator.local.topics import LiveCount, Topics, lag
from lakehouse_operator.observation.kafka import KafkaObserver, KafkaUnreadable


@pytest.fixture(scope="module")
def engines() -> Engines:
    return find_engines.find()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with Processes(tmp_path / "records", tmp_path / "logs") as processes:
        yield processes


def test_a_broker_keeps_topics_records_and_committed_offsets_over_a_restart(
    engines: Engines, processes: Processes, tmp_path: Path
) -> None:
    broker = kafka.start(processes, engines, tmp_path / "kafka")
    broker.wait_until_ready()
    settings = (tmp_path / "kafka" / "server.properties").read_text()
    assert re.findall(r"//([^:]+):", settings) == ["127.0.0.1"] * 3  # nobody else can reach it

    topics = Topics(broker.bootstrap_servers)
    topics.create("events", partitions=2, timestamps="CreateTime")
    topics.create("events", partitions=2, timestamps="CreateTime")
    assert topics.ends("events") == {0: 0, 1: 0}
    assert topics.committed("group", "events") == {0: 0, 1: 0}

    long_ago_ms = 1_000_000_000_000  # the real clock must not make it expire
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "log_level": 2})
    for number in range(3):
        producer.produce("events", b"x", partition=1, timestamp=long_ago_ms + number)
    assert producer.flush(30) == 0
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "group", "log_level": 2})
    consumer.commit(offsets=[TopicPartition("events", 1, 2)], asynchronous=False)
    consumer.close()

    broker.process.stop()
    assert guard.started(broker.process.pid) is None
    again = kafka.start(processes, engines, tmp_path / "kafka", port=broker.port)
    again.wait_until_ready()
    assert again.port == broker.port
    topics = Topics(again.bootstrap_servers)
    assert topics.ends("events") == {0: 0, 1: 3}
    committed = topics.committed("group", "events")
    assert committed == {0: 0, 1: 2}
    assert lag(topics.ends("events"), committed) == 1


def test_the_offsets_of_a_group_are_asked_for_while_the_broker_is_not_yet_its_coordinator(
    engines: Engines, processes: Processes, tmp_path: Path
) -> None:
    """The first question after a start is answered by "not the coordinator", which an AdminClient does not survive."""
    broker = kafka.start(processes, engines, tmp_path / "kafka")
    broker.wait_until_ready()
    topics = Topics(broker.bootstrap_servers)
    topics.create("events", partitions=2, timestamps="LogAppendTime")
    observer = KafkaObserver({"bootstrap.servers": broker.bootstrap_servers})

    def seen() -> bool:
        try:
            progress = observer.progress("events", "nobody")
        except KafkaUnreadable:
            return False
        assert [(each.partition, each.committed, each.end) for each in progress] == [(0, 0, 0), (1, 0, 0)]
        return True

    broker.process.until(seen, what="answering for the group", seconds=60)
    assert topics.committed("nobody", "events") == {0: 0, 1: 0}


def test_only_committed_records_are_counted(engines: Engines, processes: Processes, tmp_path: Path) -> None:
    broker = kafka.start(processes, engines, tmp_path / "kafka")
    broker.wait_until_ready()
    Topics(broker.bootstrap_servers).create("letters", partitions=1, timestamps="LogAppendTime")
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "transactional.id": "t", "log_level": 2})
    producer.init_transactions(30)
    for commit in (True, False, True):
        producer.begin_transaction()
        producer.produce("letters", b"x")
        assert producer.flush(30) == 0
        if commit:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)
    count = LiveCount(broker.bootstrap_servers, "letters")
    try:
        broker.process.until(lambda: count.now() == 2, what="showing both committed records", seconds=30)
    finally:
        count.close()


def test_a_broker_that_can_not_start_says_why(engines: Engines, processes: Processes, tmp_path: Path) -> None:
    data = tmp_path / "kafka" / "data"
    data.mkdir(parents=True)
    (data / "meta.properties").write_text("version=1\nnode.id=7\ncluster.id=of-another-broker\n")
    broker = kafka.start(processes, engines, tmp_path / "kafka")
    with pytest.raises(ProcessFailed, match=r"(?s)kafka ended with exit code 1 .*node.id"):
        broker.wait_until_ready()


def test_a_directory_without_engines_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EngineMissing, match="not a checkout"):
        find_engines.find(tmp_path)
    blank = tmp_path / "a blank"
    (blank / "jobs" / "lakehouse_jobs").mkdir(parents=True)
    with pytest.raises(EngineMissing, match=r"can't work in .*a blank"):
        find_engines.find(blank)
    (tmp_path / "jobs" / "lakehouse_jobs").mkdir(parents=True)
    with pytest.raises(EngineMissing, match=r"engines/flink.*make setup"):
        find_engines.find(tmp_path)


def test_the_result_of_a_run_is_its_last_line_with_an_outcome() -> None:
    assert result_line('{"outcome": "a"}\n{"outcome": "b"}\nnoise\n{"level": "ERROR"}\n[3]\n{broken}\n') == {
        "outcome": "b"
    }
    assert result_line("noise\n") == {}
