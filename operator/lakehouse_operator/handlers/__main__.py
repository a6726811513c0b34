"""`python -m lakehouse_operator.handlers`: the operator."""

import asyncio
import json
import logging
import sys

from typing_extensions import override

from lakehouse_operator.config import ConfigurationRefused, read_config
from lakehouse_operator.handlers.run import run


class _Json(logging.Formatter):
    """One JSON object per line."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def main() -> int:
    """Run the operator; answers the exit code."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("kopf").setLevel(logging.WARNING)
    try:
        config = read_config()
    except ConfigurationRefused as error:
        logging.getLogger(__name__).error("%s", error)
        return 64
    asyncio.run(run(config))
    return 0


if __name__ == "__main__":
    sys.exit(main())
