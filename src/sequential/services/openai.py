"""The service "openai": OpenAI's API, and those that are like it, by OpenAI's own client.

    answer = await services.openai.chat.completions.create(model="gpt-5", messages=[...])
    answer["choices"][0]["message"]["content"]

Arguments and answers are those of the API. The engine does the retries, durably, so the client
makes each attempt once and sends the call's `Idempotency-Key`.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from sequential.services.base import CallContext, CallError, Secrets, TryAgain
from sequential.services.local import LocalService
from sequential.services.outgoing import (
    address_if_any,
    nonsense,
    refused,
    shortened,
    too_slow,
    unreachable,
)

if TYPE_CHECKING:
    from openai import AsyncOpenAI

KEY, BASE_URL = "OPENAI_API_KEY", "OPENAI_BASE_URL"
TIMEOUT = 300.0  # seconds for an answer, the whole of a stream included
CLIENTS = 8  # kept at a time: one for each key and address in use
# What would reach past the API, or put a secret into the journal.
_NOT_FOR_TASKS = ("extra_headers", "extra_query")

Object: TypeAlias = dict[str, Any]
Ask: TypeAlias = "Callable[[AsyncOpenAI, Object], Awaitable[Any]]"


class OpenAIService(LocalService):
    """OpenAI's API. `base_url` is that of a server like it, `timeout` in seconds."""

    def __init__(self, base_url: str | None = None, timeout: float = TIMEOUT) -> None:
        super().__init__("openai", _DESCRIPTION)
        self._base_url = base_url
        self._timeout = timeout
        self._clients: dict[tuple[str, str | None], AsyncOpenAI] = {}
        self.add(self._chat, "chat.completions.create", retry="idempotent")
        self.add(self._respond, "responses.create", retry="idempotent")
        self.add(self._embed, "embeddings.create", retry="safe")
        self.add(self._generate, "images.generate", retry="idempotent")
        self.add(self._create_file, "files.create", retry="idempotent")
        self.add(self._list_files, "files.list", retry="safe")
        self.add(self._retrieve_file, "files.retrieve", retry="safe")
        self.add(self._delete_file, "files.delete", retry="idempotent")
        self.add(self._content, "files.content", retry="safe")
        self.add(self._list_models, "models.list", retry="safe")
        self.add(self._retrieve_model, "models.retrieve", retry="safe")

    async def close(self) -> None:
        """Give back the connections."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.close()
        await super().close()

    async def _chat(
        self,
        context: CallContext,
        model: str,
        messages: list[dict[str, Any]],
        stream: bool = False,
        **more: Any,
    ) -> dict[str, Any]:
        """A completion. With `stream` it comes in pieces and is returned as a whole, too."""
        given = {"model": model, "messages": messages, **more}
        if stream:
            given = {"stream_options": {"include_usage": True}, **given}
            return await self._asked("chat.completions.create", context, given, _streamed_chat)
        return await self._asked(
            "chat.completions.create", context, given, lambda c, p: c.chat.completions.create(**p)
        )

    async def _respond(
        self, context: CallContext, model: str, input: Any, stream: bool = False, **more: Any
    ) -> dict[str, Any]:
        """A response. With `stream` it comes in pieces and is returned as a whole, too."""
        given = {"model": model, "input": input, **more}
        if stream:
            return await self._asked("responses.create", context, given, _streamed_response)
        return await self._asked(
            "responses.create", context, given, lambda c, p: c.responses.create(**p)
        )

    async def _embed(
        self, context: CallContext, model: str, input: Any, **more: Any
    ) -> dict[str, Any]:
        """The embeddings of texts, as lists of numbers unless `encoding_format` says otherwise."""
        given = {"model": model, "input": input, "encoding_format": "float", **more}
        return await self._asked(
            "embeddings.create", context, given, lambda c, p: c.embeddings.create(**p)
        )

    async def _generate(self, context: CallContext, prompt: str, **more: Any) -> dict[str, Any]:
        """Images made from a description, as `b64_json` or `url`."""
        if more.get("stream"):
            raise _wrong("images.generate", "a stream of images cannot be one answer")
        given = {"prompt": prompt, **more}
        return await self._asked(
            "images.generate", context, given, lambda c, p: c.images.generate(**p)
        )

    async def _create_file(
        self, context: CallContext, file: bytes, purpose: str, filename: str = "file", **more: Any
    ) -> dict[str, Any]:
        """Upload a file, given in bytes."""
        given = {"file": (filename, file), "purpose": purpose, **more}
        return await self._asked("files.create", context, given, lambda c, p: c.files.create(**p))

    async def _list_files(self, context: CallContext, **more: Any) -> dict[str, Any]:
        """A page of the files; `limit` and `after` choose it, `has_more` says if others follow."""
        return await self._asked("files.list", context, more, _page(lambda c, p: c.files.list(**p)))

    async def _retrieve_file(self, context: CallContext, file_id: str) -> dict[str, Any]:
        """What is known of a file."""
        return await self._asked(
            "files.retrieve", context, {"file_id": file_id}, lambda c, p: c.files.retrieve(**p)
        )

    async def _delete_file(self, context: CallContext, file_id: str) -> dict[str, Any]:
        """Delete a file."""
        return await self._asked(
            "files.delete", context, {"file_id": file_id}, lambda c, p: c.files.delete(**p)
        )

    async def _content(self, context: CallContext, file_id: str) -> bytes:
        """The content of a file."""
        answer = await self._answer(
            "files.content", context, {"file_id": file_id}, lambda c, p: c.files.content(**p)
        )
        return bytes(answer.content)

    async def _list_models(self, context: CallContext) -> dict[str, Any]:
        """The models there are."""
        return await self._asked("models.list", context, {}, _page(lambda c, p: c.models.list(**p)))

    async def _retrieve_model(self, context: CallContext, model: str) -> dict[str, Any]:
        """What is known of a model."""
        return await self._asked(
            "models.retrieve", context, {"model": model}, lambda c, p: c.models.retrieve(**p)
        )

    async def _asked(
        self, method: str, context: CallContext, given: Mapping[str, Any], ask: Ask
    ) -> dict[str, Any]:
        """An answer as the object that the API sent."""
        from openai import BaseModel  # noqa: PLC0415

        answer = await self._answer(method, context, given, ask)
        if isinstance(answer, dict):
            return answer
        if not isinstance(answer, BaseModel):
            raise nonsense(f"openai.{method}", "the answer is not what the API answers")
        return answer.to_dict(mode="json")

    async def _answer(
        self, method: str, context: CallContext, given: Mapping[str, Any], ask: Ask
    ) -> Any:
        operation, params = f"openai.{method}", dict(given)
        for name in _NOT_FOR_TASKS:
            if name in params:
                raise _wrong(method, f"{name} is not for tasks; extra_body is")
        timeout = _seconds(method, params.pop("timeout", self._timeout))
        client = await self._client(context.secrets)
        params["timeout"] = timeout
        params["extra_headers"] = {"Idempotency-Key": context.idempotency_key}
        try:
            async with asyncio.timeout(timeout):
                return await ask(client, params)
        except (CallError, TryAgain):
            raise
        except TimeoutError:
            raise too_slow(operation, timeout, again=True) from None
        except Exception as error:
            raise _failed(method, timeout, error) from error

    async def _client(self, secrets: Secrets) -> "AsyncOpenAI":
        from openai import AsyncOpenAI  # noqa: PLC0415 - it takes a second to import

        key = (await secrets.get(KEY)).strip()
        base_url = self._base_url or os.environ.get(BASE_URL) or None
        if base_url is None:
            base_url = await address_if_any(secrets, BASE_URL)
        client = self._clients.pop((key, base_url), None)
        if client is None:
            client = AsyncOpenAI(api_key=key, base_url=base_url, max_retries=0)
        self._clients[key, base_url] = client  # the one used last is at the end
        while len(self._clients) > CLIENTS:
            oldest = next(iter(self._clients))
            await self._clients.pop(oldest).close()
        return client


def service(base_url: str | None = None, timeout: float = TIMEOUT) -> OpenAIService:
    """The service. Without `base_url` it is that of the environment or keystore, else OpenAI's."""
    return OpenAIService(base_url, timeout)


_DESCRIPTION = """\
OpenAI's API, and those that are like it.

Arguments and answers are those of the API. What the client does not know goes into
extra_body={...}; timeout= is in seconds."""


async def _streamed_chat(client: "AsyncOpenAI", params: Object) -> Object:
    from openai.lib.streaming.chat import ChatCompletionStreamState  # noqa: PLC0415

    state, is_empty = ChatCompletionStreamState(), True
    async with await client.chat.completions.create(stream=True, **params) as stream:
        async for chunk in stream:
            state.handle_chunk(chunk)
            is_empty = False
    whole: Object = {} if is_empty else state.current_completion_snapshot.to_dict(mode="json")
    choices = whole.get("choices", [])
    if not choices or any(choice.get("finish_reason") is None for choice in choices):
        raise unreachable("openai.chat.completions.create", "the stream broke off", again=True)
    for choice in choices:
        message = choice["message"]
        message.pop("parsed", None)
        for call in message.get("tool_calls") or ():
            call.pop("index", None)
            call.get("function", {}).pop("parsed_arguments", None)
    return {**whole, "object": "chat.completion"}


async def _streamed_response(client: "AsyncOpenAI", params: Object) -> Any:
    async with await client.responses.create(stream=True, **params) as stream:
        async for event in stream:
            if event.type in ("response.completed", "response.incomplete", "response.failed"):
                return event.response
    raise unreachable("openai.responses.create", "the stream broke off", again=True)


def _page(ask: Callable[["AsyncOpenAI", Object], Any]) -> Ask:
    """One page: what the client gives for a list asks for others by itself, if it is let."""

    async def first(client: "AsyncOpenAI", params: Object) -> Any:
        return await ask(client, params)

    return first


def _seconds(method: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise _wrong(method, "timeout must be a number of seconds above 0")
    return float(value)


def _failed(method: str, timeout: float, error: Exception) -> Exception:
    """What the task is told of an error of the client, and whether another attempt is made."""
    import openai  # noqa: PLC0415

    operation = f"openai.{method}"
    if isinstance(error, openai.APITimeoutError):
        return too_slow(operation, timeout, again=True)
    if isinstance(error, openai.APIStatusError):
        body = error.body if isinstance(error.body, dict) else {}
        code = str(body.get("code") or body.get("type") or "")
        told = str(body.get("message") or shortened(error.message))
        headers = list(error.response.headers.items())
        again = {"true": True, "false": False}.get(error.response.headers.get("x-should-retry", ""))
        if code == "insufficient_quota":  # it is 429, too, but waiting does not help
            again = False
        text = f"{code}: {told}" if code else told
        return refused(operation, error.status_code, text, headers, again=again, repeatable=True)
    if isinstance(error, openai.APIConnectionError) or _is_of_connection(error):
        cause = error.__cause__ or error
        told = f"{type(cause).__name__}: {cause}".removesuffix(": ")
        return unreachable(operation, f"the connection failed: {told}", again=True)
    if isinstance(error, openai.APIError):  # in the middle of a stream
        return CallError("RuntimeError", f"{operation}: {shortened(error.message)}")
    if isinstance(error, TypeError):
        words = str(error).partition("() ")[2] or str(error)
        hint = "; extra_body={...} passes on what the client does not know"
        return _wrong(method, words + (hint if "unexpected keyword" in words else ""))
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return nonsense(operation, "the answer is no JSON")
    if isinstance(error, ValueError):  # an id that is empty, or leads out of the API
        return CallError("ValueError", f"{operation}: {shortened(str(error))}", code="invalid_call")
    return CallError("RuntimeError", f"{operation}: {type(error).__name__}: {error}")


def _is_of_connection(error: Exception) -> bool:
    """Whether it is one of the client's HTTP library, of which there are two by version."""
    return type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2")


def _wrong(method: str, told: str) -> CallError:
    return CallError("TypeError", f"openai.{method}: {told}", code="invalid_call")
