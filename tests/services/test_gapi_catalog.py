import time

import pytest

from sequential.services.base import CallError
from sequential.services.gapi_catalog import Catalog


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog()


@pytest.mark.parametrize(
    ("name", "api", "version"),
    [
        ("admin", "admin", "directory_v1"),
        ("admin_reports_v1", "admin", "reports_v1"),
        ("sheets", "sheets", "v4"),
        ("drive", "drive", "v3"),
        ("drive_v2", "drive", "v2"),
        ("compute", "compute", "v1"),
        ("compute_beta", "compute", "beta"),
        ("chromewebstore", "chromewebstore", "v2"),
        ("chromewebstore_v1_1", "chromewebstore", "v1.1"),
        ("meet", "meet", "v2"),
    ],
)
def test_versions(catalog: Catalog, name: str, api: str, version: str) -> None:
    assert catalog.names[name] == (api, version)


def test_every_api_has_a_version_that_is_there(catalog: Catalog) -> None:
    assert all(f"{api}_{v}".replace(".", "_") in catalog.names for api, v in catalog.names.values())
    assert len({api for api, _ in catalog.names.values()}) > 300


def test_names_that_are_no_names_in_python_are_spelled_as_the_client_does(
    catalog: Catalog,
) -> None:
    method = catalog.method("gmail.users.messages.import")
    assert method.path[-1] == "import_"
    assert catalog.method("gmail.users.messages.import_").path == method.path
    assert catalog.request(method, {"userId": "me"}).method == "POST"


def test_requests_go_to_the_address_of_the_api_or_to_the_one_that_is_set(catalog: Catalog) -> None:
    elsewhere = Catalog("http://127.0.0.1:1")
    for one, root in ((catalog, "https://www.googleapis.com"), (elsewhere, "http://127.0.0.1:1")):
        method = one.method("drive.files.get")
        request = one.request(method, {"fileId": "a/b"})
        assert request.uri == f"{root}/drive/v3/files/a%2Fb?alt=json"


def test_documents_are_read_once(catalog: Catalog) -> None:
    catalog.method("docs.documents.get")
    begin = time.perf_counter()
    for _ in range(100):
        catalog.request(catalog.method("docs.documents.get"), {"documentId": "1"})
    assert time.perf_counter() - begin < 1


def test_an_api_that_is_not_there(catalog: Catalog) -> None:
    with pytest.raises(CallError, match=r"there is no API 'shets'; did you mean 'sheets'?"):
        catalog.listed("shets")
