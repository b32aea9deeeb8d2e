import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import pytest

from sequential.core.model import Outcome, evolve
from sequential.services.base import CallContext, CallError, Secret, TryAgain
from sequential.services.local import LocalService

if TYPE_CHECKING:
    from decimal import Decimal  # not there when the annotation is looked at

CONTEXT = CallContext("run-1", "task", 0, 1, "key-1")


class Given:
    """Secrets whose values are their names in brackets."""

    async def get(self, name: str) -> str:
        return f"<{name}>"

    def redacted(self, text: str) -> str:
        return text.replace("<crm/token>", "(hidden)")


@pytest.fixture
async def crm() -> AsyncIterator[LocalService]:
    service = LocalService("crm")
    yield service
    await service.close()


async def call(service: LocalService, method: str, *args: Any, **kwargs: Any) -> Any:
    return await service.call(method, args, kwargs, CONTEXT)


async def failure(service: LocalService, method: str, *args: Any, **kwargs: Any) -> tuple[str, str]:
    with pytest.raises(CallError) as error:
        await call(service, method, *args, **kwargs)
    return error.value.failure.type, error.value.failure.message


async def test_methods_async_and_not(crm: LocalService) -> None:
    @crm.method("users.messages.list")
    def list_messages(user: str, *, limit: int = 10) -> list[str]:
        return [f"{user}{n}" for n in range(limit)]

    @crm.method()
    async def ping() -> str:
        return "pong"

    assert list(crm.methods()) == ["users.messages.list", "ping"]
    assert crm.due_after("ping", [], {}) == 0
    assert await call(crm, "users.messages.list", "me", limit=2) == ["me0", "me1"]
    assert await call(crm, "ping") == "pong"
    assert list_messages("x", limit=1) == ["x0"]  # it is still the function it was


async def test_functions_that_block_do_not_hold_up_the_loop(crm: LocalService) -> None:
    @crm.method()
    def block() -> str:
        time.sleep(0.1)
        return threading.current_thread().name

    started = time.monotonic()
    names = await asyncio.gather(*(call(crm, "block") for _ in range(10)))
    assert time.monotonic() - started < 0.8
    assert all(name.startswith("service-crm") for name in names)


async def test_context_variables_reach_the_thread(crm: LocalService) -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    @crm.method()
    def read() -> str:
        return variable.get()

    variable.set("set")
    assert await call(crm, "read") == "set"


async def test_the_context_is_handed_in_and_not_part_of_the_signature(crm: LocalService) -> None:
    @crm.method()
    def first(context: CallContext, /, a: int, *more: int, **options: int) -> Any:
        return context.idempotency_key, a, more, options

    @crm.method()
    async def middle(a: int, ctx: "CallContext", b: int = 5) -> Any:
        return ctx.run_id, a, b

    @crm.method()
    def unknown_hints(a: "Decimal", context: "CallContext") -> Any:
        return context.task, a

    assert await call(crm, "first", 1, 2, 3, x=4) == ("key-1", 1, (2, 3), {"x": 4})
    assert await call(crm, "middle", 1) == ("run-1", 1, 5)
    assert await call(crm, "middle", 1, 2) == ("run-1", 1, 2)
    assert await call(crm, "middle", a=1, b=2) == ("run-1", 1, 2)
    assert await call(crm, "unknown_hints", 7) == ("task", 7)
    kind, message = await failure(crm, "middle", 1, ctx="mine")
    assert (kind, "'ctx'" in message) == ("TypeError", True)


async def test_secrets_are_filled_in_and_not_part_of_the_signature(crm: LocalService) -> None:
    Token = Annotated[str, Secret("crm/token")]

    @crm.method()
    def in_a_thread(id: str, token: Annotated[str, Secret("crm/token")], limit: int = 3) -> Any:
        return id, token, limit

    @crm.method()
    async def on_the_loop(context: CallContext, token: "Annotated[str, Secret('crm/key')]") -> Any:
        return context.run_id, token

    @crm.method()
    def unknown_hints(a: "Decimal", *, token: Token) -> Any:
        return a, token

    context = evolve(CONTEXT, secrets=Given())
    assert await crm.call("in_a_thread", ["1"], {}, context) == ("1", "<crm/token>", 3)
    assert await crm.call("in_a_thread", ["1", 5], {}, context) == ("1", "<crm/token>", 5)
    assert await crm.call("on_the_loop", [], {}, context) == ("run-1", "<crm/key>")
    assert await crm.call("unknown_hints", [7], {}, context) == (7, "<crm/token>")
    with pytest.raises(CallError, match=r"in_a_thread\(id: str, limit: int = 3\): got an unexp"):
        await crm.call("in_a_thread", ["1"], {"token": "mine"}, context)
    assert await failure(crm, "on_the_loop") == ("LookupError", "there is no secret 'crm/key'")
    assert in_a_thread("1", "for a test") == ("1", "for a test", 3)


async def test_what_is_logged_of_an_error_names_its_secrets(
    crm: LocalService, caplog: pytest.LogCaptureFixture
) -> None:
    @crm.method()
    def fail(token: Annotated[str, Secret("crm/token")]) -> None:
        raise ValueError(f"not accepted: {token}")

    caplog.set_level("INFO")
    with pytest.raises(CallError):
        await crm.call("fail", [], {}, evolve(CONTEXT, secrets=Given()))
    assert "ValueError: not accepted: (hidden)" in caplog.text
    assert "<crm/token>" not in caplog.text


async def test_wrong_arguments(crm: LocalService) -> None:
    @crm.method("users.find")
    def find(email: str, limit: int = 10) -> None:
        raise AssertionError("not to be called")

    for args, kwargs, says in (
        ([], {}, "missing a required argument: 'email'"),
        (["a", 1, 2], {}, "too many positional arguments"),
        (["a"], {"mail": "a"}, "got an unexpected keyword argument 'mail'"),
        (["a"], {"email": "a"}, "multiple values for argument 'email'"),
    ):
        kind, message = await failure(crm, "users.find", *args, **kwargs)
        assert kind == "TypeError"
        assert message == f"crm.users.find(email: str, limit: int = 10): {says}"


async def test_errors(crm: LocalService) -> None:
    def fail(error: BaseException) -> None:
        raise error

    async def fail_async(error: BaseException) -> None:
        raise error

    crm.add(fail, "fail")
    crm.add(fail_async, "fail_async")
    for method in ("fail", "fail_async"):
        assert await failure(crm, method, ValueError("no such customer")) == (
            "RuntimeError",
            "ValueError: no such customer",
        )
        assert await failure(crm, method, KeyError("x")) == ("RuntimeError", "KeyError: 'x'")
        assert await failure(crm, method, RuntimeError()) == ("RuntimeError", "RuntimeError")
        assert await failure(crm, method, SystemExit(3)) == ("RuntimeError", "SystemExit: 3")
        assert (await failure(crm, method, StopIteration(1)))[0] == "RuntimeError"
        assert await failure(crm, method, CallError("LookupError", "gone")) == (
            "LookupError",
            "gone",
        )
        with pytest.raises(TryAgain) as advice:
            await call(crm, method, TryAgain(Outcome(value=1), retry_after=5))
        assert (advice.value.retry_after, advice.value.outcome.value) == (5, 1)


async def test_arguments_are_as_their_annotations_say(crm: LocalService) -> None:
    @crm.method("messages.list")
    def list_messages(user: str, limit: int = 10, *, token: Annotated[str, Secret("t")]) -> Any:
        return user, limit, token

    @crm.method()
    async def ratio(value: float) -> float:
        return value

    assert await failure(crm, "messages.list", 5) == (
        "TypeError",
        "crm.messages.list(user: str, limit: int = 10): user: expected `str`, got `int`",
    )
    assert repr(await call(crm, "ratio", 1)) == "1.0"
    with pytest.raises(CallError) as error:
        await call(crm, "ratio", "1")
    assert error.value.failure.code == "invalid_call"


async def test_an_attempt_that_takes_too_long_is_given_up(crm: LocalService) -> None:
    release = threading.Event()

    @crm.method(timeout=0.05)
    async def wait() -> None:
        await asyncio.sleep(60)

    @crm.method("users.block", timeout=0.05)
    def block() -> None:
        release.wait(60)

    assert await failure(crm, "wait") == ("TimeoutError", "crm.wait: no answer within 0.05 s")
    assert (await failure(crm, "users.block"))[0] == "TimeoutError"
    release.set()


@pytest.mark.parametrize("error", [ConnectionResetError("gone"), TimeoutError("slow")])
async def test_who_may_be_asked_again(crm: LocalService, error: Exception) -> None:
    def fail() -> None:
        raise error

    async def fail_async() -> None:
        raise error

    told = f"{type(error).__name__}: {error}"
    for function in (fail, fail_async):
        name = function.__name__
        crm.add(function, name)
        assert await failure(crm, name) == ("RuntimeError", told)
        for retry in ("safe", "idempotent"):
            crm.add(function, f"{name}.{retry}", retry=retry)
            with pytest.raises(TryAgain) as advice:
                await call(crm, f"{name}.{retry}")
            assert advice.value.outcome.error is not None
            assert str(advice.value.outcome.error) == f"RuntimeError: {told}"
    crm.add(lambda: 1 / 0, "wrong", retry="safe")
    assert await failure(crm, "wrong") == ("RuntimeError", "ZeroDivisionError: division by zero")


async def test_a_safe_call_that_took_too_long_may_be_made_again(crm: LocalService) -> None:
    @crm.method(timeout=0.01, retry="safe")
    async def wait() -> None:
        await asyncio.sleep(60)

    with pytest.raises(TryAgain) as advice:
        await call(crm, "wait")
    assert str(advice.value.outcome.error) == "TimeoutError: crm.wait: no answer within 0.01 s"


async def test_records_are_given_and_taken(crm: LocalService) -> None:
    class Customer(msgspec.Struct):
        name: str

    @crm.method()
    def rename(customer: Customer, name: str) -> Customer:
        customer.name = name
        return customer

    rename.__annotations__ |= {"customer": Customer, "return": Customer}
    crm.add(rename, "rename_typed")
    assert await call(crm, "rename_typed", {"name": "Ada"}, "Grace") == {"name": "Grace"}


async def test_cancelling_an_async_method(crm: LocalService) -> None:
    @crm.method()
    async def wait() -> None:
        await asyncio.sleep(10)

    task = asyncio.create_task(call(crm, "wait"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_method_that_is_not_there(crm: LocalService) -> None:
    crm.add(len, "users.list")
    assert await failure(crm, "users.lst") == (
        "RuntimeError",
        (
            "the service 'crm' has no method 'users.lst'; "
            "did you mean 'users.list'? It has: users.list"
        ),
    )


def test_names(crm: LocalService) -> None:
    from sequential.errors import InvalidNameError

    for name in ("", "a-b", "a.b", "../x", "class", "1a"):
        with pytest.raises(InvalidNameError):
            LocalService(name)
    for name in (" ", "a..b", ".a", "a-b", "a.1"):
        with pytest.raises(ValueError, match="cannot name a method"):
            crm.add(len, name)
    crm.add(len, "a.b")
    with pytest.raises(ValueError, match="two methods"):
        crm.add(max, "a.b")
