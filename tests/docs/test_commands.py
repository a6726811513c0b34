"""The commands that the pages tell people are those that the end-to-end tests run."""

import ast
from pathlib import Path

import pytest

from e2e import pages

ROOT = Path(__file__).resolve().parents[2]
NOT_RUN = {
    ("install.md", "Images", 0): "setup/images.py builds the same files with Buildah",
    ("install.md", "For one team", 0): "watchNamespaces is part of the values of the suite's release",
    ("install.md", "Removing everything", 0): "the suite removes the cluster",
}


def run_by_the_suite() -> set[tuple[str, str, int]]:
    """The blocks that are handed to `Platform.documented`."""
    calls = [
        node
        for path in (ROOT / "tests" / "e2e").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "documented"
    ]
    found = set()
    for call in calls:
        page, section = (ast.literal_eval(argument) for argument in call.args[:2])
        [block] = [ast.literal_eval(each.value) for each in call.keywords if each.arg == "block"] or [0]
        found.add((page, section, block))
    return found


@pytest.mark.parametrize("page", ["install.md", "troubleshooting.md"])
def test_every_command_of_a_page_is_run_or_it_is_said_why_not(page: str) -> None:
    told = {(page, name, number) for name, blocks in pages.sections(page).items() for number in range(len(blocks))}
    known = {each for each in run_by_the_suite() | NOT_RUN.keys() if each[0] == page}
    assert len(told) > 3
    assert told == known
