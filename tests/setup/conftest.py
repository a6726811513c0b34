"""The scripts in `setup/` are no package: they are found as their own directory has them."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "setup"))


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT
