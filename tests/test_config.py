"""Settings: where they come from, who has the last word, and what is wrong with them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sequential.config import (
    FILE_NAME,
    ProjectFile,
    change_setting,
    find_project,
    get_setting,
    lasting_secret,
    load_secret,
    load_settings,
    masked,
    read_project_file,
    write_project_file,
)
from sequential.core.model import RetryPolicy
from sequential.errors import ConfigError
from sequential.runner.settings import RunnerSettings
from sequential.services.http_settings import HttpSettings


def store(project: Path, content: Any) -> None:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    (project / FILE_NAME).write_bytes(text)


def load(project: Path, *, adaptor: str | None = None, **environment: str) -> Any:
    return load_settings(project, environment=environment, adaptor=adaptor)


class TestLoading:
    def test_nothing_has_to_be_configured(self, tmp_path: Path) -> None:
        settings = load(tmp_path)
        assert settings.project == tmp_path
        assert settings.adaptor == "default"
        assert settings.tasks == tmp_path / "tasks"
        assert settings.defaults == {}
        assert settings.http == HttpSettings()
        assert settings.runner == RunnerSettings()
        assert list(tmp_path.iterdir()) == []

    def test_the_file_goes_before_the_built_in_defaults(self, tmp_path: Path) -> None:
        store(
            tmp_path,
            {
                "adaptor": "memory",
                "tasks": "work/tasks",
                "defaults": {"userId": "john"},
                "retry": {"retries": 9},
                "http": {"timeout": 5},
                "runner": {"calls": 20, "timeout": 60},
            },
        )
        settings = load(tmp_path)
        assert settings.adaptor == "memory"
        assert settings.tasks == tmp_path / "work" / "tasks"
        assert settings.defaults == {"userId": "john"}
        assert settings.http == HttpSettings(timeout=5)
        assert settings.runner == RunnerSettings(calls=20, timeout=60, retry=RetryPolicy(retries=9))

    def test_the_environment_goes_before_the_file(self, tmp_path: Path) -> None:
        store(tmp_path, {"retry": {"retries": 9, "delay": 7}, "runner": {"timeout": 60}})
        settings = load(tmp_path, TASK_MAX_RETRIES="2", TASK_TIMEOUT="1500")
        assert settings.runner.retry == RetryPolicy(retries=2, delay=7)
        assert settings.runner.timeout == 1.5

    def test_a_flag_goes_before_the_file(self, tmp_path: Path) -> None:
        store(tmp_path, {"adaptor": "mine"})
        assert load(tmp_path).adaptor == "mine"
        assert load(tmp_path, adaptor="memory").adaptor == "memory"

    def test_the_retries_of_the_project_go_before_those_of_the_runner(self, tmp_path: Path) -> None:
        store(tmp_path, {"runner": {"retry": {"retries": 1}}})
        assert load(tmp_path).runner.retry == RetryPolicy(retries=1)
        store(tmp_path, {"retry": {"retries": 2}, "runner": {"retry": {"retries": 1}}})
        assert load(tmp_path).runner.retry == RetryPolicy(retries=2)

    @pytest.mark.parametrize(
        ("text", "timeout"), [("30000", 30.0), ("1", 0.001), ("0", None), (" 5 ", 0.005), ("", 60)]
    )
    def test_the_variable_of_the_timeout_is_in_milliseconds(
        self, tmp_path: Path, text: str, timeout: float | None
    ) -> None:
        store(tmp_path, {"runner": {"timeout": 60}})
        assert load(tmp_path, TASK_TIMEOUT=text).runner.timeout == timeout

    def test_no_retries_at_all(self, tmp_path: Path) -> None:
        assert load(tmp_path, TASK_MAX_RETRIES="0").runner.retry.retries == 0

    @pytest.mark.parametrize("name", ["TASK_TIMEOUT", "TASK_MAX_RETRIES"])
    @pytest.mark.parametrize("text", ["soon", "-1", "1.5", "1e3", "0x10", "²", "9" * 400])
    def test_a_wrong_variable_is_named(self, tmp_path: Path, name: str, text: str) -> None:
        with pytest.raises(ConfigError) as caught:
            load(tmp_path, **{name: text})
        assert f"the variable {name} must be a whole number, this is '{text[:40]}" in str(
            caught.value
        )
        assert len(str(caught.value)) < 150

    def test_the_command_line_allows_loopback_unless_the_file_does_not(
        self, tmp_path: Path
    ) -> None:
        def loopback(allow: bool) -> bool:
            settings = load_settings(tmp_path, environment={}, allow_loopback=allow)
            return bool(settings.http.allow_loopback)

        assert loopback(True)
        assert not loopback(False)
        store(tmp_path, {"http": {"allow_loopback": False}})
        assert not loopback(True)

    def test_the_environment_of_the_process_is_looked_at(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TASK_MAX_RETRIES", "7")
        assert load_settings(tmp_path).runner.retry.retries == 7


class TestTheStore:
    @pytest.mark.parametrize(
        "url",
        [
            "postgres://u:p@db.example/app",
            "postgresql://db.example/app?sslmode=require",
            "redis://cache.example:6379/0",
            "rediss://cache.example",
            "valkey://cache.example",
            "firestore://project/collection",
        ],
    )
    def test_a_url_of_a_server_reaches_its_adapter_whole(self, tmp_path: Path, url: str) -> None:
        store(tmp_path, {"adaptor": "sqlite"})
        assert load(tmp_path, DATABASE_URL=url).storage == url

    @pytest.mark.parametrize(
        "url", ["mysql://h/x", "postgresql+psycopg://h/x", "postgres", "", "https://h/x", "file:x"]
    )
    def test_a_url_of_another_program_changes_nothing(self, tmp_path: Path, url: str) -> None:
        assert load(tmp_path, DATABASE_URL=url).adaptor == "default"

    @pytest.mark.parametrize("key", ["SUPABASE_SERVICE_KEY", "SUPABASE_KEY", "SUPABASE_ANON_KEY"])
    def test_supabase_is_chosen_by_its_url_and_a_key(self, tmp_path: Path, key: str) -> None:
        url = {"SUPABASE_URL": "https://x.supabase.co"}
        assert load(tmp_path, **url, **{key: "k"}).storage == "supabase"
        assert load(tmp_path, **url).adaptor == "default"
        assert load(tmp_path, **{key: "k"}).adaptor == "default"
        assert load(tmp_path, **url, **{key: " "}).adaptor == "default"

    def test_supabase_for_a_service_does_not_take_the_place_of_what_was_chosen(
        self, tmp_path: Path
    ) -> None:
        supabase = {"SUPABASE_URL": "https://x.supabase.co", "SUPABASE_KEY": "k"}
        assert load(tmp_path, **supabase, SQLITE_DB_PATH="a.db").adaptor.startswith("sqlite:")
        assert load(tmp_path, **supabase, DATABASE_URL="redis://h").adaptor == "redis://h"
        assert load(tmp_path, adaptor="folder", **supabase).adaptor == "folder"
        for chosen in ("folder", "sqlite"):
            store(tmp_path, {"adaptor": chosen})
            assert load(tmp_path, **supabase).adaptor == chosen

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("postgres://ada:s3cret@host:5432/db", "postgres://ada:***@host:5432/db"),
            ("postgres://ada:s3@cret@host/db", "postgres://ada:***@host/db"),
            ("redis://:s3cret@host/0", "redis://:***@host/0"),
            ("two: a://u:s3@h and b://u:s3@h", "two: a://u:***@h and b://u:***@h"),
            ("postgres://host/db?password=s3cret&a=1", "postgres://host/db?password=***&a=1"),
            ("host=h password=s3cret user=u", "host=h password=*** user=u"),
            ("host=h password='s3 cret' user=u", "host=h password=*** user=u"),
            ("rediss://h?ssl_password=s3cret", "rediss://h?ssl_password=***"),
            ("postgres://ada@host:5432/db", "postgres://ada@host:5432/db"),
            ("sqlite:./workflow.db", "sqlite:./workflow.db"),
            ("write to a:b@c", "write to a:b@c"),
        ],
    )
    def test_passwords_are_not_shown(self, text: str, shown: str) -> None:
        assert masked(text) == shown


class TestMistakes:
    @pytest.mark.parametrize(
        ("content", "parts"),
        [
            ({"adapter": "x"}, ["did you mean 'adaptor'?"]),
            (
                {"zzz": 1},
                ["there are adaptor, defaults, http, retry, runner, server, services, tasks"],
            ),
            ({"adaptor": 5}, ["Expected `str`, got `int`", "$.adaptor"]),
            ({"defaults": []}, ["Expected `object`, got `array`", "$.defaults"]),
            ({"retry": 5}, ["$.retry"]),
            ({"retry": {"retires": 5}}, ["$.retry", "did you mean 'retries'?"]),
            ({"retry": {"retries": "5"}}, ["Expected `int`, got `str`", "$.retry.retries"]),
            ({"http": {"timeuot": 5}}, ["http", "did you mean 'timeout'?"]),
            ({"http": {"timeout": "5"}}, ["http", "Expected `float`, got `str`", "timeout"]),
            ({"runner": {"callz": 5}}, ["runner", "did you mean 'calls'?"]),
            ({"runner": {"calls": 1.5}}, ["runner", "Expected `int`, got `float`", "calls"]),
            ({"runner": {"retry": {"dely": 5}}}, ["runner", "$.retry", "did you mean 'delay'?"]),
            ([], ["Expected `object`, got `array`"]),
            (b"", ["truncated"]),
            (b'{"adaptor": "x"', ["truncated"]),
            (b'{"adaptor": "x"} x', ["trailing characters (byte 18)"]),
            (b"adaptor = x", ["malformed"]),
            (b'{"adaptor": "\xff"}', ["utf-8"]),
            (b'{"defaults": {"a": ' + b"[" * 100_000, ["recursion"]),
        ],
    )
    def test_a_wrong_file_is_named_with_the_place_and_the_near_name(
        self, tmp_path: Path, content: Any, parts: list[str]
    ) -> None:
        store(tmp_path, content)
        with pytest.raises(ConfigError) as caught:
            load(tmp_path)
        for part in (FILE_NAME, *parts):
            assert part in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        (tmp_path / FILE_NAME).mkdir()
        with pytest.raises(ConfigError, match=r"\.sequentialrc\.json cannot be read: Is a dir"):
            load(tmp_path)


class TestFindingTheProject:
    def test_the_nearest_file_upwards_counts(self, tmp_path: Path) -> None:
        below = tmp_path / "one" / "two" / "three"
        below.mkdir(parents=True)
        store(tmp_path, {})
        assert find_project(below) == tmp_path
        store(tmp_path / "one", {})
        assert find_project(below) == tmp_path / "one"
        store(below, {})
        assert find_project(below) == below

    def test_without_any_file_the_start_is_the_project(self, tmp_path: Path) -> None:
        assert find_project(tmp_path) == tmp_path

    def test_a_folder_of_that_name_does_not_count(self, tmp_path: Path) -> None:
        below = tmp_path / "below"
        (below / FILE_NAME).mkdir(parents=True)
        store(tmp_path, {})
        assert find_project(below) == tmp_path

    def test_from_the_current_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "below").mkdir()
        store(tmp_path, {})
        monkeypatch.chdir(tmp_path / "below")
        assert find_project(Path()).samefile(tmp_path)
        monkeypatch.chdir(tmp_path)
        assert find_project(Path()) == Path()


class TestWriting:
    def test_what_is_written_is_read_again(self, tmp_path: Path) -> None:
        content = ProjectFile(
            adaptor="memory", defaults={"name": "ü"}, retry=RetryPolicy(), runner={"calls": 3}
        )
        write_project_file(tmp_path, content)
        assert read_project_file(tmp_path) == content

    def test_the_file_is_for_people(self, tmp_path: Path) -> None:
        write_project_file(tmp_path, ProjectFile(defaults={"name": "ü"}))
        assert (tmp_path / FILE_NAME).read_text("utf-8") == (
            '{\n  "adaptor": "default",\n  "defaults": {\n    "name": "ü"\n  }\n}\n'
        )

    def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_project_file(tmp_path, ProjectFile(adaptor="old"))

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        for method in ("write_bytes", "replace"):
            with monkeypatch.context() as patch:
                patch.setattr(Path, method, full)
                with pytest.raises(ConfigError, match="cannot be written: No space left"):
                    write_project_file(tmp_path, ProjectFile(adaptor="new"))
            assert read_project_file(tmp_path).adaptor == "old"
            assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="cannot be written: No such file"):
            write_project_file(tmp_path / "nowhere", ProjectFile())

    def test_what_is_not_text_is_not_written(self, tmp_path: Path) -> None:
        content = change_setting(ProjectFile(), "defaults.a", "\udc80")
        with pytest.raises(ConfigError, match="can hold JSON only"):
            write_project_file(tmp_path, content)
        assert list(tmp_path.iterdir()) == []


class TestChanging:
    @pytest.mark.parametrize(
        ("key", "text", "value"),
        [
            ("adaptor", "sqlite", "sqlite"),
            ("adaptor", "5", "5"),
            ("tasks", "true", "true"),
            ("defaults.userId", "john", "john"),
            ("defaults.userId", '"5"', "5"),
            ("defaults.limit", "5", 5),
            ("defaults.limit", "-5", -5),
            ("defaults.flag", "true", True),
            ("defaults.nothing", "null", None),
            ("defaults.tags", '["a", 1]', ["a", 1]),
            ("defaults.deep.er", "x", "x"),
            ("defaults.text", "", ""),
            ("defaults.text", "NaN", "NaN"),
            ("defaults.text", "Infinity", "Infinity"),
            ("defaults.text", "1e999", "1e999"),
            ("defaults.text", "{not json", "{not json"),
            ("defaults.text", "[" * 100_000, "[" * 100_000),
            ("defaults", '{"a": 1}', {"a": 1}),
            ("retry.retries", "5", 5),
            ("retry.delay", "0.5", 0.5),
            ("http.timeout", "5", 5),
            ("runner.calls", "20", 20),
            ("runner.timeout", "null", None),
            ("runner.retry.retries", "5", 5),
        ],
    )
    def test_a_setting_is_changed_and_read_again(
        self, tmp_path: Path, key: str, text: str, value: Any
    ) -> None:
        changed = change_setting(ProjectFile(), key, text)
        assert get_setting(changed, key) == value
        write_project_file(tmp_path, changed)
        assert get_setting(read_project_file(tmp_path), key) == value
        load(tmp_path)

    def test_the_other_settings_stay(self) -> None:
        before = ProjectFile(adaptor="a", defaults={"x": 1, "y": {"z": 2}}, runner={"calls": 3})
        after = change_setting(before, "defaults.y.q", "5")
        assert after == ProjectFile(
            "a", defaults={"x": 1, "y": {"z": 2, "q": 5}}, runner={"calls": 3}
        )
        assert before.defaults == {"x": 1, "y": {"z": 2}}

    @pytest.mark.parametrize(
        ("key", "text", "part"),
        [
            ("adapter", "x", "did you mean 'adaptor'?"),
            ("retry.retires", "5", "did you mean 'retries'?"),
            ("http.timeuot", "5", "did you mean 'timeout'?"),
            ("runner.callz", "5", "did you mean 'calls'?"),
            ("runner.retry.dely", "5", "did you mean 'delay'?"),
            ("runner.calls", "many", "Expected `int`, got `str`"),
            ("runner.calls", "1.5", "Expected `int`, got `float`"),
            ("runner.calls", "true", "Expected `int`, got `bool`"),
            ("http.allow_private", "yes", "Expected `bool`, got `str`"),
            ("retry.retries", "null", "Expected `int`, got `null`"),
            ("defaults", "5", "Expected `object`, got `int`"),
            ("adaptor.x", "5", "adaptor holds a value, 'adaptor.x' cannot be set below it"),
            ("", "5", "'' is not the name of a setting"),
            ("defaults.", "5", "'defaults.' is not the name of a setting"),
            ("defaults..x", "5", "'defaults..x' is not the name of a setting"),
            (".", "5", "'.' is not the name of a setting"),
        ],
    )
    def test_a_wrong_change_is_refused(self, key: str, text: str, part: str) -> None:
        before = ProjectFile(defaults={"x": 1})
        with pytest.raises(ConfigError) as caught:
            change_setting(before, key, text)
        assert part in str(caught.value)
        assert before == ProjectFile(defaults={"x": 1})

    @pytest.mark.parametrize(
        ("key", "part"),
        [
            ("adapter", "'adapter' is not known, did you mean 'adaptor'?"),
            ("defaults.userID", "did you mean 'userId'?"),
            ("defaults.zzz", "'zzz' is not known, there are userId"),
            ("adaptor.x", "'x' is not known, there are none"),
            ("", "'' is not known, there are adaptor,"),
        ],
    )
    def test_a_setting_that_is_not_there(self, key: str, part: str) -> None:
        with pytest.raises(ConfigError) as caught:
            get_setting(ProjectFile(defaults={"userId": "john"}), key)
        assert f"there is no setting {key!r}" in str(caught.value)
        assert part in str(caught.value)

    def test_a_whole_section_is_got_as_plain_data(self) -> None:
        content = ProjectFile(retry=RetryPolicy(retries=1))
        assert get_setting(content, "retry")["retries"] == 1
        assert get_setting(content, "runner") == {}


WAIT_AND_LOAD = """
import sys
from pathlib import Path
from sequential.config import load_secret
print("ready", flush=True)
sys.stdin.readline()
print(load_secret(Path(sys.argv[1]), {}).hex())
"""


class TestSecret:
    def test_it_is_made_once(self, tmp_path: Path) -> None:
        first = load_secret(tmp_path, {})
        assert len(first) == 32
        assert load_secret(tmp_path, {}) == first
        assert load_secret(tmp_path / ".", {}) == first

    def test_nobody_else_can_read_it(self, tmp_path: Path) -> None:
        old = os.umask(0)
        try:
            load_secret(tmp_path, {})
        finally:
            os.umask(old)
        path = tmp_path / ".sequential" / "secret.key"
        assert path.stat().st_mode & 0o777 == 0o600

    def test_version_control_passes_over_it(self, tmp_path: Path) -> None:
        load_secret(tmp_path, {})
        assert (tmp_path / ".sequential" / ".gitignore").read_text() == "*\n"
        names = {path.name for path in (tmp_path / ".sequential").iterdir()}
        assert names == {".gitignore", "secret.key"}

    def test_every_project_has_its_own(self, tmp_path: Path) -> None:
        one, other = tmp_path / "one", tmp_path / "other"
        one.mkdir()
        other.mkdir()
        assert load_secret(one, {}) != load_secret(other, {})

    def test_the_variable_goes_before_the_file(self, tmp_path: Path) -> None:
        given = load_secret(tmp_path, {"SEQUENTIAL_SECRET": "hello"})
        assert len(given) == 32
        assert given == load_secret(tmp_path / "elsewhere", {"SEQUENTIAL_SECRET": "hello"})
        assert given != load_secret(tmp_path, {"SEQUENTIAL_SECRET": "hello "})
        assert list(tmp_path.iterdir()) == []
        assert load_secret(tmp_path, {"SEQUENTIAL_SECRET": ""}) == load_secret(tmp_path, {})

    def test_processes_that_start_at_once_agree(self, tmp_path: Path) -> None:
        command = [sys.executable, "-c", WAIT_AND_LOAD, str(tmp_path)]
        started = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        keys = {process.communicate(timeout=30)[0].strip() for process in started}
        assert keys == {load_secret(tmp_path, {}).hex()}

    def test_the_process_that_comes_second_takes_the_key_of_the_first(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = b"1" * 32

        def too_late(_: str, target: Path) -> None:
            target.write_bytes(first)
            raise FileExistsError

        monkeypatch.setattr(os, "link", too_late)
        assert load_secret(tmp_path, {}) == first

    @pytest.mark.parametrize("function", ["link", "fsync"])
    def test_where_it_cannot_be_kept_every_process_has_its_own(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
    ) -> None:
        def read_only(*_: object) -> None:
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr(os, function, read_only)
        one, other = load_secret(tmp_path, {}), load_secret(tmp_path, {})
        assert len(one) == len(other) == 32
        assert one != other
        assert [path.name for path in (tmp_path / ".sequential").iterdir()] == [".gitignore"]

    def test_where_no_folder_can_be_made(self, tmp_path: Path) -> None:
        (tmp_path / ".sequential").write_text("a file, not a folder")
        assert len(load_secret(tmp_path, {})) == 32
        assert len(load_secret(tmp_path / "nowhere", {})) == 32

    @pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
    def test_a_damaged_file_is_not_used_and_not_overwritten(
        self, tmp_path: Path, content: bytes
    ) -> None:
        path = tmp_path / ".sequential" / "secret.key"
        path.parent.mkdir()
        path.write_bytes(content)
        key = load_secret(tmp_path, {})
        assert len(key) == 32
        assert key != load_secret(tmp_path, {})
        assert path.read_bytes() == content

    def test_the_keystore_takes_the_same_source(self, tmp_path: Path) -> None:
        assert lasting_secret(tmp_path, {"SEQUENTIAL_SECRET": "hello"}) == b"hello"
        assert lasting_secret(tmp_path, {}) == load_secret(tmp_path, {})
        assert lasting_secret(tmp_path, {}) == lasting_secret(tmp_path, {})

    @pytest.mark.parametrize("content", [b"", b"short", None])
    def test_the_keystore_never_takes_a_key_of_this_process_alone(
        self, tmp_path: Path, content: bytes | None
    ) -> None:
        path = tmp_path / ".sequential" / "secret.key"
        if content is None:
            path.parent.write_text("a file, not a folder")
        else:
            path.parent.mkdir()
            path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"secret\.key .* set the variable SEQUENTIAL_SECRET"):
            lasting_secret(tmp_path, {})


@pytest.mark.parametrize(
    ("section", "setting", "value", "said"),
    [
        ("runner", "calls", 0, ">= 1"),
        ("runner", "live_programs", 0, ">= 1"),
        ("runner", "lease", -5, "> 0.0"),
        ("runner", "timeout", 0, "> 0.0"),
        ("http", "timeout", 0, "> 0.0"),
        ("http", "body_limit", 0, ">= 1"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(
    tmp_path: Path, section: str, setting: str, value: float, said: str
) -> None:
    (tmp_path / ".sequentialrc.json").write_text(json.dumps({section: {setting: value}}))
    with pytest.raises(ConfigError, match=rf"{said} - at `\$\.{setting}`"):
        load_settings(tmp_path, environment={})
