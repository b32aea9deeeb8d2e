"""Where a store is in Firestore: its project, its database, and how its collections are called."""

import os
import re
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import google.auth
from google.auth.exceptions import GoogleAuthError

from sequential.errors import ConfigError

DEFAULT_PREFIX = "sequential"
_PROJECT = re.compile(r"[a-z0-9.:-]{1,100}")
_PART = re.compile(r"(?!__.*__\Z)[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


class Place(NamedTuple):
    """Where the store is: a database, and what the names of its collections begin with."""

    project: str
    database: str
    prefix: str  # "sequential", or "a/b/sequential" below the document a/b

    @property
    def root(self) -> str:
        return f"projects/{self.project}/databases/{self.database}"

    @property
    def parent(self) -> str:
        """What the collections belong to: the database, or a document."""
        above, _, _ = self.prefix.rpartition("/")
        return f"{self.root}/documents/{above}".rstrip("/")

    def collection(self, kind: str) -> str:
        return f"{self.prefix.rpartition('/')[2]}_{kind}"

    def name(self, kind: str, document: str) -> str:
        return f"{self.parent}/{self.collection(kind)}/{document}"


def place_of(location: str, project: str = "", database: str = "") -> Place:
    """The place that `firestore://<project>/<collection>?database=<name>` means.

    What it leaves out comes from the arguments, and the project from the surroundings at last.
    Raises `ConfigError`.
    """
    address = urlsplit(location if "://" in location else f"firestore://{location}")
    options = dict(parse_qsl(address.query))
    project = unquote(address.netloc) or project or default_project()
    prefix = unquote(address.path).strip("/") or DEFAULT_PREFIX
    if not _PROJECT.fullmatch(project):
        raise ConfigError(
            f"{location!a} names no project of Google Cloud: write firestore://my-project, or set "
            "GOOGLE_CLOUD_PROJECT"
        )
    parts = prefix.split("/")
    if len(parts) % 2 == 0 or not all(_PART.fullmatch(part) for part in parts):
        raise ConfigError(
            f"{prefix!a} names no collection: write firestore://{project}/sequential, or below a "
            f"document firestore://{project}/teams/one/sequential"
        )
    if unknown := options.keys() - {"database"}:
        raise ConfigError(f"{location!a} has the option {min(unknown)!a}: there is only database")
    database = options.get("database") or database or "(default)"
    return Place(project, database, prefix)


def default_project() -> str:
    """The project that the surroundings name, or nothing."""
    if project := os.environ.get("GOOGLE_CLOUD_PROJECT"):
        return project
    if os.environ.get("FIRESTORE_EMULATOR_HOST"):
        return ""
    try:
        return google.auth.default()[1] or ""
    except GoogleAuthError:
        return ""
