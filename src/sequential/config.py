"""Settings: built-in defaults, then `.sequentialrc.json`, then the environment, then flags.

Nothing has to be configured. The file is looked for in the current folder and its parents; the
folder that holds it is the project, otherwise the current folder is.
"""

import difflib
import hashlib
import os
import re
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from sequential.core.model import RetryPolicy
from sequential.core.names import check_service_name
from sequential.errors import ConfigError, InvalidNameError
from sequential.runner.settings import RunnerSettings
from sequential.services.http_settings import HttpSettings
from sequential.services.remote_settings import RemoteAddress, RemoteSettings, checked_base
from sequential.web.settings import ServerSettings

FILE_NAME = ".sequentialrc.json"
KEY_FILE = Path(".sequential") / "secret.key"
# What DATABASE_URL may begin with to choose a storage; any other belongs to another program.
DATABASE_SCHEMES = (
    *("sqlite", "postgres", "postgresql", "redis", "rediss", "valkey", "valkeys", "firestore"),
)
SUPABASE_KEYS = ("SUPABASE_SERVICE_KEY", "SUPABASE_KEY", "SUPABASE_ANON_KEY")
SQLITE_FILE = "tasks.db"  # in the project, unless another is named
_PASSWORD = re.compile(
    r"(?<=://)(?P<user>[^/?#@\s:]*):[^/?#\s]*@"  # user:password@host
    r"|(?P<option>(password|passwd|apikey|secret|token)=)('[^']*'|[^&;,\s'\"]+)",
    re.IGNORECASE,
)
_UNKNOWN = re.compile(r"unknown field `(?P<name>.*?)`( - at `\$\.(?P<path>.+)`)?\Z", re.DOTALL)


class ProjectFile(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The content of `.sequentialrc.json`. Every key may be left out.

    `adaptor` chooses the storage (`default` and `folder` mean the `tasks` folder), `defaults` fill
    in missing inputs of all tasks, `retry`, `http` and `runner` change the engine's own settings,
    `server` those of the HTTP server. `services` says where services are that other processes
    offer: by name their URL, or an object with `url`, `secret` and `timeout`.
    """

    adaptor: str = "default"
    tasks: str = "tasks"
    defaults: dict[str, Any] = {}
    retry: RetryPolicy | None = None
    http: dict[str, Any] = {}
    runner: dict[str, Any] = {}
    server: dict[str, Any] = {}
    services: dict[str, str | RemoteAddress] = {}


class Settings(msgspec.Struct, frozen=True):
    """Everything an engine needs to know."""

    project: Path
    adaptor: str = "folder"
    tasks: Path = Path("tasks")
    defaults: dict[str, Any] = {}
    http: HttpSettings = HttpSettings()
    runner: RunnerSettings = RunnerSettings()
    server: ServerSettings = ServerSettings()
    remote: RemoteSettings = RemoteSettings()

    @property
    def storage(self) -> str:
        """The adapter together with its place, as `create_adapter` takes it."""
        if self.adaptor in ("default", "folder"):
            return f"folder:{self.tasks}"
        if self.adaptor in ("sqlite", "sqlite:"):
            return f"sqlite:{self.project / SQLITE_FILE}"
        return self.adaptor


def find_project(start: Path) -> Path:
    """The nearest folder, from `start` upwards, that holds a `.sequentialrc.json`; else `start`."""
    for folder in (start, *start.absolute().parents):
        if (folder / FILE_NAME).is_file():
            return folder
    return start


def load_settings(
    project: Path,
    *,
    environment: Mapping[str, str] = os.environ,
    adaptor: str | None = None,
    allow_loopback: bool | Literal["own"] = False,
) -> Settings:
    """The settings of a project; raises `ConfigError` that names the file or variable at fault.

    `allow_loopback` is for tools on the user's own machine, see `HttpSettings`; the file may still
    say otherwise.
    """
    stored = read_project_file(project)
    where = f"{FILE_NAME}, "
    http = _section({"allow_loopback": allow_loopback, **stored.http}, HttpSettings, where + "http")
    runner = _section(stored.runner, RunnerSettings, where + "runner")
    server = _section(stored.server, ServerSettings, where + "server")
    retry = stored.retry or runner.retry
    if (retries := _number(environment, "TASK_MAX_RETRIES")) is not None:
        retry = msgspec.structs.replace(retry, retries=retries)
    timeout = runner.timeout
    if (milliseconds := _number(environment, "TASK_TIMEOUT")) is not None:
        timeout = milliseconds / 1000 or None
    return Settings(
        project=project,
        adaptor=_adaptor(project, adaptor, stored.adaptor, environment),
        tasks=project / stored.tasks,
        defaults=stored.defaults,
        http=http,
        runner=msgspec.structs.replace(runner, retry=retry, timeout=timeout),
        server=server,
        remote=_remote(stored, environment),
    )


def masked(text: str) -> str:
    """`text` with asterisks for the passwords in URLs and connection strings."""

    def without(found: re.Match[str]) -> str:
        return f"{found['option']}***" if found["option"] else f"{found['user']}:***@"

    return _PASSWORD.sub(without, text)


def adaptor_variable(
    environment: Mapping[str, str] = os.environ, stored: str = "default"
) -> tuple[str, str] | None:
    """The variable that chooses the storage, and what it chooses; None when none does.

    `stored` is what the file says. The variables of Supabase count only where it says nothing, as
    they are often set for the tasks' own services.
    """
    url = environment.get("DATABASE_URL", "").strip()
    if ":" in url and url.partition(":")[0].lower() in DATABASE_SCHEMES:
        return "DATABASE_URL", url
    if path := environment.get("SQLITE_DB_PATH", "").strip():
        return "SQLITE_DB_PATH", f"sqlite:{path}"
    has_key = any(environment.get(name, "").strip() for name in SUPABASE_KEYS)
    if stored == "default" and has_key and environment.get("SUPABASE_URL", "").strip():
        return "SUPABASE_URL", "supabase"
    return None


def _adaptor(project: Path, given: str | None, stored: str, environment: Mapping[str, str]) -> str:
    """The storage to use; files are seen from the project, but as a flag from the current folder.

    `sqlite` alone means the file that `SQLITE_DB_PATH` names, where it does.
    """
    _, chosen = adaptor_variable(environment, stored) or ("", stored)
    chosen = given or chosen
    name, _, location = chosen.partition(":")
    if name.lower() != "sqlite" or (given and location):
        return chosen
    location = location or environment.get("SQLITE_DB_PATH", "").strip()
    path = location.removeprefix("///")
    if not path or path.startswith(("//", ":")):
        return chosen  # the usual file, or none: then the adapter says what is wrong with it
    return f"sqlite:{project / Path(path).expanduser()}"


def read_project_file(project: Path) -> ProjectFile:
    """The project's `.sequentialrc.json`, or its defaults when there is none."""
    path = project / FILE_NAME
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return ProjectFile()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return msgspec.json.decode(text, type=ProjectFile)
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, not ours, too deep
        raise ConfigError(f"{path} is not right: {_explained(error, ProjectFile)}") from error


def write_project_file(project: Path, content: ProjectFile) -> None:
    """Replace `.sequentialrc.json` in one step."""
    path = project / FILE_NAME
    always = {"adaptor": content.adaptor, "defaults": content.defaults}
    tree = always | msgspec.to_builtins(content)
    try:
        encoded = msgspec.json.format(msgspec.json.encode(tree), indent=2) + b"\n"
    except ValueError as error:
        raise ConfigError(f"{path} can hold JSON only: {error}") from error
    temporary = project / f"{FILE_NAME}.{secrets.token_hex(4)}.tmp"
    try:
        try:
            temporary.write_bytes(encoded)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def change_setting(content: ProjectFile, key: str, value: str) -> ProjectFile:
    """`content` with a dotted key set, as in `defaults.userId`.

    The value is read as JSON where that gives the type that is asked for (`runner.calls 20`), and
    as text otherwise; defaults of inputs are text unless they are clearly JSON.
    """
    tree = msgspec.to_builtins(msgspec.structs.replace(content))
    full = {name: getattr(content, name) for name in content.__struct_fields__} | tree
    first: ConfigError | None = None
    for candidate in _readings(value):
        try:
            return _checked(_with(full, key.split("."), candidate, key))
        except ConfigError as error:
            first = first or error
    assert first is not None
    raise first


def get_setting(content: ProjectFile, key: str) -> Any:
    """The value of a dotted key; raises `ConfigError` when there is none."""
    node: Any = {name: getattr(content, name) for name in content.__struct_fields__}
    for part in key.split("."):
        node = msgspec.to_builtins(node)
        if not isinstance(node, dict) or part not in node:
            raise ConfigError(f"there is no setting {key!r}: {_hint(part, node)}")
        node = node[part]
    return msgspec.to_builtins(node)


def load_secret(project: Path, environment: Mapping[str, str] = os.environ) -> bytes:
    """The key that signs snapshots: from `SEQUENTIAL_SECRET`, else from a 0600 file made once.

    Where the file can be neither read nor made, a key for this process alone is used; snapshots of
    other processes then do not count, and their runs are replayed from the journal.
    """
    if given := environment.get("SEQUENTIAL_SECRET"):
        return hashlib.sha256(b"sequential snapshot\0" + given.encode()).digest()
    return _kept_secret(project) or secrets.token_bytes(32)


def lasting_secret(project: Path, environment: Mapping[str, str] = os.environ) -> bytes:
    """What the keystore's key is derived from: the same source as `load_secret`.

    Raises `ConfigError` where that would make up a key for this process, as values encrypted with
    it would be lost.
    """
    if given := environment.get("SEQUENTIAL_SECRET"):
        return given.encode("utf-8", "surrogateescape")
    if kept := _kept_secret(project):
        return kept
    raise ConfigError(
        f"{project / KEY_FILE} can be neither read nor made, so the keystore has no key: "
        "set the variable SEQUENTIAL_SECRET, or make the file readable for this user"
    )


def _kept_secret(project: Path) -> bytes | None:
    """The 32 bytes of the project's key file, which is made if there is none."""
    path = project / KEY_FILE
    try:
        key = path.read_bytes()
    except OSError:
        key = _make_secret(path)
    return key if len(key) == 32 else None


def _make_secret(path: Path) -> bytes:
    """Write a new key, in a folder that version control passes over, unless there is one by now."""
    try:
        path.parent.mkdir(exist_ok=True)
        path.with_name(".gitignore").write_text("*\n", encoding="utf-8")
        with tempfile.NamedTemporaryFile(dir=path.parent) as file:  # made 0600
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
            try:
                os.link(file.name, path)  # the first process wins, the others read its key
            except FileExistsError:
                pass
        return path.read_bytes()
    except OSError:
        return b""


def _section(given: dict[str, Any], kind: type[Any], where: str) -> Any:
    try:
        unknown = set(given) - set(kind.__struct_fields__)
        if unknown:
            raise ConfigError(f"{where}: {_hint(min(unknown), kind.__struct_fields__)}")
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {_explained(error, kind)}") from error


def _remote(stored: ProjectFile, environment: Mapping[str, str]) -> RemoteSettings:
    """Where services are elsewhere, as the file and the variables of the original's client say."""
    kind = environment.get("SERVICE_CLIENT_TYPE", "").strip()
    base = environment.get("SERVICE_CLIENT_BASE_URL", "").strip()
    if kind not in ("", "http", "local"):
        raise ConfigError(f"the variable SERVICE_CLIENT_TYPE is http or local, not {kind[:40]!r}")
    if kind == "http" and not base:
        raise ConfigError("SERVICE_CLIENT_TYPE is http: set SERVICE_CLIENT_BASE_URL as well")
    if kind == "http":
        _check_base("the variable SERVICE_CLIENT_BASE_URL", base)
    token = environment.get("SERVICE_CLIENT_AUTH_TOKEN", "").strip()
    return RemoteSettings(_addresses(stored), base if kind == "http" else "", token)


def _addresses(content: ProjectFile) -> dict[str, RemoteAddress]:
    addresses = {}
    for name, given in content.services.items():
        try:
            check_service_name(name)
        except InvalidNameError as error:
            raise ConfigError(f"{FILE_NAME}, services: {error}") from None
        addresses[name] = RemoteAddress(given) if isinstance(given, str) else given
        _check_base(f"{FILE_NAME}, services.{name}", addresses[name].url)
    return addresses


def _check_base(where: str, url: str) -> None:
    try:
        checked_base(url)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


def _checked(tree: dict[str, Any]) -> ProjectFile:
    try:
        content = msgspec.convert(tree, ProjectFile)
    except msgspec.ValidationError as error:
        raise ConfigError(_explained(error, ProjectFile)) from error
    _section(content.http, HttpSettings, "http")
    _section(content.runner, RunnerSettings, "runner")
    _section(content.server, ServerSettings, "server")
    _addresses(content)
    return content


def _with(tree: dict[str, Any], path: list[str], value: Any, key: str) -> dict[str, Any]:
    head, *rest = path
    if not head:
        raise ConfigError(f"{key!r} is not the name of a setting: use adaptor, or defaults.userId")
    if not rest:
        return {**tree, head: value}
    below = tree.get(head)
    if below is not None and not isinstance(below, dict):
        raise ConfigError(f"{head} holds a value, {key!r} cannot be set below it")
    return {**tree, head: _with(below or {}, rest, value, key)}


def _readings(value: str) -> list[Any]:
    try:
        parsed = msgspec.json.decode(value)
    except (ValueError, RecursionError):
        return [value]
    return [parsed, value] if not isinstance(parsed, str) else [parsed]


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "").strip()
    if not text:
        return None
    if not text.isdecimal() or len(text) > 15:
        shown = text if len(text) <= 40 else text[:40] + "..."
        raise ConfigError(f"the variable {name} must be a whole number, this is {shown!r}")
    return int(text)


def _explained(error: Exception, kind: type[Any]) -> str:
    text = str(error)
    unknown = _UNKNOWN.search(text)
    if unknown is None:
        return text
    path = unknown["path"] or ""  # of a record within a section
    known = RemoteAddress if path.startswith("services") else RetryPolicy if path else kind
    return f"{text}; {_hint(unknown['name'], known.__struct_fields__)}"


def _hint(name: str, known: Any) -> str:
    names = sorted(known) if isinstance(known, dict | tuple) else []
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"{name!r} is not known, did you mean {near[0]!r}?"
    return f"{name!r} is not known, there are {', '.join(names) or 'none'}"
