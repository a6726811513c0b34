"""Which of the JVM's failures say that something else was out of order, so that it is tried again."""

import pytest

from lakehouse_jobs.java_failures import unreachable

_STORE = "software.amazon.awssdk.services.s3.model.S3Exception"


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (f"{_STORE}: Slow Down (Service: S3, Status Code: 503, Request ID: 1)", "S3Exception: Slow Down"),
        (f"{_STORE}: null (Service: S3, Status Code: 500, Request ID: null) (SDK Attempt Count: 3)", "S3Exception"),
        (f"{_STORE}: Too many (Service: S3, Status Code: 429, Request ID: 1)", "S3Exception"),
        (f"{_STORE}: Access Denied (Service: S3, Status Code: 403, Request ID: 1)", None),
        ("software.amazon.awssdk.services.s3.model.NoSuchKeyException: gone (Service: S3, Status Code: 404)", None),
        ("org.sqlite.SQLiteException: [SQLITE_BUSY] The database file is locked", "SQLiteException"),
        ("java.net.SocketTimeoutException: Read timed out", "SocketTimeoutException"),
        ("java.lang.IllegalStateException: Status Code: 503", None),
    ],
)
def test_a_service_that_is_away_or_broken_is_told_from_a_request_that_is_wrong(cause: str, told: str | None) -> None:
    trace = f"java.lang.RuntimeException: it failed\n\tat a.B.c(B.java:1)\nCaused by: {cause}\n\tat d.E.f(E.java:2)\n"
    found = unreachable(trace)
    assert found is None if told is None else (found or "").startswith(told)
