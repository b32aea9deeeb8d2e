"""The page of an approval link in a real browser, on a phone."""

from pathlib import Path
from typing import Any

import pytest

from sequential.runner.engine import Engine
from support.browser import browser
from support.live_server import serving

PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True}
SCHEMA = {
    "properties": {
        "amount": {"type": "number", "minimum": 1, "maximum": 100, "default": 42.5},
        "reason": {"enum": ["broken", "late"]},
        "until": {"type": "string", "format": "date"},
        "note": {"type": "string", "format": "textarea", "description": "The customer reads this."},
        "tell": {"type": "boolean", "title": "Tell the customer"},
    },
    "required": ["amount", "reason"],
}


@pytest.mark.timeout(400)  # apt-get may have to fetch a browser first
async def test_somebody_approves_on_a_phone(engine: Engine, tmp_path: Path) -> None:
    run = await engine.create_run("approval")
    async with serving(engine) as live, browser() as chromium:
        url = engine.approvals.link(
            run.id,
            "word",
            title="Refund order 7?",
            description="The customer waits.\n<script>document.title = 'taken'</script>",
            to="Ada",
            schema=SCHEMA,
            base_url=str(live.client.base_url),
        )
        page = await chromium.new_page(**PHONE)
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        await page.goto(url)
        assert await page.title() == "Refund order 7?"
        wide = await page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 360
        assert await page.evaluate("getComputedStyle(document.querySelector('main')).maxWidth") != (
            "none"
        )
        await page.screenshot(path=tmp_path / "asked.png", full_page=True)

        # Enter in a field sends nothing, and the browser says itself what is missing.
        await page.press("[name='field.amount']", "Enter")
        await page.click("text=Approve")
        assert (await engine.get_run(run.id)).events == ()
        assert await page.evaluate("document.activeElement.name") == "field.reason"

        await page.select_option("[name='field.reason']", "late")
        await page.fill("[name='field.amount']", "12.50")
        await page.fill("[name='field.until']", "2026-12-31")
        await page.fill("[name='field.note']", "Sorry,\nsays <Ada>")
        await page.check("[name='field.tell']")
        # A browser that checks nothing: the server does.
        await page.evaluate("document.forms[0].noValidate = true")
        await page.fill("[name='field.amount']", "500")
        await page.click("text=Approve")
        error = page.locator("[id='field.amount.error']")
        assert await error.inner_text() == "This has to be at most 100."
        assert await page.input_value("[name='field.note']") == "Sorry,\nsays <Ada>"
        assert await page.is_checked("[name='field.tell']")
        await page.screenshot(path=tmp_path / "wrong.png", full_page=True)

        await page.fill("[name='field.amount']", "12.5")
        await page.click("text=Approve")
        assert await page.inner_text("h1") == "Thank you"
        await page.screenshot(path=tmp_path / "done.png", full_page=True)
        done = await engine.wait(run.id, 20)
        assert done.value == {
            "amount": 12.5,
            "reason": "late",
            "until": "2026-12-31",
            "note": "Sorry,\nsays <Ada>",
            "tell": True,
            "by": "Ada",
            "approved": True,
        }
        await page.goto(url)
        assert "Approved by Ada on" in await page.inner_text("main")
        # The status of pages that refuse is all that a browser has to say.
        assert all("status of 4" in complaint for complaint in complaints)
