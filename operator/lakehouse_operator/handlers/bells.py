"""One task per pipeline, and a bell that wakes it. Never two rounds of one pipeline at a time."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextvars import Context
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
    generation: int = 0


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

    def knows(self, key: Key, generation: int) -> bool:
        """Whether a pipeline has a task that has been told of this generation, or of a later one."""
        return key in self._tended and self._tended[key].generation >= generation

    @property
    def keys(self) -> frozenset[Key]:
        """The pipelines that have a task."""
        return frozenset(self._tended)

    def begin(self, key: Key, generation: int = 0) -> None:
        """Tend a pipeline from now on, or wake its task.

        Args:
            key: the pipeline.
            generation: that of the object that the watch told of.
        """
        if key in self._tended:
            self._tended[key].generation = generation
            self._tended[key].bell.set()
            return
        bell = asyncio.Event()
        # Begun in a watch's handler, it lives as long as the pipeline. With that handler's context it would keep kopf's
        # variables alive, and with them the whole object that the watch told of.
        task = asyncio.create_task(self._run(key, bell), name="/".join(key), context=Context())
        self._tended[key] = _Tended(task, bell, generation)
        metrics.PIPELINES.set(len(self._tended))

    def ring(self, key: Key) -> None:
        """Wake a pipeline's task, if there is one."""
        if key in self._tended:
            self._tended[key].bell.set()

    async def _run(self, key: Key, bell: asyncio.Event) -> None:
        pause: float | None = 0.0
        try:
            # A bell that rang during the round that found the pipeline gone may tell of a new one of the same name.
            while pause is not None or bell.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(bell.wait(), timeout=pause)
                bell.clear()
                async with self._turns:
                    pause = await self._tend(key)
        finally:
            # Also when it is cancelled, as kopf does with all tasks of the loop when its watches end: whoever begins to
            # watch again must not find a pipeline that only seems to be tended.
            self._tended.pop(key, None)
            metrics.PIPELINES.set(len(self._tended))

    async def stop(self) -> None:
        """End all tasks. A round that is going on is cut off: whatever it did can be done again."""
        tasks = [tended.task for tended in self._tended.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tended.clear()
