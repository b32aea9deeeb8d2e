"""Links for people outside: what they permit, and nothing else."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from edge.conftest import URL, Cloud, code_of, get, post
from sequential.core.model import TaskConfig
from sequential.edge import Edge, Request
from sequential.errors import ConfigError, InvalidInputError, InvalidNameError
from sequential.runner.links import Links

RUN = "019cab0e-97eb-7000-8000-000000000001"
OTHER = "019cab0e-97eb-7000-8000-000000000002"


async def waiting(edge: Edge) -> str:
    """The id of a run that waits for "word", twice."""
    run = (await edge.handle(post("/tasks/approval"))).json
    assert run["status"] == "suspended"
    return str(run["id"])


def outside(url: str, body: bytes = b"", **headers: str) -> Request:
    """The POST of somebody who has nothing but a link."""
    asked = post(url)
    return Request("POST", asked.path, headers, asked.query, body)


async def test_a_link_answers_a_run(cloud: Cloud) -> None:
    async with cloud.invoked() as edge:
        run_id = await waiting(edge)
        link = edge.link(run_id, "word")
        assert link.startswith(f"{URL}/answer/{run_id}/word?token=")
        response = await edge.handle(outside(link, b'{"by": "Ada"}'))
        assert (response.status, response.json["id"]) == (202, run_id)
        assert cloud.fired == [run_id]
        await cloud.deliver(edge)
        second = edge.link(run_id, "word", data=[1, {"two": None}])
        await edge.handle(outside(second, b"ignored"))
        await cloud.deliver(edge)
    assert (await cloud.run(run_id)).value == [{"by": "Ada"}, [1, {"two": None}]]


async def test_a_link_that_is_used_again_counts_once(cloud: Cloud) -> None:
    async with cloud.invoked() as edge:
        run_id = await waiting(edge)
        link = edge.link(run_id, "word")
        for body in (b"1", b"1", b"2"):
            assert (await edge.handle(outside(link, body))).status == 202
            await cloud.deliver(edge)
        run = await cloud.run(run_id)
        assert (run.answers, run.status, run.events) == (1, "suspended", ())
        await edge.handle(outside(edge.link(run_id, "word"), b"3"))
        await cloud.deliver(edge)
        # It is over, and a late delivery of what has counted is still no error.
        assert (await edge.handle(outside(link, b"1"))).status == 202
        late = await edge.handle(outside(edge.link(run_id, "word")))
        assert code_of(late) == (409, "invalid_transition")
    assert (await cloud.run(run_id)).value == [1, 3]


async def test_of_many_deliveries_at_once_one_counts(cloud: Cloud) -> None:
    async with cloud.invoked(fire=None, base_url="") as one, cloud.invoked() as two:
        run_id = await waiting(two)
        two_url = two.link(run_id, "word", data="x")
        deliveries = [e.handle(outside(two_url)) for e in (one, two) for _ in range(10)]
        statuses = {response.status for response in await asyncio.gather(*deliveries)}
        assert statuses == {202}
        await cloud.deliver(two)
    run = await cloud.run(run_id)
    assert (run.answers, run.status, run.events) == (1, "suspended", ())


async def test_yes_and_no_are_one_answer(cloud: Cloud) -> None:
    async with cloud.invoked() as edge:
        run_id = await waiting(edge)
        links = [edge.link(run_id, "word", data=word, key="1") for word in ("yes", "no")]
        for link in reversed(links):
            assert (await edge.handle(outside(link))).status == 202
        await cloud.deliver(edge)
        run = await cloud.run(run_id)
        assert (run.answers, run.status) == (1, "suspended")
        calls = await cloud.calls(run_id)
        assert calls[0].result == "no"


async def test_a_form_is_an_answer(cloud: Cloud) -> None:
    async with cloud.invoked() as edge:
        run_id = await waiting(edge)
        kind = {"content-type": "application/x-www-form-urlencoded"}
        for body in (b"name=Ada+L.&note=", b""):
            request = outside(edge.link(run_id, "word"), body, **kind)
            assert (await edge.handle(request)).status == 202
            await cloud.deliver(edge)
    assert (await cloud.run(run_id)).value == [{"name": "Ada L.", "note": ""}, None]


async def test_looking_at_a_link_is_no_answer(cloud: Cloud) -> None:
    async with cloud.invoked() as edge:
        run_id = await waiting(edge)
        link = edge.link(run_id, "<b>word")
        page = await edge.handle(get(link))
        assert page.status == 200
        assert b"&lt;b&gt;word" in page.body
        assert b"<b>" not in page.body
        assert b'<form method="post">' in page.body
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert (await cloud.run(run_id)).answers == 0
        thanks = await edge.handle(outside(link, accept="text/html,*/*"))
        assert b"Thank you" in thanks.body
        assert (await cloud.run(run_id)).answers == 1


async def test_a_task_makes_links_to_itself(cloud: Cloud) -> None:
    code = (
        "async def ask():\n"
        "    yes = await services.edge.link('go', data=True, key='q')\n"
        "    print(yes)\n"
        "    return await wait_for_event('go')\n"
    )
    async with cloud.engine() as engine:
        await engine.store_task("ask", code, TaskConfig(name="ask"))
    async with cloud.invoked() as edge:
        run_id = (await edge.handle(post("/tasks/ask"))).json["id"]
        async with cloud.engine() as engine:
            [line] = await engine.get_log(run_id)
        await edge.handle(outside(line.text.strip()))
        await cloud.deliver(edge)
    assert (await cloud.run(run_id)).value is True


async def test_a_task_that_asks_for_a_wrong_link_is_told(cloud: Cloud) -> None:
    code = "async def ask():\n    return await services.edge.link(name='go')\n"
    async with cloud.engine() as engine:
        await engine.store_task("ask", code, TaskConfig(name="ask"))
    async with cloud.invoked() as edge:
        run = (await edge.handle(post("/tasks/ask"))).json
    assert (run["status"], run["error"]["type"]) == ("failed", "TypeError")


async def test_a_link_expires(cloud: Cloud) -> None:
    async with cloud.invoked() as edge:
        run_id = await waiting(edge)
        link = edge.link(run_id, "word", lifetime=-1)
        for method in (post(link), get(link)):
            assert code_of(await edge.handle(method)) == (410, "link_expired")
        assert (await cloud.run(run_id)).answers == 0


async def test_a_link_fits_nothing_else(cloud: Cloud) -> None:
    async with cloud.invoked() as edge:
        mine, theirs = await waiting(edge), await waiting(edge)
        token = urlsplit(edge.link(mine, "word")).query
        resume = Links(b"nobody knows").resume(mine).partition("?")[2]
        foreign = Links(b"another secret").answer(mine, "word", 60, None, ()).partition("?")[2]
        for wrong in (
            f"/answer/{theirs}/word?{token}",
            f"/answer/{mine}/other?{token}",
            f"/resume/{mine}?{token}",
            f"/answer/{mine}/word?{resume}",
            f"/resume/{theirs}?{resume}",
            f"/answer/{mine}/word?{foreign}",
            f"/answer/{mine}/word",
            f"/answer/{mine}/word?token=",
            f"/answer/{mine}/word?token=.",
        ):
            assert code_of(await edge.handle(post(wrong))) == (403, "invalid_link")
        assert [(await cloud.run(run)).answers for run in (mine, theirs)] == [0, 0]
        assert (await edge.handle(post(f"/resume/{mine}?{resume}"))).status == 202


async def test_a_link_of_a_run_that_was_deleted(cloud: Cloud) -> None:
    async with cloud.invoked() as edge:
        response = await edge.handle(post(edge.link(RUN, "word")))
        assert code_of(response) == (404, "run_not_found")


async def test_an_answer_that_cannot_be_read_is_none(cloud: Cloud) -> None:
    async with cloud.invoked(largest_body=2 << 20) as edge:
        run_id = await waiting(edge)
        link = edge.link(run_id, "word")
        form = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
        for request in (
            outside(link, b"{"),
            outside(link, b"\xff", **form),
            outside(link, b"&".join(b"a=1" for _ in range(1000)), **form),
            outside(link, b'"' + b"x" * (1 << 20) + b'"'),
        ):
            assert code_of(await edge.handle(request)) == (400, "invalid_input")
        assert (await cloud.run(run_id)).answers == 0


def test_a_link_needs_to_know_where_the_function_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEQUENTIAL_PUBLIC_URL", raising=False)
    edge = Edge("memory:", secret="s")
    with pytest.raises(ConfigError, match="SEQUENTIAL_PUBLIC_URL"):
        edge.link(RUN, "word")
    monkeypatch.setenv("SEQUENTIAL_PUBLIC_URL", "https://here.example/")
    edge = Edge("memory:", secret="s")
    assert edge.link(RUN, "word").startswith("https://here.example/answer/")


def test_what_cannot_be_a_link() -> None:
    edge = Edge("memory:", secret="s", base_url=URL)
    with pytest.raises(InvalidInputError, match="put it elsewhere"):
        edge.link(RUN, "word", data="x" * 10_000)
    with pytest.raises(InvalidNameError):
        edge.link("../x", "word")
    with pytest.raises(InvalidNameError):
        edge.link(RUN, "two\nlines")


def test_a_link_needs_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEQUENTIAL_SECRET", raising=False)
    (tmp_path / ".sequential").write_text("in the way of the key file's folder")
    edge = Edge("memory:", project=tmp_path, base_url=URL)
    with pytest.raises(ConfigError, match="SEQUENTIAL_SECRET"):
        edge.link(RUN, "word")
