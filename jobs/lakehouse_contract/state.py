"""What the stream keeps in its savepoints: which part of the job holds what, under which fixed id.

A savepoint can be restored by every job that has these parts under these ids, whatever lies between them. So it may be
changed what the job computes, and how; but not this list, nor what a part keeps, without a new `VERSION`.
"""

from dataclasses import dataclass

VERSION = 1
"""Two jobs can take over each other's state if they have the same one."""

MAX_PARALLELISM = 720
"""Into how many groups Flink divides keyed state. It is part of every savepoint: a stream can't run with more tasks.

A number with many divisors, so that the groups spread evenly over most numbers of tasks.
"""

SINK_UID_SUFFIX = "bronze"
"""Names the state of Iceberg's sink in savepoints, and its commits in the table. Another value orphans both."""

UID_FORMAT = "<id>_<transformation>"
"""How Flink makes the uid of an operator from the id of its part of the plan."""


@dataclass(frozen=True, slots=True)
class Stateful:
    """A part of the job that keeps state.

    Attributes:
        name: What it is.
        id: Its id in Flink's plan; uids begin with it.
        node: The type of its node in the plan, without version.
        table: Which table it writes, if it is a sink.
        keeps: What a savepoint holds of it.
    """

    name: str
    id: int
    node: str
    keeps: str
    table: str | None = None


PARTS = (
    Stateful("source", 1, "stream-exec-table-source-scan", "the offset of the next record of each partition"),
    Stateful(
        "deduplication", 2, "stream-exec-deduplicate", "each event id that came within dedupTtl, and when it was seen"
    ),
    Stateful("dead letters", 3, "stream-exec-sink", "transactions that are to be committed", "dead_letters"),
    Stateful("bronze", 4, "stream-exec-sink", "files that are to be committed (under SINK_UID_SUFFIX)", "bronze"),
)
FIRST_FREE_ID = 101
"""What keeps nothing is numbered from here on."""
STATELESS = ("stream-exec-calc", "stream-exec-exchange", "stream-exec-watermark-assigner")
"""Types of nodes that keep nothing."""
