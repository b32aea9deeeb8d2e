from typing import Any

from sequential.runtimes.sandbox.modules import external_modules


def names(methods: list[str]) -> Any:
    def tree(module: Any) -> Any:
        return {n: tree(m) if hasattr(m, "attrs") else "method" for n, m in module.attrs.items()}

    return tree(external_modules(methods)["services"])


def test_methods_are_a_tree_of_names() -> None:
    assert names(["crm.find", "gmail.users.list", "gmail.users.get"]) == {
        "crm": {"find": "method"},
        "gmail": {"users": {"list": "method", "get": "method"}},
    }


def test_names_that_no_task_can_write_are_left_out() -> None:
    assert names(["admin-debug.test", "crm.do-it", "crm.class", "crm.find"]) == {
        "crm": {"find": "method"}
    }


def test_a_name_is_a_method_or_has_methods_below_it() -> None:
    expected = {"crm": {"users": {"list": "method"}}}
    assert names(["crm.users", "crm.users.list"]) == expected
    assert names(["crm.users.list", "crm.users"]) == expected
