"""A browser for tests: Chromium without a window, that is installed or that apt-get can install."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator

from playwright.async_api import Browser, async_playwright

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
INSTALL = ["apt-get", "install", "-y", "--no-install-recommends", "chromium-headless-shell"]


def chromium() -> str:
    """The program; raises `LookupError` that says how to get one."""
    if found := os.environ.get("CHROMIUM") or _installed():
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update"], check=False, capture_output=True, timeout=100)
        subprocess.run(INSTALL, check=False, capture_output=True, timeout=300)
        if found := _installed():
            return found
    raise LookupError("there is no Chromium: `make browser` installs it, or set CHROMIUM")


def _installed() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextlib.asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """A browser that ends with the block."""
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        try:
            yield opened
        finally:
            await opened.close()
