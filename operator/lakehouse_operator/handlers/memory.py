"""Memory that is free is given back to the machine, so that a peak of the start does not stay for ever.

At the start all pipelines are listed and looked at, at once. The C library keeps what was used for that.
"""

import asyncio
import ctypes
import logging

_EVERY = 30.0
_log = logging.getLogger(__name__)


async def give_back(seconds: float = _EVERY) -> None:
    """Give it back again and again. Nothing is done where the C library is not glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        _log.info("this C library gives no memory back")
        return
    while True:
        await asyncio.sleep(seconds)
        trim(0)
