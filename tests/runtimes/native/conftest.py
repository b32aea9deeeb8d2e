"""Engines for native tasks."""

import pytest

from sequential.runtimes.native import patches
from support.native_lab import NativeLab


@pytest.fixture
async def lab() -> NativeLab:
    patches.install()
    return NativeLab()
