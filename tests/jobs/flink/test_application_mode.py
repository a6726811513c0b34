"""The job as a Flink operator starts it: the JobManager runs the Python program, and its configuration counts."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from jobs.flink.bronze_world import Record, World
from jobs.flink.test_ingestion import ARRIVAL, event
from lakehouse_contract import decoding
from lakehouse_operator.local import ports
from lakehouse_operator.local.flink_rest import FlinkRefused, FlinkRest
from lakehouse_operator.local.processes import Process, Processes

SESSION = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
SECRET = "a-secret-of-the-jobs-environment"
APPLICATION = "org.apache.flink.container.entrypoint.StandaloneApplicationClusterEntryPoint"


class ApplicationCluster:
    """A cluster for one job, started as the session cluster of these tests is, but for the entry point."""

    def __init__(self, world: World, directory: Path, more: dict[str, str]) -> None:
        self.configuration = directory / "conf"
        self.configuration.mkdir(parents=True)
        self.port = ports.choose()
        self.session = world.cluster.directory / "conf"
        lines = dict(line.split(": ", 1) for line in (self.session / "config.yaml").read_text().splitlines())
        rpc = ports.choose(taken=frozenset({self.port}))
        changed = {"rest.port": self.port, "rest.bind-port": self.port, "jobmanager.rpc.port": rpc, **more}
        lines |= {key: json.dumps(value) for key, value in changed.items()}
        (self.configuration / "config.yaml").write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))
        for source in self.session.glob("log4j*"):
            (self.configuration / source.name).write_bytes(source.read_bytes())
        self.rest = FlinkRest(f"http://127.0.0.1:{self.port}")

    def start(
        self, processes: Processes, name: str, like: Process, change: Callable[[list[str]], list[str]]
    ) -> Process:
        command = Path(f"/proc/{like.pid}/cmdline").read_bytes().decode().split("\0")[:-1]
        command = [part.replace(str(self.session), str(self.configuration)) for part in command]
        environment = Path(f"/proc/{like.pid}/environ").read_bytes().decode().split("\0")[:-1]
        variables = dict(line.split("=", 1) for line in environment) | {"FLINK_CONF_DIR": str(self.configuration)}
        variables |= {"AWS_SECRET_ACCESS_KEY": SECRET}
        return processes.start(name, change(command), environment=variables)

    def answers(self) -> bool:
        try:
            return bool(self.rest.jobs())
        except (OSError, FlinkRefused):  # also while the JobManager has not been elected yet
            return False

    def has_stopped(self, job: str, trigger: str) -> bool:
        """Ask for the savepoint: the JobManager stays until someone has been told."""
        try:
            return bool(self.rest.get(f"/jobs/{job}/savepoints/{trigger}")["status"]["id"] == "COMPLETED")
        except OSError:
            return True


def with_program(command: list[str], world: World, opt: Path) -> list[str]:
    """The JobManager's command, with the job as its program."""
    [python_jar] = opt.glob("flink-python*.jar")
    at = command.index("-cp")
    command = [*command[: at + 1], f"{command[at + 1]}:{python_jar}", *command[at + 2 :]]
    command[command.index(SESSION)] = APPLICATION
    program = Path(sys.modules["lakehouse_jobs.bronze"].__file__ or "")
    return [
        *command, "--job-classname", "org.apache.flink.client.python.PythonDriver",
        "-pyclientexec", sys.executable, "-py", str(program),
        "--settings", decoding.to_json(world.settings),
    ]  # fmt: skip


def test_the_job_runs_in_application_mode_and_restores_what_the_cluster_names(
    world: World, processes: Processes, tmp_path: Path
) -> None:
    world.create_topics()
    world.produce([Record(event("a"), arrival=ARRIVAL), Record(b"bad", arrival=ARRIVAL)])
    savepoint = world.run()
    world.produce([Record(event("a"), arrival=ARRIVAL), Record(event("b"), arrival=ARRIVAL)])

    cluster = ApplicationCluster(world, tmp_path / "application", {"execution.state-recovery.path": savepoint})
    session = world.cluster
    jobmanager = cluster.start(
        processes, "application-jobmanager", session.jobmanager,
        lambda command: with_program(command, world, session.engines.flink_home / "opt"),
    )  # fmt: skip
    taskmanager = cluster.start(processes, "application-taskmanager", session.taskmanager, lambda command: command)
    try:
        jobmanager.until(cluster.answers, what="running its job", seconds=120)
        [job] = cluster.rest.jobs()
        world.until(lambda: cluster.rest.all_tasks_running(job), "all tasks run")
        world.until(world.caught_up, "everything is read")
        assert cluster.rest.get(f"/jobs/{job}/checkpoints/config")["interval"] == 1000
        assert cluster.rest.get(f"/jobs/{job}/checkpoints")["latest"]["restored"]["external_path"] == savepoint
        stopping = {"targetDirectory": world.settings.checkpoint.savepoint_directory}
        trigger = cluster.rest.post(f"/jobs/{job}/stop", stopping)["request-id"]
        world.until(lambda: cluster.has_stopped(job, trigger), "the savepoint is there")
        assert jobmanager.wait(60) == 0  # an application's cluster ends with its job
        assert job in jobmanager.written()  # what the program printed
        assert SECRET not in jobmanager.written() + taskmanager.written()
    finally:
        taskmanager.stop()
        jobmanager.stop()
    assert sorted(row["kafka_offset"] for row in world.rows()) == [0, 3]
    assert len(world.dead_letters()) == 1
    assert os.environ["FLINK_CONF_DIR"] != str(cluster.configuration)
