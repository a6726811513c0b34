"""How long the Flink Kubernetes operator takes for its own step, on the same machine and API server.

`python -m benchmarks.operator.flink_operator`: the real operator, 1.7.0, as a process of its own. What is measured is a
FlinkDeployment, from before its apply is sent until a watch tells of the Deployment of its JobManager. That is what it
does for a new FlinkDeployment; nothing runs, as there are no nodes. It has nothing else to care for.
"""

import argparse
import asyncio
import copy
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.operator.actors import Watched
from benchmarks.operator.figures import Spans, Usage
from benchmarks.operator.world import NAMESPACE, REPOSITORY, Server, bare_server

from lakehouse_operator.cluster.client import KubernetesCluster
from lakehouse_operator.cluster.kinds import Kind
from lakehouse_operator.cluster.port import Resource
from lakehouse_operator.cluster.rest import Login

sys.path.append(str(REPOSITORY / "setup"))

import jars
import java

_DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments")
_DEADLINE = 120.0
_CONFIGURATION = f"""\
kubernetes.operator.watched.namespaces: {NAMESPACE}
kubernetes.operator.health.probe.enabled: false
"""
_LOGGING = """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %-5p %c{1} %m%n%throwable
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark that the command line describes. Answer the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.operator.flink_operator", description=__doc__)
    parser.add_argument("--samples", type=int, default=50, help="applied one by one (%(default)s)")
    parser.add_argument("--at-once", type=int, default=100, help="applied at the same moment (%(default)s)")
    parser.add_argument("--warm-up", type=int, default=10, help="applied before, not counted (%(default)s)")
    parser.add_argument("--log", type=Path, help="keep the Flink operator's log here")
    options = parser.parse_args(arguments)
    asyncio.run(_run(options))
    return 0


async def _run(options: argparse.Namespace) -> None:
    wanted = _rendered()
    with tempfile.TemporaryDirectory(prefix="flink-operator-benchmark-") as folder:
        log = options.log or Path(folder) / "flink-operator.log"
        async with bare_server(flink="1.7.0") as api, KubernetesCluster(Login(api.plane.kubeconfig)) as user:
            with _flink_operator(api, Path(folder), log) as process:
                deployments = Watched(_DEPLOYMENT)
                following = asyncio.create_task(deployments.follow(api))
                print(f"the Flink operator 1.7.0, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
                await _one_by_one(user, wanted, deployments, [f"warm-up-{number}" for number in range(options.warm_up)])
                spans = await _one_by_one(user, wanted, deployments, [f"one-{n}" for n in range(options.samples)])
                print(f"one by one: {spans}; load {os.getloadavg()[0]:.1f}", flush=True)
                names = [f"many-{number}" for number in range(options.at_once)]
                spans = Spans(tuple(await asyncio.gather(*(_applied(user, wanted, deployments, n) for n in names))))
                usage = Usage.of(process.pid)
                print(f"all at once: {spans}; load {os.getloadavg()[0]:.1f}")
                print(f"its process: {usage.cpu_seconds:.1f} s of CPU in all, {usage.resident:.0f} MiB resident")
                following.cancel()


async def _one_by_one(user: KubernetesCluster, wanted: Resource, deployments: Watched, names: Sequence[str]) -> Spans:
    return Spans(tuple([await _applied(user, wanted, deployments, name) for name in names]))


async def _applied(user: KubernetesCluster, wanted: Resource, deployments: Watched, name: str) -> float:
    """Apply one; answer the seconds until its Deployment was there."""
    created = asyncio.get_running_loop().create_future()

    def hear(deployment: Resource, moment: float) -> None:
        if deployment["metadata"]["name"] == name and not created.done():
            created.set_result(moment)

    manifest = copy.deepcopy(wanted)
    manifest["metadata"]["name"] = name
    with deployments.heard_by(hear):
        began = time.monotonic()
        await user.apply(manifest)
        return float(await asyncio.wait_for(created, _DEADLINE) - began)


def _rendered() -> Resource:
    """The FlinkDeployment of the reference pipeline, as that version's CRD takes it."""
    example = REPOSITORY / "examples" / "roman-numerals.yaml"
    command = [sys.executable, "-m", "lakehouse_operator.cli", "render", "-f", str(example), "-o", "json"]
    made: list[Resource] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    deployment = next(each for each in made if each["kind"] == "FlinkDeployment")
    deployment["metadata"] = {"namespace": NAMESPACE}
    deployment["spec"] |= {"flinkVersion": "v1_18"}
    return deployment


@contextmanager
def _flink_operator(api: Server, folder: Path, log: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """Run it as its image does, but for the pod around it."""
    runtime = java.find(os.environ)
    if runtime is None:
        raise RuntimeError("there is no Java here that fits: make setup")
    files = jars.Downloads().fetch(jars.choose(jars.read_lock(), ["flink-operator", "flink-operator-guava"]))
    (folder / "config.yaml").write_text(_CONFIGURATION, encoding="utf-8")
    (folder / "log4j.properties").write_text(_LOGGING, encoding="utf-8")
    host, port = api.plane.url.removeprefix("https://").split(":")
    environment = {
        **os.environ,
        "KUBECONFIG": str(api.plane.kubeconfig),
        "OPERATOR_NAMESPACE": NAMESPACE,
        "OPERATOR_NAME": "flink-operator",
        "FLINK_CONF_DIR": str(folder),
        "FLINK_OPERATOR_CONF_DIR": str(folder),
        "KUBERNETES_SERVICE_HOST": host,
        "KUBERNETES_SERVICE_PORT": port,
    }
    command = [
        str(runtime.home / "bin" / "java"),
        "-Xmx512m",
        f"-Dlog4j2.configurationFile={folder / 'log4j.properties'}",
        "-cp",
        os.pathsep.join(map(str, files.values())),
        "org.apache.flink.kubernetes.operator.FlinkOperator",
    ]
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
