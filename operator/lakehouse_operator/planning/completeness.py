"""When is an hour's data all in bronze? Never by the clock alone, where the tables and Kafka can be read.

An instant is complete when, for every Kafka partition, all offsets up to it (plus the watermark delay) are covered by
a checkpoint whose Iceberg commit succeeded. Quiet partitions complete by themselves: nothing is before the boundary.
"""

from datetime import datetime, timedelta

from lakehouse_operator.planning.observed import Commit, PartitionProgress, TableView


def offsets_reached(partitions: tuple[PartitionProgress, ...], boundary: datetime) -> bool | None:
    """Whether bronze has committed every record that arrived before `boundary`; None where Kafka was not asked."""
    if not partitions or any(boundary not in partition.end_at for partition in partitions):
        return None
    return all(partition.committed >= partition.end_at[boundary] for partition in partitions)


def commit_covering(bronze: TableView, boundary: datetime) -> Commit | None:
    """The first commit with which bronze holds records that arrived at or after `boundary`; None if there is none yet.

    Commits hold records in the order of arrival, up to one checkpoint, so everything before the boundary is at or below
    this commit.
    """
    for commit in bronze.commits:
        if commit.kafka_timestamp_max is not None and commit.kafka_timestamp_max >= boundary:
            return commit
    return None


def settled_since(bronze: TableView, reached_at: datetime, now: datetime, checkpoint_interval: timedelta) -> bool:
    """Whether the Iceberg commit of the checkpoint that committed the offsets must be in.

    Flink tells its Kafka source and its Iceberg committer of a completed checkpoint at the same time and in no fixed
    order. A commit after the offsets were seen proves it; two further checkpoints without one mean there was nothing to
    commit (the sink leaves out empty commits).
    """
    head = bronze.head
    return (head is not None and head.committed_at >= reached_at) or now - reached_at >= 2 * checkpoint_interval
