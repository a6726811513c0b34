"""What every commit says about itself, and how a job says how it ended.

The commit is what is authoritative: the ledger of runs can be rebuilt from these snapshot properties alone.
"""

from enum import IntEnum

RUN = "lakehouse.run"
"""Snapshot property: the id of the run that wrote the snapshot."""
STAGE = "lakehouse.stage"
"""Snapshot property: silver, gold or maintenance."""
REVISION = "lakehouse.revision"
"""Snapshot property: the revision of the definition that the run worked with."""
INTERVAL = "lakehouse.interval"
"""Snapshot property: `start/end` of the run's data interval, where it has one."""
TOUCHED_DAYS = "lakehouse.touched-days"
"""Snapshot property: the event days whose rows the snapshot added, changed or removed, comma-separated, UTC.

A dimension stamps the days on which some key had another version, or another version's values, before the commit than
after it. Empty means none, `ALL_DAYS` means that any may have changed."""
ALL_DAYS = "all"
STAGED = "lakehouse.staged"
"""Snapshot property of a snapshot beside main: which attempt prepared it."""
QUALITY = "lakehouse.quality"
"""Snapshot property of the quality results: the rules that the run checked and those that were broken, as JSON.

`{"rules": 12, "broken": [{"table": .., "rule": .., "severity": .., "rows": .., "of": ..}, ...]}`, the gravest first and
at most `QUALITY_MOST` of them; the table holds them all."""
QUALITY_MOST = 50
MODEL = "lakehouse.model"
"""Snapshot property: the hash of the gold model's definition that the table was computed with."""
RECOVERY_TAG = "recovery-"
"""How the tags on bronze begin that keep the snapshots of recovery points. A rewind goes back along main to them."""
_SOURCE = "lakehouse.source."


def source(table: str) -> str:
    """Snapshot property: the snapshot of the source `table` up to which everything is in this table."""
    return _SOURCE + table


# Flink's Iceberg sink (iceberg flink/v2.1 SinkUtil) writes these into the snapshots that it commits.
FLINK_JOB_ID = "flink.job-id"
FLINK_MAX_COMMITTED_CHECKPOINT_ID = "flink.max-committed-checkpoint-id"


class ExitCode(IntEnum):
    """How a batch job ends, after sysexits.h, so that a failure can be classed without reading logs.

    `OUT_OF_MEMORY` is Spark's own code for it (`SparkExitCode.OOM`). It is not 137: that is any process that was killed
    by signal 9, whoever did it.
    """

    SUCCEEDED = 0
    OUT_OF_MEMORY = 52
    SETTINGS_REFUSED = 64
    BAD_DATA = 65
    UNAVAILABLE = 69
    CODE = 70
