"""Run the job that this file is named for: as `silver.py` it runs `main` of `lakehouse_jobs.silver`."""

import sys
from importlib import import_module
from pathlib import Path

sys.exit(import_module(f"lakehouse_jobs.{Path(__file__).stem}").main(sys.argv[1:]))
