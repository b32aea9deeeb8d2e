"""What every storage adapter must do, as a test class to inherit from.

    class TestMyAdapter(StorageContract):
        @pytest.fixture
        def open_adapter(self, tmp_path):
            async def open_adapter():
                return await create_adapter("mine:" + str(tmp_path / "store"))

            return open_adapter

`open_adapter()` opens the store of the test, an empty one at first; called again, it opens the same
store once more, as a second process would. Needs pytest and pytest-asyncio.

An adapter may say about itself, as attributes of the test class:

`leases_expire = False`   a lease lasts as long as the process that took it, whatever its time
`amends_driven = False`   a run that another process drives cannot be taken away from it
`tells_others = True`     `watch` tells what other processes did, too
`crowd = 20`              runs that are driven at the same time in the tests of many; else 100
"""

import sys

import pytest

_PARTS = (
    *("base", "runs", "values", "documents", "leases", "claims", "answers", "waking", "crowds"),
)
_MODULES = {f"sequential.testing.contract_{part}" for part in _PARTS}
pytest.register_assert_rewrite(*(_MODULES - sys.modules.keys()))  # asserts that say what they saw

from sequential.testing.contract_answers import (  # noqa: E402
    AmendmentsContract,
    AnswersContract,
    OperatorsContract,
)
from sequential.testing.contract_base import OpenAdapter, until  # noqa: E402
from sequential.testing.contract_claims import ClaimsContract, DueContract  # noqa: E402
from sequential.testing.contract_crowds import CrowdsContract  # noqa: E402
from sequential.testing.contract_documents import (  # noqa: E402
    DocumentChangesContract,
    DocumentListsContract,
    DocumentsContract,
)
from sequential.testing.contract_leases import CommitsContract, LeasesContract  # noqa: E402
from sequential.testing.contract_records import (  # noqa: E402
    LATER,
    NOW,
    SOON,
    TEXTS,
    TREES,
    answer,
    delivered,
    new_call,
    new_run,
    text_of,
)
from sequential.testing.contract_runs import CallsContract, RunsContract  # noqa: E402
from sequential.testing.contract_values import (  # noqa: E402
    KeystoreContract,
    LogsContract,
    TasksContract,
    ValuesContract,
)
from sequential.testing.contract_waking import WakingContract, WatchingContract  # noqa: E402

__all__ = [
    "LATER",
    "NOW",
    "SOON",
    "TEXTS",
    "TREES",
    "OpenAdapter",
    "StorageContract",
    "answer",
    "delivered",
    "new_call",
    "new_run",
    "text_of",
    "until",
]


class StorageContract(
    RunsContract,
    CallsContract,
    ValuesContract,
    TasksContract,
    KeystoreContract,
    DocumentsContract,
    DocumentListsContract,
    DocumentChangesContract,
    LogsContract,
    LeasesContract,
    ClaimsContract,
    DueContract,
    CommitsContract,
    AmendmentsContract,
    AnswersContract,
    OperatorsContract,
    WakingContract,
    WatchingContract,
    CrowdsContract,
):
    """Inherit from this and provide the fixture `open_adapter`."""

    pytestmark = pytest.mark.asyncio
