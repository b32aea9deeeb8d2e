"""One rule for names: what is refused, everywhere, and what the message says to do."""

import keyword
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequential.core import names
from sequential.errors import InvalidNameError

Check = Callable[[str], str]

TASK, SERVICE, FIELD = names.check_task_name, names.check_service_name, names.check_field_name
RUN, PREFIX = names.check_run_id, names.check_run_prefix
COLLECTION, KEY = names.check_collection_name, names.check_document_key
EVERY: list[Check] = [TASK, SERVICE, FIELD, RUN, PREFIX]
RUN_ID = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"

HOSTILE = {
    "nothing": "",
    "a space": " ",
    "a parent folder": "../evil",
    "a folder": "a/b",
    "a folder, on Windows": "a\\b",
    "an absolute path": "/etc/passwd",
    "a dot": ".",
    "two dots": "..",
    "a hidden file": ".hidden",
    "an ending": "a.py",
    "300 characters": "a" * 300,
    "letters that are not ASCII": "größe",
    "digits that are not ASCII": "a٣",
    "letters that look like others": "pаypal",  # noqa: RUF001
    "a letter that folds to ASCII": "\u212aelvin",
    "half of a pair": "a\ud800",
    "an override of the direction": "a\u202eb",
    "a NUL": "a\0b",
    "a control character": "a\x1bb",
    "a line": "a\nb",
    "a trailing newline": "a\n",
    "a trailing space": "a ",
    "a leading dash": "-rf",
    "an SQL quote": "a';--",
    "a percent sign": "%2e%2e",
    "a colon": "a:b",
    "a tilde": "~root",
    "a variable": "$HOME",
    "a wildcard": "*",
    "markup": "<b>",
}
RESERVED = ["con", "CON", "Nul", "com1", "lpt9", "import", "class", "None", "await"]


@pytest.mark.parametrize("check", EVERY)
@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_are_refused_by_every_check(check: Check, name: str) -> None:
    with pytest.raises(InvalidNameError) as caught:
        check(name)
    message = str(caught.value)
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 250
    assert any(advice in message for advice in ("use ", "allowed", "looks like a UUID"))


@pytest.mark.parametrize("check", [TASK, SERVICE, FIELD])
@pytest.mark.parametrize("name", RESERVED)
def test_reserved_names_are_refused(check: Check, name: str) -> None:
    with pytest.raises(InvalidNameError, match=f"'{name}' is reserved: choose another"):
        check(name)


@pytest.mark.parametrize("name", ["1st", "9", "-a", "_a", "__class__", "9-lives"])
def test_a_task_name_begins_with_a_letter(name: str) -> None:
    with pytest.raises(InvalidNameError, match="starting with a letter"):
        TASK(name)


@pytest.mark.parametrize("name", ["1st", "my-mail", "_a", "__class__"])
def test_a_service_name_is_a_public_python_name(name: str) -> None:
    with pytest.raises(InvalidNameError, match='use letters, digits and "_", starting with'):
        SERVICE(name)


@pytest.mark.parametrize("name", ["1st", "user-id"])
def test_an_input_name_is_a_python_name(name: str) -> None:
    with pytest.raises(InvalidNameError, match='use letters, digits and "_", starting with'):
        FIELD(name)


@pytest.mark.parametrize(
    ("check", "name"),
    [
        (TASK, "my-emails"),
        (TASK, "a"),
        (TASK, "A_1-b"),
        (TASK, "a" * 64),
        (TASK, "console"),
        (TASK, "match"),
        (TASK, "import-mail"),
        (SERVICE, "gapi"),
        (SERVICE, "web_search2"),
        (FIELD, "userId"),
        (FIELD, "_private"),
        (RUN, RUN_ID),
        (PREFIX, RUN_ID),
        (PREFIX, RUN_ID[:1]),
        (PREFIX, RUN_ID[:9]),
    ],
)
def test_good_names_are_returned_as_they_are(check: Check, name: str) -> None:
    assert check(name) == name


@pytest.mark.parametrize("check", [TASK, SERVICE, FIELD])
def test_the_longest_name(check: Check) -> None:
    assert check("a" * 64)
    with pytest.raises(InvalidNameError, match="too long: 65 characters, at most 64 are allowed"):
        check("a" * 65)


@pytest.mark.parametrize(
    "wrong",
    [
        RUN_ID.upper(),
        RUN_ID.replace("-", ""),
        RUN_ID[:-1],
        RUN_ID + "0",
        f"{{{RUN_ID}}}",
        f" {RUN_ID}",
        RUN_ID.replace("f", "g"),
    ],
)
def test_a_run_id_has_one_form(wrong: str) -> None:
    with pytest.raises(InvalidNameError, match="a run id looks like a UUID"):
        RUN(wrong)


@pytest.mark.parametrize("wrong", ["g", "-rf", "017F", RUN_ID + "0", "017f*", "017f_"])
def test_a_run_id_cannot_begin_like_this(wrong: str) -> None:
    with pytest.raises(InvalidNameError, match="not a run id or the beginning of one"):
        PREFIX(wrong)


@given(st.text() | st.from_regex(r"[\w.-]{1,70}\n?", fullmatch=True))
def test_whatever_passes_is_safe_everywhere(name: str) -> None:
    for check in EVERY:
        try:
            passed = check(name)
        except InvalidNameError:
            continue
        assert passed == name
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name)
        if check in (TASK, SERVICE, FIELD):
            python_name = names.snake_case(name)
            assert python_name.isidentifier()
            assert not keyword.iskeyword(python_name)


@pytest.mark.parametrize("name", ["a", "google/client_secret", "A-1.b_c/2/_x", "a" * 200])
def test_names_of_secrets_have_parts(name: str) -> None:
    assert names.check_secret_name(name) == name


@pytest.mark.parametrize("name", ["", "/", "/a", "a/", "a//b", "a/../b", ".a", "a b", "a\n", "é"])
def test_names_of_secrets_lead_nowhere_else(name: str) -> None:
    with pytest.raises(InvalidNameError, match="not a name of a secret"):
        names.check_secret_name(name)


def test_snake_case() -> None:
    assert names.snake_case("my-emails") == "my_emails"


@pytest.mark.parametrize("name", ["a", "audit_log", "a_", "class", "x" * 40])
def test_names_of_collections(name: str) -> None:
    assert COLLECTION(name) == name


@pytest.mark.parametrize("name", [*HOSTILE.values(), "A", "_a", "a1", "a-b", "x" * 41])
def test_a_collection_has_small_letters_only(name: str) -> None:
    with pytest.raises(InvalidNameError, match=r"not a name of a collection: .*small letters"):
        COLLECTION(name)


@pytest.mark.parametrize("key", ["a", " ", "../evil", "a:b", "größe", "\U0001f40d" * 200, RUN_ID])
def test_keys_of_documents(key: str) -> None:
    assert KEY(key) == key


@pytest.mark.parametrize("key", ["", "k" * 201, "a\n", "a\0b", "a\u202eb", "a\ud800", "\u00a0"])
def test_a_key_of_a_document_can_be_seen(key: str) -> None:
    with pytest.raises(InvalidNameError, match=r"not a key of a document: .*printable"):
        KEY(key)
