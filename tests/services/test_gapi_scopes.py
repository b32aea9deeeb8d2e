import pytest

from sequential.services.gapi_catalog import Catalog
from sequential.services.gapi_scopes import narrowest

AUTH = "https://www.googleapis.com/auth/"


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog()


@pytest.mark.parametrize(
    ("method", "scope"),
    [
        ("admin.domains.list", "admin.directory.domain.readonly"),
        ("admin.users.insert", "admin.directory.user"),
        ("gmail.users.messages.list", "gmail.readonly"),
        ("gmail.users.messages.send", "gmail.send"),
        ("gmail.users.messages.modify", "gmail.modify"),
        ("docs.documents.get", "documents.readonly"),
        ("docs.documents.batchUpdate", "documents"),
        ("sheets.spreadsheets.values.get", "spreadsheets.readonly"),
        ("sheets.spreadsheets.values.append", "spreadsheets"),
        ("drive.files.list", "drive.readonly"),
        ("drive.files.create", "drive"),
        ("calendar.events.list", "calendar.events.readonly"),
        ("calendar.events.insert", "calendar.events"),
        ("compute.instances.list", "compute.readonly"),
        ("storage.objects.insert", "devstorage.full_control"),
    ],
)
def test_the_least_scope_that_does(catalog: Catalog, method: str, scope: str) -> None:
    found = catalog.method(method)
    asked = narrowest(found.scopes, found.http)
    if method == "storage.objects.insert":  # of several for writing any will do
        assert asked in found.scopes
        assert asked != f"{AUTH}cloud-platform"
    else:
        assert asked == AUTH + scope


def test_all_of_a_mailbox_is_asked_for_only_where_nothing_less_does(catalog: Catalog) -> None:
    found = catalog.method("gmail.users.messages.delete")
    assert narrowest(found.scopes, found.http) == "https://mail.google.com/"


def test_only_what_was_granted() -> None:
    scopes = ("a.readonly", "a", "b")
    assert narrowest(scopes, "GET", ("a", "c")) == "a"
    assert narrowest(scopes, "GET", ("c",)) is None
    assert narrowest((), "GET") is None
