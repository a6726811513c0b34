"""What Flink must not log."""

from typing import Final

SECRETS_KEPT: Final = """\
logger.environment.name = org.apache.flink.client.python.PythonEnvUtils
logger.environment.level = WARN
"""
"""Lines of a log4j configuration that belong into every one of Flink's.

In application mode PyFlink starts the job's Python in the JobManager, and logs with INFO the whole environment that it
hands on (`PythonEnvUtils.startPythonProcess`): the keys of the store and every other secret of the job are in there.
"""
