"""Modules told of when they are imported, without importing any that nobody uses."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType
from typing import Any

Then = Callable[[ModuleType], None]
_MACHINERY = "<frozen importlib._bootstrap>"


def is_importing() -> bool:
    """Whether this thread is executing a module for the first time."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == _MACHINERY:
            return True
        frame = frame.f_back
    return False


class ImportHook(MetaPathFinder):
    """Does something with certain modules as soon as they are there."""

    def __init__(self, waiting: Mapping[str, Then]) -> None:
        self._waiting = dict(waiting)

    def install(self) -> None:
        """Begin, with the modules that are there already."""
        sys.meta_path.insert(0, self)
        for name in [*self._waiting]:
            if name in sys.modules:
                # Another thread may be importing it just now; this waits until it has.
                self._tell(name, importlib.import_module(name))

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the other finders find, with a loader that tells when it is done."""
        if fullname not in self._waiting:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None
            if finder is not self and find is not None:
                spec = find(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Telling(spec.loader, self._tell)
                return spec
        return None

    def _tell(self, name: str, module: ModuleType) -> None:
        then = self._waiting.pop(name, None)
        if then is not None:
            then(module)


class _Telling(Loader):
    """A loader of somebody else, which the module gets back before it is executed."""

    def __init__(self, real: Any, tell: Callable[[str, ModuleType], None]) -> None:
        self._real = real
        self._tell = tell

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        created: ModuleType | None = self._real.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        if module.__spec__ is not None:
            module.__spec__.loader = self._real
        module.__loader__ = self._real
        self._real.exec_module(module)
        self._tell(name, sys.modules.get(name, module))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def rebind(replaced: Mapping[Any, Any]) -> None:
    """Put new functions where modules took the old ones by name, as in `from time import sleep`.

    For modules that were imported before. Those of Python itself keep the old ones: what they wait
    for with them, such as locks, knows no run.
    """
    new = {id(old): replacement for old, replacement in replaced.items()}
    left_out = sys.stdlib_module_names | {__name__.partition(".")[0]}
    for name, module in [*sys.modules.items()]:
        if name.partition(".")[0] in left_out:
            continue
        names = getattr(module, "__dict__", None)
        if isinstance(names, dict):
            names.update({key: new[id(one)] for key, one in names.items() if id(one) in new})
