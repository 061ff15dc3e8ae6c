"""One browser for all tests: Playwright cannot be started twice."""

import lab
import pytest


@pytest.fixture(scope="session")
def chromium():
    with lab.browsing() as browser:
        yield browser


@pytest.fixture(scope="session")
def reader(chromium):
    with lab.serving(chromium) as reader:
        yield reader
