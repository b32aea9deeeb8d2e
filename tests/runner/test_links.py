"""Signed links: what a token says, and that nobody else can say it."""

import base64
import time
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sequential.errors import InvalidInputError, InvalidLinkError, LinkExpiredError
from sequential.runner.links import Asked, Links

RUN = "019cab0e-97eb-7000-8000-000000000001"
OTHER = "019cab0e-97eb-7000-8000-000000000002"


def test_all_functions_with_one_secret_take_the_same_links() -> None:
    made = Links(b"s").answer(RUN, "word", 60, "k", (1,))
    claim = Links(b"s").check("answer", RUN, made.partition("token=")[2], "word")
    assert (claim.key, claim.has_data, claim.data) == ("k", True, 1)
    assert 0 < claim.expires - time.time() < 61


@given(st.data(), st.sampled_from(["a word", "x/y?z", "ä", "%2F"]))
@settings(max_examples=50, deadline=None)
def test_a_token_that_was_changed_anywhere_is_refused(data: Any, event: str) -> None:
    links = Links(b"s")
    made = links.answer(RUN, event, 60, "k", ())
    path, _, token = made.partition("?token=")
    assert path == f"/answer/{RUN}/{quote(event, safe='')}"
    assert links.check("answer", RUN, token, event).key == "k"
    position = int(data.draw(st.floats(0, 0.999)) * len(token))
    changed = data.draw(st.characters(codec="utf-8"))
    assume(changed != token[position])
    with pytest.raises(InvalidLinkError) as refused:
        links.check("answer", RUN, token[:position] + changed + token[position + 1 :], event)
    assert refused.value.http_status == 403


def test_a_later_expiry_cannot_be_written_into_a_link() -> None:
    links = Links(b"s")
    token = links.answer(RUN, "word", -1, "k", ()).partition("token=")[2]
    body, _, signature = token.partition(".")
    claim = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    claim[0] += 10_000
    later = base64.urlsafe_b64encode(msgspec.json.encode(claim)).rstrip(b"=").decode()
    with pytest.raises(InvalidLinkError):
        links.check("answer", RUN, f"{later}.{signature}", "word")
    with pytest.raises(LinkExpiredError) as refused:
        links.check("answer", RUN, token, "word")
    assert refused.value.http_status == 410


def test_a_link_for_one_purpose_is_none_for_another() -> None:
    links = Links(b"s")
    token = links.approve(RUN, "word", 60, "k", Asked("Well?")).partition("token=")[2]
    assert links.check("approve", RUN, token, "word").asked == Asked("Well?")
    for purpose, run_id, event in [
        ("answer", RUN, "word"),
        ("resume", RUN, ""),
        ("approve", OTHER, "word"),
        ("approve", RUN, "other"),
    ]:
        with pytest.raises(InvalidLinkError):
            links.check(purpose, run_id, token, event)


def test_what_is_asked_has_to_fit_into_an_address() -> None:
    with pytest.raises(InvalidInputError, match="what is asked makes a link of"):
        Links(b"s").approve(RUN, "word", 60, None, Asked(description="long " * 1000))
