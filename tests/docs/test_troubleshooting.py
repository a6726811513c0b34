"""The page for the night names every reason that the planner gives."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_reason_for_waiting_is_explained() -> None:
    planning = ROOT / "operator" / "lakehouse_operator" / "planning"
    given = {
        reason
        for path in planning.glob("*.py")
        for reason in re.findall(r'Hold\(\s*reason="([A-Za-z]+)"', path.read_text())
    }
    page = (ROOT / "docs" / "troubleshooting.md").read_text().partition("## Reasons")[2]
    explained = set(re.findall(r"`([A-Z][A-Za-z]+)`", page))

    assert len(given) > 30
    assert explained == given
