"""From a valid pipeline to its FlinkDeployment. Nothing here can fail, and nothing is decided here.

How the stream is launched (from which point, in which state, with which nonces) is added by `child`.
"""

from typing import Any

from lakehouse_contract.flink_logging import SECRETS_KEPT
from lakehouse_operator.api.pipeline import Bronze, PipelineSpec
from lakehouse_operator.api.values import mebibytes, seconds
from lakehouse_operator.planning import names, secrets
from lakehouse_operator.planning.image_layout import (
    ENTRY_POINTS,
    FLINK_USER,
    FLINK_WRITABLE,
    PYFLINK_JAR,
    PYTHON,
    settings_argument,
)
from lakehouse_operator.planning.job_settings import bronze_settings
from lakehouse_operator.planning.pipeline import ValidPipeline
from lakehouse_operator.planning.pod_template import build_pod_template

API_VERSION = "flink.apache.org/v1beta1"

# Flink's own conf/config.yaml opens these for Java 17. Flink operators that know no Flink 2 do not pass them on.
_OPENED = (
    "java.base/java.lang",
    "java.base/java.net",
    "java.base/java.io",
    "java.base/java.nio",
    "java.base/sun.nio.ch",
    "java.base/java.lang.reflect",
    "java.base/java.text",
    "java.base/java.time",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/java.util.concurrent.locks",
)
_EXPORTED = (
    "java.rmi/sun.rmi.registry",
    "jdk.compiler/com.sun.tools.javac.api",
    "jdk.compiler/com.sun.tools.javac.file",
    "jdk.compiler/com.sun.tools.javac.parser",
    "jdk.compiler/com.sun.tools.javac.tree",
    "jdk.compiler/com.sun.tools.javac.util",
    "java.security.jgss/sun.security.krb5",
)
_JAVA_OPTIONS = " ".join(
    [
        *(f"--add-exports={module}=ALL-UNNAMED" for module in _EXPORTED),
        *(f"--add-opens={module}=ALL-UNNAMED" for module in _OPENED),
    ]
)

# Without a logging configuration of its own in the deployment, Flink under the operator logs nothing.
_LOGGING = (
    """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss.SSSXXX} %-5p %-60c %x - %m%n
logger.kafka.name = org.apache.kafka
logger.kafka.level = WARN
logger.hadoop.name = org.apache.hadoop
logger.hadoop.level = WARN
"""
    + SECRETS_KEPT
)


def build_flink_deployment(pipeline: ValidPipeline) -> dict[str, Any]:
    """The FlinkDeployment of a pipeline that runs and has never run before."""
    return {
        "apiVersion": API_VERSION,
        "kind": "FlinkDeployment",
        "metadata": names.metadata(
            names.deployment(pipeline.name),
            pipeline.namespace,
            labels=names.labels(pipeline.name, "bronze"),
            annotations={},
            owner=names.owned_by("LakehousePipeline", pipeline.name, pipeline.uid),
        ),
        "spec": _spec(pipeline),
    }


def build_state_snapshot(pipeline: ValidPipeline, name: str) -> dict[str, Any]:
    """A FlinkStateSnapshot that asks the running job for a savepoint.

    The savepoint's files stay when the object is deleted: the record keeps them, not this object.
    """
    return {
        "apiVersion": API_VERSION,
        "kind": "FlinkStateSnapshot",
        "metadata": names.metadata(
            name,
            pipeline.namespace,
            labels=names.labels(pipeline.name, "bronze"),
            annotations={},
            owner=names.owned_by("LakehousePipeline", pipeline.name, pipeline.uid),
        ),
        "spec": {
            "backoffLimit": 2,
            "jobReference": {"kind": "FlinkDeployment", "name": names.deployment(pipeline.name)},
            "savepoint": {"alreadyExists": False, "disposeOnDelete": False, "formatType": "CANONICAL"},
        },
    }


def _spec(pipeline: ValidPipeline) -> dict[str, Any]:
    bronze = pipeline.spec.bronze
    return {
        "image": bronze.image,
        "imagePullPolicy": "IfNotPresent",
        "flinkVersion": bronze.flink_version,
        "mode": "native",
        "serviceAccount": bronze.service_account,
        "flinkConfiguration": {**flink_configuration(pipeline.spec), **_policies(bronze)},
        "logConfiguration": {"log4j-console.properties": _LOGGING},
        "podTemplate": build_pod_template(
            container="flink-main-container",
            user=FLINK_USER,
            folders=FLINK_WRITABLE,
            environment=secrets.stream_environment(pipeline.spec),
            pod=bronze.pod,
            labels=names.labels(pipeline.name, "bronze"),
        ),
        "jobManager": {"resource": _resource(bronze.job_manager.cpu, bronze.job_manager.memory), "replicas": 1},
        "taskManager": {"resource": _resource(bronze.task_manager.cpu, bronze.task_manager.memory)},
        "job": {
            "jarURI": PYFLINK_JAR,
            "entryClass": "org.apache.flink.client.python.PythonDriver",
            "args": [
                *("-pyclientexec", PYTHON),
                *("-py", ENTRY_POINTS["bronze"]),
                *("--settings", settings_argument(bronze_settings(pipeline))),
            ],
            "parallelism": bronze.parallelism,
            "state": "running",
            "upgradeMode": "savepoint",
            "allowNonRestoredState": False,
        },
    }


def _resource(cpu: float, memory: str) -> dict[str, Any]:
    # Flink writes MiB as "m".
    return {"cpu": cpu, "memory": f"{mebibytes(memory)}m"}


def flink_configuration(spec: PipelineSpec) -> dict[str, str]:
    """Flink's configuration: ours, then the user's."""
    bronze, checkpoint = spec.bronze, spec.bronze.checkpoint
    savepoints = checkpoint.savepoint_directory
    configuration = {
        "taskmanager.numberOfTaskSlots": str(bronze.task_manager.slots),
        "state.backend.type": "rocksdb",
        "execution.checkpointing.interval": f"{seconds(checkpoint.interval)} s",
        "execution.checkpointing.timeout": f"{seconds(checkpoint.timeout)} s",
        "execution.checkpointing.mode": "EXACTLY_ONCE",
        "execution.checkpointing.incremental": "true",
        # Iceberg's Flink sinks lose data files with unaligned checkpoints (apache/iceberg #15846).
        "execution.checkpointing.unaligned.enabled": "false",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        # Under the old names too: Flink operators built with Flink 1.x look for those.
        "execution.checkpointing.dir": checkpoint.directory,
        "state.checkpoints.dir": checkpoint.directory,
        **(
            {"execution.checkpointing.savepoint-dir": savepoints, "state.savepoints.dir": savepoints}
            if savepoints
            else {}
        ),
        # A restart of the JobManager alone goes on from the newest checkpoint, under the same job id.
        "high-availability.type": "kubernetes",
        "high-availability.storageDir": f"{checkpoint.directory.rstrip('/')}/high-availability",
        # Threads of Iceberg's AWS client outlive a job's class loader and would fail each later start of the job in the
        # same TaskManager. Nothing is loaded by it: all jars are in Flink's lib.
        "classloader.check-leaked-classloader": "false",
        "env.java.opts.all": _JAVA_OPTIONS,
        **_storage(spec),
    }
    return {**configuration, **bronze.flink_configuration}


def _storage(spec: PipelineSpec) -> dict[str, str]:
    """Flink's own access to checkpoints. Keys come from the environment, where the AWS libraries look."""
    storage = spec.storage
    if storage is None:
        return {}
    # Not `s3.endpoint.region`: the Flink operator writes the configuration as a tree, and the leaf `s3.endpoint` has
    # no room for it.
    options = {
        "fs.s3a.endpoint.region": storage.region,
        # Else Hadoop asks the store to delete the "folders" above each file that is written: requests for nothing, and
        # a store with real folders refuses them, after which Hadoop repeats them for minutes.
        "fs.s3a.directory.marker.retention": "keep",
    }
    if storage.endpoint is not None:
        options["s3.endpoint"] = storage.endpoint
    if storage.path_style_access:
        options["s3.path-style-access"] = "true"
    return options


def _policies(bronze: Bronze) -> dict[str, str]:
    """What the Flink operator may do by itself: nothing that this operator decides.

    It compares none of these (its DiffType IGNORE), so a change restarts nothing.
    """
    prefix = "kubernetes.operator"
    return {
        f"{prefix}.job.upgrade.last-state-fallback.enabled": "false",
        f"{prefix}.job.upgrade.last-state.max.allowed.checkpoint.age": (
            f"{seconds(bronze.upgrade.max_recovery_point_age)} s"
        ),
        # It calls a job stable that ran once.
        f"{prefix}.deployment.rollback.enabled": "false",
        f"{prefix}.job.restart.failed": "false",
        # It would wait for ever for the savepoint of a job that does not run.
        f"{prefix}.job.savepoint-on-deletion": "false",
        # It would remove the files of recovery points that are a day old.
        f"{prefix}.savepoint.cleanup.enabled": "false",
        f"{prefix}.savepoint.dispose-on-delete": "false",
    }
