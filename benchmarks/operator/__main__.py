"""What the operator costs with many pipelines: `python -m benchmarks.operator`. See README.md beside this file."""

import argparse
import asyncio
import gc
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import yaml
from benchmarks.operator.actors import JOB, FlinkOperator, Watched, is_ready, manifest
from benchmarks.operator.figures import Spans, split, table
from benchmarks.operator.lake import Lake, lake
from benchmarks.operator.world import REPOSITORY, Operator, Server, server

from lakehouse_operator.cluster.client import KubernetesCluster
from lakehouse_operator.cluster.kinds import FLINK_DEPLOYMENT, LAKEHOUSE_PIPELINE
from lakehouse_operator.cluster.port import Resource
from lakehouse_operator.cluster.rest import Login
from lakehouse_operator.planning import names

_DEADLINE = 1800.0
_LOOK = 0.2
_USERS = 8
"""So many pipelines are applied at the same moment while the load is made."""
_FLINK_HANDS = 4


@dataclass(slots=True)
class Bench:
    """Everything that takes part."""

    options: argparse.Namespace
    example: Resource
    server: Server
    operator: Operator
    user: KubernetesCluster
    pipelines: Watched
    deployments: Watched
    lake: Lake | None = None

    async def apply(self, name: str, **bronze: object) -> float:
        """Apply a pipeline; answer the moment before it was sent."""
        wanted = manifest(self.example, name, self.lake)
        wanted["spec"]["bronze"] |= bronze
        began = time.monotonic()
        await self.user.apply(wanted)
        return began

    async def until_ready(self, *wanted: str) -> None:
        """Wait until these pipelines are ready."""
        await self.until(
            lambda: all(name in self.pipelines.objects and is_ready(self.pipelines.objects[name]) for name in wanted)
        )

    async def until_quiet(self) -> None:
        """Wait until nothing has changed for a while."""
        await self.until(
            lambda: time.monotonic() - max(self.pipelines.last_event, self.deployments.last_event) >= self.options.quiet
        )

    async def until(self, holds: Callable[[], bool], look: float = _LOOK) -> None:
        """Look again and again until something holds."""
        async with asyncio.timeout(_DEADLINE):
            while not holds():
                self.operator.usage()
                await asyncio.sleep(look)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark that the command line describes. Answer the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.operator", description="What the operator costs.")
    parser.add_argument("--pipelines", type=int, default=1000, help="how many there are (%(default)s)")
    parser.add_argument("--samples", type=int, default=100, help="applied one by one when all is idle (%(default)s)")
    parser.add_argument("--changes", type=int, default=100, help="changed at the same moment (%(default)s)")
    parser.add_argument("--rest", type=float, default=300.0, help="seconds that rest is measured (%(default)s)")
    parser.add_argument(
        "--quiet", type=float, default=5.0, help="seconds without a change that mean rest (%(default)s)"
    )
    parser.add_argument(
        "--observe", action="store_true", help="let the operator look at a real Kafka and a real table of each pipeline"
    )
    parser.add_argument("--example", type=Path, default=REPOSITORY / "examples" / "roman-numerals.yaml")
    parser.add_argument("--log", type=Path, help="keep the operator's log here")
    parser.add_argument("--profile", type=Path, help="run the operator under cProfile and write the profile here")
    options = parser.parse_args(arguments)
    # This process holds every pipeline as it was last heard of; a search for garbage in that takes seconds, and would
    # be taken for the operator's time.
    gc.disable()
    asyncio.run(_run(options))
    return 0


async def _run(options: argparse.Namespace) -> None:
    running = asyncio.current_task()
    if running is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    async with _bench(options) as bench:
        print(
            f"{options.pipelines:,} pipelines of {options.example.name}, {os.cpu_count()} cores,"
            f" Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
        await _fill(bench)
        await _one_by_one(bench)
        await _at_rest(bench)
        await _all_at_once(bench)
        await _restart(bench)
        failed = (await bench.operator.rounds()).get("failed", 0)
        print(f"failed rounds since the restart: {failed}")


@asynccontextmanager
async def _bench(options: argparse.Namespace) -> AsyncIterator[Bench]:
    example: Resource = yaml.safe_load(options.example.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="operator-benchmark-") as folder:
        log = options.log or Path(folder) / "operator.log"
        outside = lake(Path(folder) / "lake") if options.observe else nullcontext(None)
        with outside as seen:
            async with server() as api, _clients(api) as (user, flink):
                operator = Operator(api, log, options.profile, ("127.0.0.1:*",) if seen else ())
                if seen is not None:
                    seen.make_tables(_names(options), JOB)
                watched = Watched(LAKEHOUSE_PIPELINE), Watched(FLINK_DEPLOYMENT)
                bench = Bench(options, example, api, operator, user, *watched, seen)
                acting = FlinkOperator(flink, seen)
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(work)
                        for work in (
                            bench.pipelines.follow(api),
                            bench.deployments.follow(api),
                            *(acting.work() for _ in range(_FLINK_HANDS)),
                        )
                    ]
                    try:
                        with bench.deployments.heard_by(acting.hear):
                            yield bench
                    finally:
                        operator.stop()
                        for task in tasks:
                            task.cancel()


def _names(options: argparse.Namespace) -> list[str]:
    """All pipelines that there will be."""
    filling = [f"p-{number}" for number in range(options.pipelines)]
    return filling + [f"sample-{number}" for number in range(options.samples)]


@asynccontextmanager
async def _clients(api: Server) -> AsyncIterator[tuple[KubernetesCluster, KubernetesCluster]]:
    login = Login(api.plane.kubeconfig)
    async with (
        KubernetesCluster(login, field_manager="user") as user,
        KubernetesCluster(login, field_manager="flink") as flink,
    ):
        yield user, flink


# --- the chapters -----------------------------------------------------------------------------------------------------


async def _fill(bench: Bench) -> None:
    """All pipelines, as fast as they are taken."""
    bench.operator.start()
    await bench.operator.leads(60)
    print(f"operator without pipelines: {bench.operator.usage().resident:.0f} MiB", flush=True)
    await _reported(bench, "fill", _apply_all(bench))


async def _apply_all(bench: Bench) -> str:
    began = time.monotonic()
    left = iter(range(bench.options.pipelines))

    async def one_user() -> None:
        for number in left:
            await bench.apply(f"p-{number}")

    await asyncio.gather(*(one_user() for _ in range(_USERS)))
    applied = time.monotonic() - began
    await bench.until_ready(*(f"p-{number}" for number in range(bench.options.pipelines)))
    return f"applied in {applied:.1f} s, all ready after {time.monotonic() - began:.1f} s"


async def _one_by_one(bench: Bench) -> None:
    """A new pipeline each time that all is idle. How long until its child exists, as another client sees it."""
    await bench.until_quiet()
    await _reported(bench, "apply to child, idle", _samples(bench))


async def _samples(bench: Bench) -> str:
    children, writes = [], []
    for number in range(bench.options.samples):
        name = f"sample-{number}"
        created = asyncio.get_running_loop().create_future()

        def hear(
            deployment: Resource, moment: float, name: str = name, created: "asyncio.Future[float]" = created
        ) -> None:
            if deployment["metadata"]["name"] == names.deployment(name) and not created.done():
                created.set_result(moment)

        with bench.deployments.heard_by(hear):
            began = await bench.apply(name)
            writes.append(time.monotonic() - began)
            children.append(await asyncio.wait_for(created, _DEADLINE) - began)
        await bench.until_ready(name)
    child, write = Spans(tuple(children)), Spans(tuple(writes))
    return f"{child}; the apply itself p50 {1000 * write.p50:,.0f} ms; ratio {child.p50 / write.p50:.1f}"


async def _at_rest(bench: Bench) -> None:
    """Nothing happens. What the API server is asked, and what the operator costs."""
    await bench.until_quiet()
    began, before, used = time.monotonic(), await bench.server.asked(), bench.operator.usage()
    rounds = await bench.operator.rounds()
    await asyncio.sleep(bench.options.rest)
    minutes = (time.monotonic() - began) / 60
    asked, now = await bench.server.asked() - before, bench.operator.usage()
    made = sum((await bench.operator.rounds()).values()) - sum(rounds.values())
    per_minute = [(what, count / minutes) for what, count in sorted(asked.items())]
    reads, writes = split(asked)
    cpu = now.cpu_seconds - used.cpu_seconds
    print(
        f"at rest, {len(bench.pipelines.objects):,} pipelines, {60 * minutes:.0f} s, load {os.getloadavg()[0]:.1f}\n"
        f"  {now.resident:.0f} MiB resident, peak so far {now.peak:.0f} MiB\n"
        f"  {cpu / minutes:.2f} s of CPU a minute,"
        f" {made / minutes:,.1f} rounds a minute, {1000 * cpu / max(made, 1):.1f} ms each\n"
        f"  requests a minute, whoever made them: {reads / minutes:,.1f} reads, {writes / minutes:,.1f} writes\n"
        f"{table(per_minute)}",
        flush=True,
    )


async def _all_at_once(bench: Bench) -> None:
    """Many pipelines change at the same moment."""
    await bench.until_quiet()
    await _reported(bench, "apply to child changed, all at once", _changes(bench, range(bench.options.changes), 2))


async def _changes(bench: Bench, numbers: range, parallelism: int) -> str:
    """The first thing that a change does to a child is that its job is stopped with a savepoint."""
    wanted = {names.deployment(f"p-{number}") for number in numbers}
    before = {name: bench.deployments.objects[name]["metadata"]["generation"] for name in wanted}
    changed: dict[str, float] = {}

    def hear(deployment: Resource, moment: float) -> None:
        name = deployment["metadata"]["name"]
        if name in wanted and deployment["metadata"]["generation"] > before[name]:
            changed.setdefault(name, moment)

    with bench.deployments.heard_by(hear):
        start = time.monotonic()
        applied = await asyncio.gather(*(bench.apply(f"p-{number}", parallelism=parallelism) for number in numbers))
        sent = time.monotonic() - start
        await bench.until(lambda: len(changed) == len(wanted))
    began = dict(zip((names.deployment(f"p-{number}") for number in numbers), applied, strict=True))
    spans = Spans(tuple(changed[name] - began[name] for name in sorted(wanted)))
    await bench.until_ready(*(f"p-{number}" for number in numbers))
    return (
        f"{spans}; all {len(numbers)} were applied within {1000 * sent:,.0f} ms; "
        f"all ready again after {time.monotonic() - start:.1f} s"
    )


async def _restart(bench: Bench) -> None:
    """Stop, change something meanwhile, start: how long until all is as if it had never been away."""
    await bench.until_quiet()
    bench.operator.stop()
    numbers = range(max(1, bench.options.changes // 10))
    before = {
        name: bench.deployments.objects[name]["metadata"]["generation"]
        for name in (names.deployment(f"p-{number}") for number in numbers)
    }
    for number in numbers:
        await bench.apply(f"p-{number}", parallelism=3)
    started = time.monotonic()
    bench.operator.start()
    looked = asyncio.create_task(bench.operator.caught_up(len(bench.pipelines.objects), _DEADLINE))
    now = bench.deployments.objects
    await bench.until(lambda: all(now[name]["metadata"]["generation"] > was for name, was in before.items()), 0.02)
    first = time.monotonic() - started
    seconds = await looked
    usage = bench.operator.usage()
    await bench.until_ready(*bench.pipelines.objects)
    print(
        f"restart: every one of {len(bench.pipelines.objects):,} pipelines looked at after {seconds:.1f} s"
        f" ({usage.cpu_seconds:.1f} s of CPU); {len(numbers)} that were changed meanwhile:"
        f" the last one's child changed after {first:.1f} s; {usage.resident:.0f} MiB resident, peak {usage.peak:.0f}"
        f" MiB; load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    await bench.until_quiet()
    await asyncio.sleep(bench.options.rest)
    print(f"  at rest again, {bench.options.rest:.0f} s later: {bench.operator.usage().resident:.0f} MiB", flush=True)


async def _reported(bench: Bench, title: str, chapter: Awaitable[str]) -> None:
    """Carry out a chapter and print what came out, with what it cost."""
    before = bench.operator.usage()
    text = await chapter
    after = bench.operator.usage()
    print(
        f"{title}: {text}\n  {after.cpu_seconds - before.cpu_seconds:.1f} s of CPU,"
        f" {after.resident:.0f} MiB, load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
