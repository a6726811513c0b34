"""What a listing does that the stream disturbs."""

import pytest
from pyspark.errors import PySparkException

from lakehouse_jobs.iceberg_commits import Conflict
from lakehouse_jobs.maintenance_removal import _listed


def test_files_that_go_away_while_they_are_listed_are_left_to_the_next_run_and_no_failure() -> None:
    def gone() -> int:
        raise PySparkException(
            "Error while running command to get file permissions : ls: cannot access x: No such file"
        )

    with pytest.raises(Conflict, match="the next run removes what is left"):
        _listed("bronze.x", gone)


def test_other_failures_of_a_listing_stay_failures() -> None:
    def broken() -> int:
        raise PySparkException("no permission")

    with pytest.raises(PySparkException, match="no permission"):
        _listed("bronze.x", broken)
