"""The only place that talks to PyFlink: configuration in, a submitted job out.

A job starts in one of two ways. Inside a cluster (application mode, or `flink run`) Flink starts this process, and the
context that it left in the JVM says where the job goes. As a plain Python process the job goes to the cluster that
`target` or the configuration file in FLINK_CONF_DIR names.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lakehouse_jobs import flink_options

_STARTED_BY_FLINK = "PYFLINK_GATEWAY_PORT"
_RECOVERY_PATH = "execution.state-recovery.path"
_RECOVERY_MODE = "execution.state-recovery.claim-mode"


class FlinkSession:
    """A Table API program with the options of one job."""

    def __init__(
        self, options: Mapping[str, str], *, target: str | None = None, from_savepoint: str | None = None
    ) -> None:
        """Open the session.

        Args:
            options: Flink options of the job; they win over the cluster's.
            target: `host:port` of the cluster's REST endpoint, if not the one that the configuration file names.
            from_savepoint: A savepoint or retained checkpoint to start from, if not the one that the cluster's
                configuration names.

        Raises:
            SettingsRefused: The cluster's configuration turns on what the job can't be correct with.
        """
        from pyflink.common import Configuration  # noqa: PLC0415 - starts a JVM
        from pyflink.datastream import StreamExecutionEnvironment  # noqa: PLC0415
        from pyflink.java_gateway import get_gateway  # noqa: PLC0415
        from pyflink.table import EnvironmentSettings, StreamTableEnvironment  # noqa: PLC0415

        self.jvm: Any = get_gateway().jvm
        cluster = dict(self.jvm.org.apache.flink.configuration.GlobalConfiguration.loadConfiguration().toMap())
        flink_options.refuse_unsafe(cluster)
        started_by_flink = target is None and _STARTED_BY_FLINK in os.environ
        chosen = {
            **({} if started_by_flink else _remote(cluster, target)),
            **options,
            **_recovery(cluster, from_savepoint),
        }
        configuration = Configuration()
        for key, value in chosen.items():
            configuration.set_string(key, value)
        streams = self.jvm.org.apache.flink.streaming.api.environment.StreamExecutionEnvironment
        java_configuration = configuration._j_configuration
        # In a plain process getExecutionEnvironment, and all of PyFlink's own ways, make a hidden cluster in this JVM,
        # whatever execution.target says. The constructor believes it.
        opened = (
            streams.getExecutionEnvironment(java_configuration) if started_by_flink else streams(java_configuration)
        )
        settings = EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(configuration).build()
        self._environment = StreamTableEnvironment.create(StreamExecutionEnvironment(opened), settings)

    def define(self, definitions: Sequence[str]) -> None:
        """Run statements that define tables, views and catalogs."""
        for definition in definitions:
            self._environment.execute_sql(definition)

    def explain(self, inserts: Sequence[str]) -> str:
        """Flink's plan of `inserts` as one statement set, with the changelog mode of each operator."""
        from pyflink.table import ExplainDetail  # noqa: PLC0415

        return str(self._statement_set(inserts).explain(ExplainDetail.CHANGELOG_MODE))

    def submit(self, inserts: Sequence[str], fix: Callable[[str], str]) -> str:
        """Submit `inserts` as one job and answer its id.

        Args:
            inserts: The statements.
            fix: Takes the compiled plan as JSON, and answers the one that runs.
        """
        plan = fix(str(self._statement_set(inserts)._j_statement_set.compilePlan().asJsonString()))
        reference = self.jvm.org.apache.flink.table.api.PlanReference.fromJsonString(plan)
        result = self._environment._j_tenv.loadPlan(reference).execute()
        return str(result.getJobClient().get().getJobID().toHexString())

    def _statement_set(self, inserts: Sequence[str]) -> Any:
        statement_set = self._environment.create_statement_set()
        for insert in inserts:
            statement_set.add_insert_sql(insert)
        return statement_set


def _remote(cluster: Mapping[str, str], target: str | None) -> dict[str, str]:
    """The whole configuration of a cluster that the job is sent to over REST."""
    remote = {**cluster, "execution.target": "remote"}
    if target is not None:
        host, _, port = target.rpartition(":")
        remote |= {"rest.address": host, "rest.port": port}
    return remote


def _recovery(cluster: Mapping[str, str], from_savepoint: str | None) -> dict[str, str]:
    path = from_savepoint or cluster.get(_RECOVERY_PATH)
    if not path:
        return {}
    # NO_CLAIM: the savepoint stays whole and the user's, and can be started from again.
    return {_RECOVERY_PATH: path, _RECOVERY_MODE: cluster.get(_RECOVERY_MODE, "NO_CLAIM")}
