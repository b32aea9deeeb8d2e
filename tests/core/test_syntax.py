"""Sources are parsed in many threads at a time."""

import ast
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sequential.core import syntax

ITEMS = ", ".join(f"(x{n}, {{{n}: [{n}]}})" for n in range(200))
SOURCE = f"def main():\n    return [{ITEMS}]\n"


def test_many_threads_parse_at_the_same_time() -> None:
    with ThreadPoolExecutor(8) as threads:
        trees = list(threads.map(syntax.parse, [SOURCE] * 64))
    assert {ast.dump(tree) for tree in trees} == {ast.dump(ast.parse(SOURCE))}


def test_what_is_no_fault_of_the_source_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    parse, failures = ast.parse, [SystemError("AST constructor recursion depth mismatch")] * 3

    def unlucky(*given: Any) -> Any:
        if failures:
            raise failures.pop()
        return parse(*given)

    monkeypatch.setattr(ast, "parse", unlucky)
    assert isinstance(syntax.parse("x = 1"), ast.Module)
    with pytest.raises(SyntaxError):
        syntax.parse("x =")
