"""The names that task code starts with.

`SOURCE` runs once inside the virtual machine, and every run starts from that state. It is written
in the machine's own subset of Python. Its parts live in a closure, and what they need of Python is
captured there, so a task that assigns to `Response`, `json` or `list` changes nothing for `fetch`.
A member of a class must not have the name of a captured variable there, hence `codec`.

`__fetch__` and `call_host_tool` are requests to the host. `__fetch_at__(line)` is `fetch` with the
line of the task's source it is called from; `program` puts it where the task says `fetch`.
"""

SOURCE = """
ConnectionError = OSError
def _build():
    import asyncio as loop
    import json as codec
    as_list, as_dict, as_text, as_iterator, type_of = list, dict, str, iter, type
    any_error, os_error, key_error = Exception, OSError, KeyError
    class Headers:
        def __init__(self, pairs):
            self._pairs = [(pair[0], pair[1]) for pair in pairs]
        def get(self, name, default=None):
            found = [value for key, value in self._pairs if key.lower() == name.lower()]
            return ", ".join(found) if found else default
        def get_all(self, name):
            return [value for key, value in self._pairs if key.lower() == name.lower()]
        def items(self):
            return as_list(self._pairs)
        def keys(self):
            return [key for key, value in self._pairs]
        def values(self):
            return [value for key, value in self._pairs]
        def __getitem__(self, name):
            found = self.get(name)
            if found is None:
                raise key_error(name)
            return found
        def __contains__(self, name):
            return self.get(name) is not None
        def __iter__(self):
            return as_iterator([key for key, value in self._pairs])
        def __repr__(self):
            return "Headers(%r)" % (self._pairs,)
    class Response:
        def __init__(self, answer):
            self.status = answer["status"]
            self.ok = 200 <= self.status < 300
            self.headers = Headers(answer["headers"])
            self.url = answer["url"]
            self._content = answer.get("content")
            self.text = answer.get("text")
            if self.text is None:
                self.text = self._content.decode("utf-8", "replace")
        def json(self):
            return codec.loads(self.text)
        def bytes(self):
            if self._content is None:
                return self.text.encode()
            return self._content
        def raise_for_status(self):
            if not self.ok:
                raise os_error("HTTP %d for %s" % (self.status, self.url))
            return self
        def __repr__(self):
            return "<Response [%d]>" % self.status
    absent = ("no value given",)
    def fetch_at(line):
        async def fetch(url, *, method="GET", headers=None, params=None, json=absent, data=None,
                        timeout=None, retries=None, follow_redirects=True):
            options = {"url": url, "method": method}
            if headers is not None:
                if type_of(headers) == Headers:
                    headers = [(name, headers.get(name)) for name in headers.keys()]
                options["headers"] = as_dict(headers)
            if params is not None:
                options["params"] = params
            if json is not absent:
                options["json"] = json
            if data is not None:
                options["data"] = data
            if timeout is not None:
                options["timeout"] = timeout
            if retries is not None:
                options["retries"] = retries
            if not follow_redirects:
                options["follow_redirects"] = False
            return Response(await __fetch__(options, line))
        return fetch
    async def settle(*awaitables):
        async def one(awaitable):
            try:
                return {"ok": True, "value": await awaitable}
            except any_error as error:
                return {"ok": False, "error": type_of(error).__name__, "message": as_text(error)}
        return await loop.gather(*[one(awaitable) for awaitable in awaitables])
    return Headers, Response, fetch_at, settle, loop.sleep, loop.gather
Headers, Response, __fetch_at__, settle, sleep, gather = _build()
fetch = __fetch_at__(0)
def _build():
    import random as chance
    from datetime import datetime, timezone
    type_of = type
    async def step(function, *args, retries=0, **kwargs):
        value = function(*args, **kwargs)
        if type_of(value).__name__ == "coroutine":
            return await value
        return value
    def now():
        return datetime.now(timezone.utc)
    def random():
        return chance.random()
    def uuid4():
        text, variant = "%032x" % chance.getrandbits(128), chance.choice("89ab")
        return "-".join([text[:8], text[8:12], "4" + text[13:16], variant + text[17:20], text[20:]])
    def task(function=None, **config):
        def mark(function):
            return function
        return mark if function is None else function
    return step, now, random, uuid4, task
__task_step__, __task_now__, __task_random__, __task_uuid4__, __task_task__ = _build()
"""

IMPORT_SERVICES = "import services\n"
