"""The page about the seed names only what exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/seed.md").read_text()
NAMED = sorted(set(re.findall(r"`((?:tests|examples)/[^`]+)`", PAGE)))


@pytest.mark.parametrize("named", NAMED)
def test_what_the_page_names_exists(named: str) -> None:
    path, _, function = named.partition("::")
    assert (ROOT / path).exists()
    if function:
        tree = ast.parse((ROOT / path).read_text())
        functions = {n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))}
        assert function in functions


def test_every_statement_has_a_verdict() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| the seed says")]
    verdicts = [row.split(" | ")[1] for row in rows]
    assert len(rows) > 40
    assert all(re.match(r"(kept|translated|improved|not yet)", verdict) for verdict in verdicts)


def test_what_is_not_still_to_come_is_shown_by_a_test() -> None:
    rows = [line.split(" | ") for line in PAGE.splitlines() if line.startswith("| ") and " | " in line]
    bare = [cells[0] for cells in rows if not cells[1].startswith(("not yet", "here")) and "`tests/" not in cells[-1]]
    assert bare == []


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/**/*.md")) + sorted(ROOT.glob("*.md")), ids=str)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text())
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []
