"""Leadership that does not depend on how busy this process is: the Lease is renewed from a thread of its own.

Rounds, watches and observations share one event loop. Whatever holds that up, be it a thousand rounds or one model
with very long SQL, must not cost the Lease, so the renewal has a thread, an event loop and connections of its own.
Whether the rest of the process still does its work is the liveness probe's question.
"""

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

from lakehouse_operator.cluster.lease import LeaderLease
from lakehouse_operator.cluster.port import Cluster
from lakehouse_operator.handlers.threads import in_a_thread

EXIT_DEPOSED = 70
"""The exit code of a process that lost its Lease and did not come to rest in time."""
_log = logging.getLogger(__name__)


def _end_process() -> None:
    _log.critical("the Lease is lost and rounds may still be under way: the process ends at once")
    os._exit(EXIT_DEPOSED)


class Leadership:
    """This replica's claim to lead, from `acquired` until it is `lost` or the context is left.

    Leaving the context says that nothing is done under the claim any more, and releases the Lease.

    Args:
        connect: opens connections to the API server, in the thread that will use them.
        claim: a Lease over such connections.
        end_process: what ends the process where it goes on acting after the Lease was lost.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[Cluster]],
        claim: Callable[[Cluster], LeaderLease],
        end_process: Callable[[], None] = _end_process,
    ) -> None:
        self._connect = connect
        self._claim = claim
        self._end_process = end_process
        self._acquired: Future[None] = Future()
        self._lost: Future[None] = Future()
        self._at_rest = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread: Future[None] | None = None

    async def __aenter__(self) -> Self:
        started: Future[None] = Future()
        self._thread = in_a_thread(lambda: asyncio.run(self._live(started)), "lease")
        await asyncio.wrap_future(started)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._at_rest.set()
        if self._loop is not None and self._task is not None and self._thread is not None:
            with contextlib.suppress(RuntimeError):  # the thread has ended by itself, and its loop is closed
                self._loop.call_soon_threadsafe(self._task.cancel)
            await asyncio.wrap_future(self._thread)

    async def acquired(self) -> None:
        """Wait until this replica leads."""
        await asyncio.shield(asyncio.wrap_future(self._acquired))

    async def lost(self) -> None:
        """Wait until this replica leads no more. What it does under the claim has to end at once."""
        await asyncio.shield(asyncio.wrap_future(self._lost))

    async def _live(self, started: "Future[None]") -> None:
        """What the thread does. Whatever happens in it, whoever waits for it hears of it."""
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        started.set_result(None)
        try:
            async with self._connect() as cluster:
                lease = self._claim(cluster)
                with contextlib.suppress(asyncio.CancelledError):
                    await self._hold(lease)
                await lease.release()
        except Exception as error:  # noqa: BLE001 - a thread's error is seen by nobody else
            _log.exception("the Lease can't be kept")
            if not self._acquired.done():
                self._acquired.set_exception(error)
        finally:
            if not self._lost.done():
                self._lost.set_result(None)

    async def _hold(self, lease: LeaderLease) -> None:
        await lease.acquire()
        self._acquired.set_result(None)
        await lease.keep()
        _log.error("this replica could not renew its Lease and stops")
        self._lost.set_result(None)
        # Others may begin when the margin is over, whether the other event loop has come to this or not.
        if not await asyncio.to_thread(self._at_rest.wait, lease.margin):
            self._end_process()
