"""What a task consists of, as one digest: to tell whether two stores hold the same."""

import hashlib
from typing import Any

import msgspec

from sequential.core.model import TaskConfig


def content_hash(code: str, config: TaskConfig, filename: str) -> str:
    """The SHA-256 of a task's program, policy and file name, in hexadecimal.

    Fields of the policy that have their default value do not count, so a later version of this
    package that knows more fields finds the same digest.
    """
    content = {"code": code, "config": _said(config), "filename": filename}
    encoded = msgspec.json.encode(content, order="sorted")
    return hashlib.sha256(encoded).hexdigest()


def _said(value: Any) -> Any:
    """A record without what is left to the defaults."""
    if isinstance(value, msgspec.Struct):
        return {
            field.name: _said(getattr(value, field.name))
            for field in msgspec.structs.fields(value)
            if getattr(value, field.name) != field.default
        }
    if isinstance(value, tuple):
        return [_said(item) for item in value]
    return value
