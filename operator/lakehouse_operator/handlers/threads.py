"""Calls that block, each in a thread of its own.

The pool of asyncio has a few threads for the whole process: some catalogs that never answer would stop everybody.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_a_thread(work: Callable[[], T], name: str) -> "Future[T]":
    """Begin `work` in a new thread.

    A thread can't be ended. One that hangs is left behind: it holds up neither the others nor the end of the process.
    Whoever calls sees from the future that it still hangs, and should not begin the same again.
    """
    answer: Future[T] = Future()
    answer.set_running_or_notify_cancel()

    def run() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is handed to whoever waits
            answer.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return answer
