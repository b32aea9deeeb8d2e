"""The functions of examples/edge are what the platforms look for."""

import importlib.util
import json
from pathlib import Path
from types import FunctionType, ModuleType

import azure.functions as func
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "edge"


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("example", EXAMPLES / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("lambda_function.py", ["handler"]),
        ("main.py", ["handler", "on_event"]),
        ("app.py", ["app"]),
        ("vercel/api/index.py", ["app"]),
    ],
)
def test_each_has_what_its_platform_calls(path: str, names: list[str]) -> None:
    module = load(path)
    assert all(isinstance(getattr(module, name), FunctionType) for name in names)


def test_azure_finds_its_functions() -> None:
    app = load("function_app.py").app
    assert isinstance(app, func.FunctionApp)
    assert sorted(str(one.get_function_name()) for one in app.get_functions()) == ["main", "sweep"]


def test_vercel_is_told_about_the_cron() -> None:
    settings = json.loads((EXAMPLES / "vercel" / "vercel.json").read_text())
    assert settings["crons"] == [{"path": "/sweep", "schedule": "* * * * *"}]
