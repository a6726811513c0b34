"""What was used at the start does not stay for ever."""

import asyncio
from pathlib import Path

from lakehouse_operator.handlers.memory import give_back

PAGE = 4096
PEAK = 100 << 20


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def after_a_peak() -> tuple[int, bytes]:
    """How much is resident after so much was used and freed, and something behind it that is still in use."""
    used = [b"x" * 5000 for _ in range(PEAK // 5000)]
    behind = b"x" * 5000
    used.clear()
    return resident(), behind


async def test_memory_that_is_free_is_given_back() -> None:
    before, _behind = after_a_peak()
    giving = asyncio.create_task(give_back(seconds=0.01))
    async with asyncio.timeout(30):
        while resident() > before - PEAK // 2:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    giving.cancel()
