"""The digest of a task: the same for the same content, whoever wrote it down."""

import msgspec
import pytest

from sequential.core.content import content_hash
from sequential.core.model import Allow, InputField, Limits, RetryPolicy, TaskConfig

CONFIG = TaskConfig(
    "t", "does it", "sandbox", (InputField("a"), InputField("b", "integer")), timeout=5.0
)
DIGEST = content_hash("x = 1", CONFIG, "code.py")


def test_it_is_a_sha_256() -> None:
    assert len(DIGEST) == 64
    assert int(DIGEST, 16)
    assert content_hash("x = 1", CONFIG, "code.py") == DIGEST


@pytest.mark.parametrize(
    ("code", "config", "filename"),
    [
        ("x = 2", CONFIG, "code.py"),
        ("x = 1", CONFIG, "code.js"),
        ("x = 1", TaskConfig("t"), "code.py"),
        ("x = 1", msgspec.structs.replace(CONFIG, retry=RetryPolicy()), "code.py"),
        ("x = 1", msgspec.structs.replace(CONFIG, allow=Allow(hosts=())), "code.py"),
        ("x = 1", msgspec.structs.replace(CONFIG, limits=Limits(memory_mb=1)), "code.py"),
        ("x = 1", msgspec.structs.replace(CONFIG, inputs=(InputField("a"),)), "code.py"),
    ],
)
def test_every_part_counts(code: str, config: TaskConfig, filename: str) -> None:
    assert content_hash(code, config, filename) != DIGEST


def test_what_is_left_to_the_defaults_does_not_count() -> None:
    """So that a later version with more fields finds the same digest."""
    said = b'{"name": "t", "limits": {"memory_mb": 256}, "inputs": [], "allow": {}}'
    config = msgspec.json.decode(said, type=TaskConfig)
    assert content_hash("", config, "code.py") == content_hash("", TaskConfig("t"), "code.py")
    assert content_hash("", TaskConfig("t"), "code.py") == (
        "d2998efb116703c5579e32331cae72034a8f8ac40a1cf90edf03d3084add3099"
    )


def test_any_text_has_a_digest() -> None:
    assert content_hash("\0\n'ü😀", TaskConfig("t"), "code.py")
