"""A pipeline that is deleted, by each policy, and created again from its record, with nothing lost.

All that happens beside the tests of `test_stream.py`; here it is waited for.
"""

import pytest

from e2e.second import Story

pytestmark = [pytest.mark.timeout(2400), pytest.mark.usefixtures("kept")]


def test_retained_it_is_stopped_with_a_savepoint_and_goes_on_from_it(second: Story) -> None:
    second.ended("is_retained")


def test_blocked_it_stays_until_a_person_lets_it_go_and_comes_back_at_its_last_recovery_point(second: Story) -> None:
    second.ended("is_blocked")


def test_forced_it_goes_at_once_and_comes_back_at_its_last_recovery_point(second: Story) -> None:
    second.ended("is_forced")
