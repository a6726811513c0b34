"""What bronze asks of Flink itself: settings in, Flink's own option names out. Nothing here runs anything.

All of it stands in the job's own configuration: a Table API program that is started as a plain Python process ignores
what the cluster's file says about checkpoints and restarts, without a word.
"""

from collections.abc import Mapping

from lakehouse_contract import state
from lakehouse_contract.decoding import Problem, SettingsRefused
from lakehouse_contract.settings import BronzeSettings

_UNALIGNED = ("execution.checkpointing.unaligned.enabled", "execution.checkpointing.unaligned")


def job_options(settings: BronzeSettings) -> dict[str, str]:
    """Flink's options for the job of `settings`."""
    options = {
        "execution.runtime-mode": "STREAMING",
        "pipeline.name": f"{settings.pipeline}: {settings.kafka.topic} -> {settings.table}",
        "pipeline.object-reuse": "true",
        "pipeline.max-parallelism": str(state.MAX_PARALLELISM),
        "table.exec.uid.format": state.UID_FORMAT,
        "execution.checkpointing.mode": "EXACTLY_ONCE",
        "execution.checkpointing.interval": f"{settings.checkpoint.interval_seconds} s",
        "execution.checkpointing.timeout": f"{settings.checkpoint.timeout_seconds} s",
        "execution.checkpointing.dir": settings.checkpoint.directory,
        "execution.checkpointing.savepoint-dir": settings.checkpoint.savepoint_directory,
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "execution.checkpointing.incremental": "true",
        # Iceberg's Flink sinks lose data files with unaligned checkpoints (apache/iceberg #15846).
        "execution.checkpointing.unaligned.enabled": "false",
        "state.backend.type": "rocksdb",
        # Most ids are new, and a filter knows so without looking into the files: a fifth less CPU time once the ids
        # of the time to live no longer fit into memory (benchmarks/bronze).
        "state.backend.rocksdb.use-bloom-filter": "true",
        "table.local-time-zone": "UTC",
        "table.exec.state.ttl": f"{settings.dedup_ttl_seconds} s",
        "table.exec.source.idle-timeout": f"{settings.idle_timeout_seconds} s",
        "table.exec.iceberg.use-v2-sink": "true",
        **_restart(settings),
    }
    if settings.parallelism is not None:
        options["parallelism.default"] = str(settings.parallelism)
    return options


def _restart(settings: BronzeSettings) -> dict[str, str]:
    restart = settings.restart
    if restart.attempts == 0:
        return {"restart-strategy.type": "disable"}
    match restart.strategy:
        case "fixedDelay":
            kind = "fixed-delay"
            details = {"attempts": str(restart.attempts), "delay": f"{restart.delay_seconds} s"}
        case "failureRate":
            kind = "failure-rate"
            details = {
                "max-failures-per-interval": str(restart.attempts),
                "failure-rate-interval": f"{restart.window_seconds} s",
                "delay": f"{restart.delay_seconds} s",
            }
        case "exponentialDelay":
            kind = "exponential-delay"
            details = {
                "initial-backoff": f"{restart.delay_seconds} s",
                "max-backoff": f"{restart.max_delay_seconds} s",
                "backoff-multiplier": "2.0",
                "reset-backoff-threshold": f"{restart.window_seconds} s",
                "attempts-before-reset-backoff": str(restart.attempts),
            }
    options = {f"restart-strategy.{kind}.{name}": value for name, value in details.items()}
    return {"restart-strategy.type": kind, **options}


def refuse_unsafe(cluster: Mapping[str, str]) -> None:
    """Refuse what the cluster's own configuration turns on and the job can't be correct with.

    Raises:
        SettingsRefused: The cluster turns unaligned checkpoints on.
    """
    problems = tuple(
        Problem(option, "must not be true: Iceberg's sink loses files with unaligned checkpoints; remove the option")
        for option in _UNALIGNED
        if cluster.get(option, "false").strip().lower() == "true"
    )
    if problems:
        raise SettingsRefused(problems)
