"""What a Java stack trace means for whoever started the job."""

import re

_UNREACHABLE = (
    "java.net.",
    "java.sql.SQLTransientException",
    "java.sql.SQLNonTransientConnectionException",
    "org.sqlite.SQLiteException: [SQLITE_BUSY]",
    "org.postgresql.util.PSQLException: Connection",
    "org.postgresql.util.PSQLException: The connection attempt failed",
    "software.amazon.awssdk.core.exception.SdkClientException: Unable to execute HTTP request",
    "org.apache.flink.kafka.shaded.org.apache.kafka.common.errors.TimeoutException",
    "org.apache.flink.kafka.shaded.org.apache.kafka.common.errors.DisconnectException",
    "org.apache.flink.kafka.shaded.org.apache.kafka.common.config.ConfigException: No resolvable bootstrap urls",
    "org.apache.iceberg.exceptions.RESTException",
    "org.apache.iceberg.exceptions.ServiceUnavailableException",
    "org.apache.iceberg.exceptions.ServiceFailureException",
    "org.apache.hadoop.net.ConnectTimeoutException",
)
_STORE_FAILED = re.compile(r"software\.amazon\.awssdk\..*\(Service: \w+, Status Code: (?:5\d\d|429)\b")
"""What an object store says that is overloaded or broken, and not of what it was asked."""
_OUT_OF_MEMORY = (
    "java.lang.OutOfMemoryError",
    "(JVM OOM)",  # of an executor (Spark's ExecutorPodsLifecycleManager)
    "termination reason: OOMKilled",  # of an executor's container (Spark's KubernetesUtils)
)
_EXCEPTION = re.compile(r"^(?:Caused by: |: |py4j.*: )?((?:[a-z_$][\w$]*\.)+[A-Z][\w$.]*(?:: .*)?)$", re.MULTILINE)


def unreachable(trace: str) -> str | None:
    """What could not be reached, in Java's words; None if something else went wrong.

    Args:
        trace: The text of an exception that came from the JVM, with Java's stack trace.
    """
    for line in reversed(_EXCEPTION.findall(trace)):
        if line.startswith(_UNREACHABLE) or _STORE_FAILED.match(line):
            return re.sub(r"^(?:[a-z_$][\w$]*\.)+", "", line)
    return None


def is_out_of_memory(trace: str) -> bool:
    """Whether the driver or an executor had too little memory, its container's limit included."""
    return any(sign in trace for sign in _OUT_OF_MEMORY)
