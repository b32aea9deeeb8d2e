from collections.abc import AsyncIterator, Iterator

import pytest

from sequential.services.http import HttpService, HttpSettings
from support.http_api import HttpApi, serve


@pytest.fixture
def http_api() -> Iterator[HttpApi]:
    with serve() as api:
        yield api


@pytest.fixture
async def http() -> AsyncIterator[HttpService]:
    """The service as on one's own machine: loopback is open."""
    service = HttpService(HttpSettings(allow_loopback=True))
    yield service
    await service.close()
