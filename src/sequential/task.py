"""What task code may import: `from sequential.task import fetch, sleep, gather, settle`.

Inside of a run these names are there by themselves and the import costs nothing; it is for your
editor, which learns what there is, and for reading the file by hand. Outside of a run `sleep`,
`gather`, `settle`, `Response` and `Headers` do what they say. What would reach the world (`fetch`,
`call_host_tool`, `services`, `run_task`, `wait_for_event`) raises `RuntimeError`, because nobody
would write it down.
"""

import asyncio
import json as codec
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from typing import Any, Final, NoReturn

__all__ = [
    "Headers",
    "Response",
    "call_host_tool",
    "fetch",
    "gather",
    "run_task",
    "services",
    "settle",
    "sleep",
    "wait_for_event",
]

gather = asyncio.gather
sleep = asyncio.sleep

absent: Final[Any] = ("no value given",)


class Headers:
    """Header fields; names are found in any case."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._pairs = [(pair[0], pair[1]) for pair in pairs]

    def get(self, name: str, default: Any = None) -> Any:
        """The value, several of them joined by commas."""
        return ", ".join(self.get_all(name)) if name in self else default

    def get_all(self, name: str) -> list[str]:
        """Each value of a field that may come several times, such as Set-Cookie."""
        return [value for key, value in self._pairs if key.lower() == name.lower()]

    def items(self) -> list[tuple[str, str]]:
        return list(self._pairs)

    def keys(self) -> list[str]:
        return [key for key, _ in self._pairs]

    def values(self) -> list[str]:
        return [value for _, value in self._pairs]

    def __getitem__(self, name: str) -> str:
        if name not in self:
            raise KeyError(name)
        return ", ".join(self.get_all(name))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.get_all(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __repr__(self) -> str:
        return f"Headers({self._pairs!r})"


class Response:
    """An answer. A status such as 404 is data: `raise_for_status` makes an error of it."""

    status: int
    ok: bool  # the status is 2xx
    headers: Headers
    url: str  # after redirects
    text: str

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self.status = answer["status"]
        self.ok = 200 <= self.status < 300
        self.headers = Headers(answer["headers"])
        self.url = answer["url"]
        self._content: bytes | None = answer.get("content")
        text: str | None = answer.get("text")
        self.text = (self._content or b"").decode("utf-8", "replace") if text is None else text

    def json(self) -> Any:
        """The body read as JSON; `ValueError` if it is something else."""
        return codec.loads(self.text)

    def bytes(self) -> "bytes":
        """The body as it came."""
        return self.text.encode() if self._content is None else self._content

    def raise_for_status(self) -> "Response":
        """The response itself if its status is 2xx, else `OSError`."""
        if not self.ok:
            raise OSError(f"HTTP {self.status} for {self.url}")
        return self

    def __repr__(self) -> str:
        return f"<Response [{self.status}]>"


async def fetch(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None,
    json: Any = absent,
    data: Any = None,
    timeout: float | None = None,
    retries: int | None = None,
    follow_redirects: bool = True,
) -> Response:
    """Make an HTTP request. The run is written down before and after it.

    `json` is sent as JSON, `data` as a form (mapping) or as it is (text, bytes); `timeout` is in
    seconds; `retries` overrules how often the task's policy tries again after a failure. Raises
    `OSError` for a failure of the network, `TimeoutError`, and `PermissionError` for a host the
    task may not reach.
    """
    _outside("fetch()")


async def settle(*awaitables: Awaitable[Any]) -> list[dict[str, Any]]:
    """Wait for all and learn how each went.

    `{"ok": True, "value": ...}`, or `{"ok": False, "error": <its type>, "message": ...}`.
    """

    async def one(awaitable: Awaitable[Any]) -> dict[str, Any]:
        try:
            return {"ok": True, "value": await awaitable}
        except Exception as error:
            return {"ok": False, "error": type(error).__name__, "message": str(error)}

    return await gather(*[one(awaitable) for awaitable in awaitables])


async def call_host_tool(service: str, method: str, args: Any = None) -> Any:
    """Call a method of a service. `args` is a dict of its named arguments, or a list.

    The same as `services.<service>.<method>(...)`, for names that are known only at run time.
    """
    _outside("call_host_tool()")


async def run_task(name: str, input: Mapping[str, Any] | None = None) -> Any:
    """Run another task as a child of this run and wait for its result.

    The child is a run of its own, driven by whichever worker is free, and waiting for it costs
    nothing. `RuntimeError` with the child's error if it fails; a child is cancelled when this run
    ends before it does.
    """
    _outside("run_task()")


async def wait_for_event(name: str, timeout: float | None = None) -> Any:
    """Wait for an answer from outside, such as a person's approval, and return its data.

    It is given by `sequential-ecosystem answer <run> <name> --data '{...}'` or `Engine.answer`,
    which may also happen before the task asks. `TimeoutError` after `timeout` seconds.
    """
    _outside("wait_for_event()")


__callHostTool__ = call_host_tool  # as the original called it


class _Services:
    """`await services.crm.find_customer(email=...)` calls the function in `services/crm.py`."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Method(name)


class _Method:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> "_Method":
        if name.startswith("__"):
            raise AttributeError(name)
        return _Method(f"{self._name}.{name}")

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        _outside(f"services.{self._name}()")


services = _Services()


def _outside(name: str) -> NoReturn:
    raise RuntimeError(
        f"{name} works inside of a run only: start the task with `sequential-ecosystem run <task>`"
    )
