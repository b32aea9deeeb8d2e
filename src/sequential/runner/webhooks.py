"""Webhooks of a store: set them, list them, and do what a delivery asks for.

They come from two places, as schedules do: `config.json` of a task, and documents, which are set by
a person or a program and take the place of one of the same name. The id of a delivery makes the id
of the run it starts, or of the answer it gives, so it counts once however often it comes.
"""

import contextlib
import difflib
import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from sequential.core import ids, times
from sequential.core.model import Allow, TaskFunction, TaskRun, evolve
from sequential.core.names import check_task_name, check_webhook_name
from sequential.core.webhook import (
    Delivery,
    Webhook,
    answered_run,
    delivery_id,
    greeting,
    is_believed,
    webhook_input,
    webhook_problems,
)
from sequential.errors import (
    ConfigError,
    InvalidInputError,
    InvalidNameError,
    RunExistsError,
    RunNotFoundError,
    SecretNotFoundError,
    TaskNotFoundError,
    WebhookNotFoundError,
    WebhookRefusedError,
)
from sequential.runner.approvals import given_answer
from sequential.storage.base import StorageAdapter

if TYPE_CHECKING:
    from sequential.runner.engine import Engine

COLLECTION = "webhooks"
CONFIG, API = "config.json", "api"  # where a webhook comes from


class Registered(msgspec.Struct, frozen=True):
    """A webhook of a task. `origin` is `config.json`, or `api` if it was set; `path` its address.

    `problem` says why deliveries cannot be taken at the moment.
    """

    task: str
    webhook: Webhook
    origin: str
    path: str
    problem: str | None = None


class Received(msgspec.Struct, frozen=True):
    """What a delivery has done: the run it started or answered, and whether it came before.

    `greeting` is what to say to one that only asked whether somebody is there.
    """

    run: TaskRun | None = None
    duplicate: bool = False
    greeting: Mapping[str, Any] | None = None


class Webhooks:
    """The webhooks of an engine's store."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._storage = engine.storage

    async def list(self, task: str | None = None) -> "list[Registered]":
        """All webhooks, or those of a task, by task and name; raises `TaskNotFoundError`."""
        if task is None:
            functions = await self._storage.list_task_functions()
        else:
            functions = [await self._engine.get_task(task)]
        known = {function.identifier: function for function in functions}
        found = {
            _key(name, webhook.name): (name, webhook, CONFIG)
            for name, function in known.items()
            for webhook in function.config.webhooks
        }
        for document in await self._storage.list_documents(COLLECTION):
            of_task = document.key.partition("/")[0]
            if of_task in known:
                found[document.key] = (of_task, _webhook(document.value), API)
        secrets = set(await self._engine.keys.list())
        return [_registered(*one, secrets) for _, one in sorted(found.items())]

    async def get(self, task: str, name: str) -> Registered:
        """One webhook; raises `WebhookNotFoundError` with the nearest name there is."""
        check_webhook_name(name)
        listed = await self.list(task)
        for one in listed:
            if one.webhook.name == name:
                return one
        known = [one.webhook.name for one in listed]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known) or 'none'}"
        raise WebhookNotFoundError(f"the task {task} has no webhook {name}: {hint}")

    async def set(self, task: str, webhook: Webhook) -> Registered:
        """Keep a webhook, in place of another of its name, also of one in config.json.

        Raises `TaskNotFoundError`, `InvalidNameError`, and `InvalidInputError` that lists what is
        wrong with it; then nothing was written. Its secret may be set later.
        """
        check_webhook_name(webhook.name)
        function = await self._engine.get_task(task)
        if problems := [*webhook_problems(webhook), *_unfitting(function, webhook)]:
            raise InvalidInputError(f"the webhook {webhook.name}: {'; '.join(problems)}")
        tree = msgspec.to_builtins(webhook)
        await self._storage.put_document(COLLECTION, _key(task, webhook.name), tree)
        return _registered(task, webhook, API, set(await self._engine.keys.list()))

    async def delete(self, task: str, name: str) -> None:
        """Remove a webhook that was set; one of its name in config.json counts again.

        Raises `WebhookNotFoundError`, also for one that is in config.json only.
        """
        if (await self.get(task, name)).origin == CONFIG:
            raise WebhookNotFoundError(
                f"the webhook {name} is in config.json of {task}: remove it there"
            )
        await self._storage.delete_document(COLLECTION, _key(task, name))

    # --- deliveries ------------------------------------------------------------------------------

    async def receive(
        self,
        task: str,
        name: str,
        headers: Mapping[str, str],
        body: bytes,
        read: Callable[[], Any],
    ) -> Received:
        """Do what a delivery asks for, if it is signed; `read` gives what the body says.

        The names of headers are in small letters. Raises `WebhookNotFoundError`, alike for a task
        and a webhook that are not there, `WebhookRefusedError`, `ConfigError` when its secret is
        not set, what `read` raises, and what starting or answering a run raises.
        """
        found = await self._found(task, name)
        delivery = Delivery(headers, body)
        if found is None:
            raise WebhookNotFoundError("there is no such webhook")
        function, webhook = found
        if problems := webhook_problems(webhook):  # a file may say anything
            raise ConfigError(f"the webhook {name} of {task}: {'; '.join(problems)}")
        await self._check_signature(function.config.allow, webhook, delivery)
        delivery = delivery._replace(payload=read())
        if (reply := greeting(webhook, delivery)) is not None:
            return Received(greeting=reply)
        said = delivery_id(webhook, delivery)
        own_id = None if said is None else f"webhook:{task}/{name}:{said}"
        if webhook.answer is None:
            return await self._start(function, webhook, delivery, own_id)
        return await self._answer(function, webhook, delivery, own_id)

    async def _found(self, task: str, name: str) -> tuple[TaskFunction, Webhook] | None:
        """A task and its webhook as they are now."""
        try:
            check_task_name(task)
            check_webhook_name(name)
            function = await self._storage.get_task_function(task)
        except (InvalidNameError, TaskNotFoundError):
            return None
        document = await self._storage.get_document(COLLECTION, _key(task, name))
        if function is None:
            return None
        if document is not None:
            return function, _webhook(document.value)
        for webhook in function.config.webhooks:
            if webhook.name == name:
                return function, webhook
        return None

    async def _check_signature(self, allow: Allow, webhook: Webhook, delivery: Delivery) -> None:
        """Its code does not get the secret, so only what an operator permits matters."""
        bounds = evolve(allow, secrets=None)
        secrets: list[str] = []
        for name in (webhook.secret, webhook.previous_secret):
            if name and bounds.permits_secret(name):
                with contextlib.suppress(SecretNotFoundError):
                    secrets.append(await self._engine.keys.get(name))
        if not secrets:
            raise ConfigError(
                f"the webhook {webhook.name} has no secret it may use: "
                f"`sequential-ecosystem keys set {webhook.secret}`"
            )
        seconds = times.from_text(self._engine.now()).timestamp()
        if not is_believed(webhook, delivery, secrets, seconds):
            raise WebhookRefusedError("this was not signed as it has to be")

    async def _start(
        self, function: TaskFunction, webhook: Webhook, delivery: Delivery, own_id: str | None
    ) -> Received:
        """A new run, or the one that this delivery started before."""
        fields = [field.name for field in function.config.inputs]
        given = webhook_input(webhook, delivery, fields)
        run_id = None if own_id is None else ids.named_run_id(own_id)
        try:
            run = await self._engine.create_run(function.identifier, given, id=run_id)
        except RunExistsError:
            return Received(await self._engine.get_run(run_id or ""), duplicate=True)
        return Received(run)

    async def _answer(
        self, function: TaskFunction, webhook: Webhook, delivery: Delivery, own_id: str | None
    ) -> Received:
        """The run that was answered, which has to be one of this task."""
        assert webhook.answer is not None
        asked = answered_run(webhook.answer, delivery)
        run = (await self._engine.get(asked)).record
        if run.task_identifier != function.identifier:
            raise RunNotFoundError(f"there is no run {asked} of {function.identifier}")
        digest = None
        if own_id is not None:
            digest = "webhook-" + hashlib.sha256(own_id.encode("utf-8", "replace")).hexdigest()[:40]
            if await given_answer(self._storage, run, digest) is not None:
                return Received(run, duplicate=True)
        event = webhook.answer.event
        return Received(await self._engine.answer(run.id, event, delivery.payload, id=digest))


async def forget_webhooks(storage: StorageAdapter, task: str) -> None:
    """Remove the webhooks that were set for a task, which is deleted."""
    beginning = _key(task, "")
    for document in await storage.list_documents(COLLECTION, after=beginning):
        if not document.key.startswith(beginning):
            break
        await storage.delete_document(COLLECTION, document.key)


def _unfitting(function: TaskFunction, webhook: Webhook) -> list[str]:
    """Fields that the task does not have."""
    known = [field.name for field in function.config.inputs]
    missing = [name for name in webhook.start or {} if known and name not in known]
    return [f"{function.identifier} has no input {name}: {', '.join(known)}" for name in missing]


def _registered(task: str, webhook: Webhook, origin: str, secrets: set[str]) -> Registered:
    problems = webhook_problems(webhook)
    if not problems and webhook.secret not in secrets:
        problems = [f"its secret is not set: `sequential-ecosystem keys set {webhook.secret}`"]
    path = f"/webhooks/{task}/{webhook.name}"
    return Registered(task, webhook, origin, path, "; ".join(problems) or None)


def _key(task: str, name: str) -> str:
    return f"{task}/{name}"


def _webhook(tree: dict[str, Any]) -> Webhook:
    """A webhook from its document; fields that a later version has added are passed over."""
    known = {name: tree[name] for name in Webhook.__struct_fields__ if name in tree}
    return msgspec.convert(known, Webhook)
