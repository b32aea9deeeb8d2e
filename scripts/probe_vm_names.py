"""Ask the sandbox's VM which names of Python it knows, and write them down for the linter.

Run it after every change of the pinned `pydantic-monty`:

    python scripts/probe_vm_names.py

The candidates are the names of the Python that runs this script, plus those of later versions
listed below, because the VM follows a later Python than the oldest one we support.
"""

import builtins
import importlib
import json
import sys
import warnings
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from pydantic_monty import (
    CollectString,
    FutureSnapshot,
    Monty,
    MontyComplete,
    MontyError,
    MontySession,
    NameLookupSnapshot,
    ResourceLimits,
)

TARGET = Path(__file__).parent.parent / "src/sequential/runtimes/sandbox/vm_names.json"
LIMITS: ResourceLimits = {
    "max_turn_duration_secs": 20.0,
    "max_memory": 256 << 20,
    "max_suspensions": 10**6,
}
SUBMODULES = ["collections.abc", "concurrent.futures", "os.path", "urllib.parse", "xml.etree"]
LATER_MODULES = ["annotationlib", "string.templatelib", "compression.zstd", "zoneinfo"]
LATER_NAMES = {
    "asyncio": ["Queue", "QueueShutDown", "TaskGroup", "Runner", "timeout", "timeout_at"],
    "builtins": ["PythonFinalizationError", "aiter", "anext"],
    "copy": ["replace"],
    "functools": ["Placeholder"],
    "itertools": ["batched"],
    "math": ["fma", "fmax", "fmin", "sumprod"],
    "os": ["process_cpu_count"],
    "pathlib": ["UnsupportedOperation", "types"],
    "random": ["binomialvariate"],
    "typing": ["NoDefault", "ReadOnly", "TypeAliasType", "TypeIs", "get_protocol_members",
               "is_protocol", "override"],
}  # fmt: skip
LATER_METHODS = {"Path": ["walk", "full_match", "copy", "move", "from_uri", "info"]}
# How a value of each type is made, here and in the VM.
VALUES = {
    "str": "'a'",
    "bytes": "b'a'",
    "int": "1",
    "float": "1.5",
    "complex": "1j",
    "bool": "True",
    "list": "[1]",
    "tuple": "(1,)",
    "dict": "{1: 2}",
    "set": "{1}",
    "frozenset": "frozenset([1])",
    "range": "range(3)",
    "datetime": "datetime.datetime(2026, 1, 2)",
    "date": "datetime.date(2026, 1, 2)",
    "time": "datetime.time(1, 2)",
    "timedelta": "datetime.timedelta(1)",
    "timezone": "datetime.timezone.utc",
    "Decimal": "decimal.Decimal('1.5')",
    "Path": "pathlib.Path('a/b')",
    "Pattern": "re.compile('a')",
    "Match": "re.match('a', 'a')",
    "Counter": "collections.Counter('a')",
    "defaultdict": "collections.defaultdict(int)",
    "deque": "collections.deque([1])",
    "Random": "random.Random(1)",
    "Hash": "hashlib.sha256()",
}
# Types whose name alone can stand before the dot: `dict.fromkeys(...)`.
TYPES = {
    **{name: name for name in ("str", "bytes", "int", "float", "complex", "bool", "list", "tuple")},
    **{name: name for name in ("dict", "set", "frozenset")},
    **{name: f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta", "timezone")},
    "Decimal": "decimal.Decimal",
    "Path": "pathlib.Path",
    "Counter": "collections.Counter",
    "deque": "collections.deque",
}
IMPORTS = "import collections, datetime, decimal, hashlib, pathlib, random, re\n"
PROBE_NAMES = """
def known(name):
    try:
        eval(prefix + name)
    except (AttributeError, NameError):
        return False
    except Exception:
        return True
    return True
[name for name in candidates if known(name)]
"""
# Methods are not values in the VM, so only calling one tells whether it exists.
PROBE_METHODS = """
def known(name, how):
    try:
        eval(how)
    except AttributeError as error:
        return ("attribute '" + name + "'") not in str(error)
    except Exception:
        return True
    return True
[
    name
    for name in candidates
    if known(name, "(" + made + ")." + name + "()") or known(name, "(" + made + ")." + name)
]
"""


def ask(session: MontySession, source: str, **inputs: object) -> object:
    """The value of the last expression; calls to the outside get the VM's own error."""
    snapshot = session.feed_start(source, inputs=inputs, print_callback=CollectString())
    while not isinstance(snapshot, MontyComplete):
        assert not isinstance(snapshot, FutureSnapshot)  # nothing here awaits
        if isinstance(snapshot, NameLookupSnapshot):
            snapshot = snapshot.resume()
        elif snapshot.function_name in ("import", "import_stubs"):
            snapshot = snapshot.resume_auto()
        elif snapshot.is_os_function:
            snapshot = snapshot.resume_not_handled()
        else:
            name = snapshot.function_name
            snapshot = snapshot.resume({"exc_type": "NameError", "message": name})
    return snapshot.output


def public(names: Iterable[str]) -> list[str]:
    return sorted({name for name in names if not name.startswith("_")})


def module_names(name: str) -> list[str]:
    """What the module of this name holds here; nothing if this Python has none."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return public(dir(importlib.import_module(name)))
    except ImportError:
        return []


def probe_modules(session: MontySession) -> dict[str, list[str]]:
    found = {}
    names = [name for name in sys.stdlib_module_names if not name.startswith("_")]
    for name in public([*names, *SUBMODULES, *LATER_MODULES]):
        try:
            ask(session, f"import {name}")
        except MontyError:
            continue
        candidates = public([*module_names(name), *LATER_NAMES.get(name, ())])
        source = f"import {name} as m\n{PROBE_NAMES}"
        found[name] = known(ask(session, source, candidates=candidates, prefix="m."))
    return found


def probe_builtins(session: MontySession) -> tuple[list[str], list[str]]:
    names = [*public(dir(builtins)), *LATER_NAMES["builtins"], "__import__"]
    candidates = sorted({*names} - {"copyright", "credits", "license"})
    present = known(ask(session, PROBE_NAMES, candidates=candidates, prefix=""))
    return present, [name for name in candidates if name not in present]


def probe_methods(session: MontySession, made: dict[str, str]) -> dict[str, dict[str, list[str]]]:
    found = {}
    scope: dict[str, object] = {}
    exec(IMPORTS, scope)  # noqa: S102 - the constants above
    for name, how in made.items():
        here = eval(how, scope)  # noqa: S307
        candidates = public([*dir(here), *LATER_METHODS.get(name, ())])
        present = known(ask(session, IMPORTS + PROBE_METHODS, candidates=candidates, made=how))
        methods = [one for one in present if callable(getattr(here, one, None))]
        found[name] = {
            "methods": methods,
            "data": [one for one in present if one not in methods],
            "absent": [one for one in candidates if one not in present],
        }
    return found


def known(output: object) -> list[str]:
    assert isinstance(output, Sequence)
    return sorted(map(str, output))


def main() -> None:
    with Monty(max_processes=1) as pool, pool.checkout(limits=LIMITS) as session:
        present, absent = probe_builtins(session)
        found = {
            "vm": version("pydantic-monty"),
            "python": "{}.{}".format(*sys.version_info),
            "modules": probe_modules(session),
            "builtins": present,
            "absent_builtins": absent,
            "methods": probe_methods(session, VALUES),
            "type_methods": probe_methods(session, TYPES),
        }
    TARGET.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
