"""The names of Python that the sandbox's VM knows, as found by `scripts/probe_vm_names.py`."""

from functools import cache
from pathlib import Path

import msgspec


class Methods(msgspec.Struct, frozen=True):
    """What can stand after the dot of a value: methods only to be called, data only to be read."""

    methods: frozenset[str]
    data: frozenset[str]
    absent: frozenset[str]

    @property
    def present(self) -> frozenset[str]:
        return self.methods | self.data


class VmNames(msgspec.Struct, frozen=True):
    """Everything the linter knows about one version of the VM."""

    vm: str  # version of pydantic-monty
    python: str  # whose names were tried
    modules: dict[str, frozenset[str]]
    builtins: frozenset[str]
    absent_builtins: frozenset[str]
    methods: dict[str, Methods]  # of values
    type_methods: dict[str, Methods]  # of the types themselves, as in `dict.fromkeys(...)`


@cache
def vm_names() -> VmNames:
    path = Path(__file__).with_name("vm_names.json")
    return msgspec.json.decode(path.read_bytes(), type=VmNames)
