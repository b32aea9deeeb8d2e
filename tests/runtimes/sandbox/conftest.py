"""Sandbox processes for the tests of the runtime."""

from collections.abc import AsyncIterator

import pytest

from sequential.runtimes.sandbox.pool import SandboxPool


@pytest.fixture
async def pool() -> AsyncIterator[SandboxPool]:
    pool = SandboxPool(2)
    yield pool
    await pool.close()
