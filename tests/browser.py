"""A Chromium without a screen, for tests that open pages."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

QUIET = ["background-networking", "component-update", "sync", "gpu", "quic"]
FLAGS = ["--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in QUIET)]


def launched() -> Iterator[Any]:
    """The browser, closed afterwards; skips the test where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("needs Chromium")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()
