"""One task per pipeline, and a bell that wakes it. Never two rounds of one pipeline at a time."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from lakehouse_operator import metrics

Key: TypeAlias = tuple[str, str]
"""Namespace and name of a pipeline."""
Round: TypeAlias = Callable[[Key], Awaitable[float | None]]
"""One look at a pipeline; answers after how many seconds to look again, or None when the pipeline is gone."""


@dataclass(slots=True)
class _Tended:
    task: "asyncio.Task[None]"
    bell: asyncio.Event = field(default_factory=asyncio.Event)


class Bells:
    """The pipelines that are tended.

    Args:
        tend: one round; it must not raise.
        concurrency: how many rounds may go on at the same moment.
    """

    def __init__(self, tend: Round, concurrency: int) -> None:
        self._tend = tend
        self._turns = asyncio.Semaphore(concurrency)
        self._tended: dict[Key, _Tended] = {}

    @property
    def keys(self) -> frozenset[Key]:
        """The pipelines that have a task."""
        return frozenset(self._tended)

    def begin(self, key: Key) -> None:
        """Tend a pipeline from now on, or wake its task."""
        if key in self._tended:
            self._tended[key].bell.set()
            return
        bell = asyncio.Event()
        self._tended[key] = _Tended(asyncio.create_task(self._run(key, bell), name="/".join(key)), bell)
        metrics.PIPELINES.set(len(self._tended))

    def ring(self, key: Key) -> None:
        """Wake a pipeline's task, if there is one."""
        if key in self._tended:
            self._tended[key].bell.set()

    async def _run(self, key: Key, bell: asyncio.Event) -> None:
        pause: float | None = 0.0
        while pause is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(bell.wait(), timeout=pause)
            bell.clear()
            async with self._turns:
                pause = await self._tend(key)
        del self._tended[key]
        metrics.PIPELINES.set(len(self._tended))

    async def stop(self) -> None:
        """End all tasks. A round that is going on is cut off: whatever it did can be done again."""
        tasks = [tended.task for tended in self._tended.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tended.clear()
