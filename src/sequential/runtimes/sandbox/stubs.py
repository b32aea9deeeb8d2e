"""What a task's names look like to the type checker of the sandbox's VM."""

from collections.abc import Mapping, Sequence
from keyword import iskeyword
from typing import TypeAlias

import msgspec

from sequential.task import IMPORTED

Services = Mapping[str, Sequence[str]]
Tree: TypeAlias = "dict[str, Tree]"

TASK_MODULE = "sequential.task"
# The names a task sees without an import, and may import from `sequential.task`.
TASK_NAMES = frozenset(
    {
        "ConnectionError",
        "Headers",
        "Response",
        "__callHostTool__",
        "call_host_tool",
        "fetch",
        "gather",
        "run_task",
        "services",
        "settle",
        "sleep",
        "wait_for_event",
    }
)

IMPORTED_NAMES = frozenset(IMPORTED)  # those that it may import only

# Names that the VM knows and its checker does not.
_FUNCTIONS = """\
from typing import Any, Awaitable, Literal
def map(f: Any, *iterables: Any) -> list[Any]: ...
def filter(f: Any, iterable: Any) -> list[Any]: ...
def hasattr(o: object, name: str) -> bool: ...
def getattr(o: Any, name: str, default: Any = ...) -> Any: ...
def setattr(o: Any, name: str, value: Any) -> None: ...
def format(v: object, spec: str = "") -> str: ...
def open(path: Any, mode: str = "r") -> Any: ...
"""
_EXCEPTIONS = {
    "ImportError": "Exception",
    "ModuleNotFoundError": "ImportError",
    "UnboundLocalError": "NameError",
    "UnicodeDecodeError": "ValueError",
    "UnicodeEncodeError": "ValueError",
    "FileExistsError": "OSError",
    "FileNotFoundError": "OSError",
    "IsADirectoryError": "OSError",
    "NotADirectoryError": "OSError",
    "PermissionError": "OSError",
}
_TASK = """\
ConnectionError = OSError
class Headers:
    def get(self, name: str, default: Any = None) -> Any: ...
    def get_all(self, name: str) -> list[str]: ...
    def items(self) -> list[tuple[str, str]]: ...
    def keys(self) -> list[str]: ...
    def values(self) -> list[str]: ...
    def __getitem__(self, name: str) -> str: ...
    def __contains__(self, name: object) -> bool: ...
    def __iter__(self) -> Any: ...
class Response:
    status: int
    ok: bool
    headers: Headers
    url: str
    text: str
    def json(self) -> Any: ...
    def bytes(self) -> Any: ...
    def raise_for_status(self) -> "Response": ...
async def fetch(
    url: str, *, method: str = "GET", headers: Any = None, params: Any = None, json: Any = None,
    data: Any = None, timeout: float | None = None, retries: int | None = None,
    follow_redirects: bool = True,
) -> Response: ...
async def settle(*awaitables: Any) -> list[dict[str, Any]]: ...
async def gather(*awaitables: Any) -> list[Any]: ...
async def sleep(seconds: float, result: Any = None) -> Any: ...
async def call_host_tool(service: str, method: str, args: Any = None) -> Any: ...
async def run_task(name: str, input: Any = None) -> Any: ...
async def wait_for_event(name: str, timeout: float | None = None, schema: Any = None) -> Any: ...
async def __task_step__(function: Any, *args: Any, retries: int = 0, **kwargs: Any) -> Any: ...
def __task_now__() -> Any: ...
def __task_random__() -> float: ...
def __task_uuid4__() -> str: ...
def __task_task__(function: Any = None, **config: Any) -> Any: ...
"""


def stubs(services: Services) -> str:
    """Declarations of everything a task sees; `services` as in `service_stubs`."""
    exceptions = "".join(f"class {name}({base}): ...\n" for name, base in _EXCEPTIONS.items())
    known = "import services as services\n" if services else "services: Any\n"
    return f"{_FUNCTIONS}{exceptions}{_TASK}{known}"


class ServiceStub(msgspec.Struct, frozen=True):
    """A level of the tree of services: what it declares, and the levels below it."""

    text: str
    below: dict[str, "ServiceStub"]


def service_stub(services: Services) -> ServiceStub:
    """The module `services` as declarations; a service without methods may have any."""
    tree: Tree = {}
    for service, methods in services.items():
        node = tree.setdefault(service, {})
        for method in methods:
            below = node
            for part in method.split("."):
                below = below.setdefault(part, {})
    return _module(tree, is_open=False)


def _module(tree: Tree, *, is_open: bool) -> ServiceStub:
    names = [name for name in tree if name.isidentifier() and not iskeyword(name)]
    below = {name: _module(tree[name], is_open=True) for name in names if tree[name]}
    text = "from typing import Any\n"
    for name in names:
        if name in below:
            text += f"from . import {name} as {name}\n"
        elif is_open:
            text += f"async def {name}(*args: Any, **kwargs: Any) -> Any: ...\n"
        else:
            text += f"{name}: Any\n"
    return ServiceStub(text, below)
