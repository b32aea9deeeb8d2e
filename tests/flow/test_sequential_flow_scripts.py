"""How the code of a flow is made a task: lines stay where they are, and nothing hostile hurts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequential.core.names import check_task_name
from sequential.flow.script import as_task, original, service_methods, task_name


@pytest.mark.parametrize(
    "code",
    [
        "1 + 1",
        "result = await fetch('u')",
        "async def main(): pass",
        "async def main(): pass\nawait main()",
        "x = 1\n(x +\n 2)  # c\n",
        "",
        "'é'; 'é', 3",
        "x = = 1",
        "__flow_result__ = 3\n__flow_result__",
    ],
)
def test_a_task_keeps_the_lines_of_its_code_and_gives_it_back(code: str) -> None:
    task = as_task(code, "flow")
    assert original(task) == code
    lines, own = task.split("\n"), code.rstrip("\n").split("\n")
    assert all(line.endswith(one.split("; ")[-1]) for line, one in zip(lines, own, strict=False))


@given(st.text(alphabet="ab=()\n#'é:; ._result", max_size=60))
def test_any_text_is_given_back(code: str) -> None:
    assert original(as_task(code, "flow")) == code


@pytest.mark.parametrize(
    "code",
    [
        "services" + ".a" * 3000,
        "if " + "a + " * 3000 + "a: pass",
        "x = " + "[" * 150 + "]" * 150,
        "(" * 100_000,
        "-" * 100_000 + "1",
        "\n".join(f"services.a.b{number}()" for number in range(3000)),
        "\x00",
    ],
)
def test_hostile_code_is_only_code(code: str) -> None:
    assert original(as_task(code, "flow")) == code
    assert len(service_methods(code)) <= 3000


def test_methods_of_services_are_found_where_they_are_called() -> None:
    code = "services.crm.find(1)\nawait services.gapi.admin.users.list()\nservices.x\nother.a.b()"
    assert service_methods(code) == ("crm.find", "gapi.admin.users.list")


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("my-emails", "my-emails"),
        ("My flow!", "My-flow"),
        ("result", "flow-result"),
        ("class", "flow-class"),
        ("9 lives", "flow-9-lives"),
        ("x" * 200, "x" * 64),
        ("é", "flow"),
        ("../../etc", "etc"),
        ("con", "flow-con"),
    ],
)
def test_any_name_has_one_that_is_narrow(name: str, task: str) -> None:
    assert check_task_name(task_name(name)) == task
