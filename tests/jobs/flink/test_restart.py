"""Each restart strategy of a pipeline is one of Flink's own, with the numbers that the pipeline says."""

from dataclasses import replace
from typing import Any

import pytest

from jobs.flink.test_plan import settings
from lakehouse_contract.settings import BronzeSettings, RestartSettings
from lakehouse_jobs import flink_options

__all__ = ["settings"]


def understood(jvm: Any, options: dict[str, str]) -> str:
    """What Flink makes of options, in its own words, as when a job with checkpoints starts."""
    configuration = jvm.org.apache.flink.configuration.Configuration()
    for name, value in options.items():
        configuration.setString(name, value)
    loader = jvm.org.apache.flink.runtime.executiongraph.failover.RestartBackoffTimeStrategyFactoryLoader
    cluster = jvm.org.apache.flink.configuration.Configuration()
    return str(loader.createRestartBackoffTimeStrategyFactory(configuration, cluster, True).create().toString())


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ("fixedDelay", ("FixedDelay", "maxNumberRestartAttempts=4", "backoffTimeMS=7000")),
        ("failureRate", ("FailureRate", "maxFailuresPerInterval=4", "backoffTimeMS=7000", "failuresIntervalMS=600000")),
        (
            "exponentialDelay",
            (
                "ExponentialDelay",
                "initialBackoffMS=7000",
                "maxBackoffMS=90000",
                "backoffMultiplier=2.0",
                "resetBackoffThresholdMS=600000",
                "attemptsBeforeResetBackoff=4",
            ),
        ),
    ],
)
def test_flink_takes_a_strategy_with_its_numbers(
    jvm: Any, settings: BronzeSettings, strategy: Any, words: tuple[str, ...]
) -> None:
    restart = RestartSettings(strategy=strategy, attempts=4, delay_seconds=7, max_delay_seconds=90, window_seconds=600)
    told = understood(jvm, flink_options.job_options(replace(settings, restart=restart)))
    assert [word for word in words if word not in told] == [], told


def test_without_attempts_flink_does_not_restart(jvm: Any, settings: BronzeSettings) -> None:
    none = replace(settings, restart=replace(settings.restart, attempts=0))
    assert "NoRestart" in understood(jvm, flink_options.job_options(none))
