"""The page of approval links, from functions: the task and the page are those of a server."""

from typing import Any
from urllib.parse import urlencode

from edge.conftest import URL, Cloud, get, post
from sequential.core.model import TaskConfig
from sequential.edge import Edge, Request, Response

TASK = """
async def ask():
    url = await services.links.create("word", title="Refund <7>?", to="Ada")
    print(url)
    schema = {"properties": {"amount": {"type": "number", "maximum": 9}}, "required": ["amount"]}
    return await wait_for_event("word", schema=schema)
"""


async def asked(cloud: Cloud, edge: Edge) -> tuple[str, str]:
    """The id of a run that has asked, and the link that it has made."""
    async with cloud.engine() as engine:
        await engine.store_task("ask", TASK, TaskConfig("ask"))
    run_id = str((await edge.handle(post("/tasks/ask"))).json["id"])
    async with cloud.engine() as engine:
        (line,) = await engine.get_log(run_id)
    return run_id, line.text.strip()


def looked(url: str) -> Request:
    there = get(url)
    return Request("GET", there.path, {"accept": "text/html"}, there.query)


def sent(url: str, **fields: str) -> Request:
    """What a browser sends when a button is pressed."""
    there = post(url)
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": "text/html"}
    return Request("POST", there.path, headers, there.query, urlencode(fields).encode())


def text(response: Response) -> str:
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
    return response.body.decode()


async def test_a_page_asks_and_answers_once(cloud: Cloud) -> None:
    async with cloud.invoked() as edge:
        run_id, url = await asked(cloud, edge)
        assert url.startswith(f"{URL}/approve/{run_id}/word?token=")
        page = await edge.handle(looked(url))
        assert (page.status, "Refund &lt;7&gt;?" in text(page)) == (200, True)
        assert 'name="field.amount" required' in text(page)
        wrong = await edge.handle(sent(url, answer="approve", **{"field.amount": "10"}))
        assert (wrong.status, "at most 9" in text(wrong)) == (400, True)
        none = await edge.handle(sent(url, answer="maybe"))
        assert none.status == 400

        right = await edge.handle(sent(url, answer="approve", **{"field.amount": "5"}))
        assert (right.status, "Thank you" in text(right)) == (200, True)
        again = await edge.handle(sent(url, answer="reject"))
        assert (again.status, "answered already" in text(again)) == (409, True)
        assert (await edge.handle(looked(url))).status == 410
        await cloud.deliver(edge)
    assert (await cloud.run(run_id)).value == {"amount": 5, "by": "Ada", "approved": True}


async def test_programs_answer_with_json(cloud: Cloud) -> None:
    async with cloud.invoked() as edge:
        run_id, url = await asked(cloud, edge)
        there = post(url)

        async def say(body: bytes, token: str = "") -> Response:
            query = {"token": token} if token else there.query
            headers = {"content-type": "application/json"}
            return await edge.handle(Request("POST", there.path, headers, query, body))

        codes: list[Any] = [
            (await say(body)).json["code"] for body in (b"{", b"{}", b'{"approved": true}')
        ]
        assert codes == ["invalid_request", "invalid_request", "invalid_input"]
        assert (await say(b'{"approved": false}', "x")).json["code"] == "invalid_link"
        right = await say(b'{"approved": false}')
        assert (right.status, right.json["id"]) == (200, run_id)
        again = await say(b'{"approved": true, "amount": 1}')
        assert (again.status, again.json["code"]) == (409, "already_answered")


async def test_other_links_are_none_for_this_page(cloud: Cloud) -> None:
    async with cloud.invoked() as edge:
        _, url = await asked(cloud, edge)
        broken = await edge.handle(looked(url + "x"))
        assert (broken.status, "not valid" in text(broken)) == (403, True)
        other = await edge.handle(looked(url.replace("/approve/", "/answer/")))
        assert other.status == 403
