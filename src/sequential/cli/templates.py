"""What `create-task` writes: a first program that runs as it is and explains itself."""

import difflib
import json

from sequential.cli.graph_schema import REFERENCE
from sequential.core.inputs import TYPES
from sequential.core.model import InputField
from sequential.core.names import check_field_name, snake_case
from sequential.errors import InvalidInputError

_ANNOTATIONS = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "object": "dict",
    "array": "list",
}
_QUERY_TYPES = ("string", "integer", "number")  # what fits into a query string
_TAKEN = {"fetch", "print", "response", "dict", "list", "str", "int", "float", "bool"}

_CODE = """\
{docstring}from sequential.task import fetch  # known in every task; the import is for your editor


async def {function}({parameters}) -> dict:
    # Every `await fetch(...)` is a checkpoint: it is written down before and after it is made.
    # After a crash the run goes on right here, with all its variables, and asks no question again
    # that has been answered.
    {call}
    response.raise_for_status()  # a status such as 404 is no error until you ask for one

    print("answered with", response.status)  # kept as the log of the run

    # What is returned is the run's result. It is kept with the run, for `show` and `history`.
    return {{"success": True, "data": response.json()}}
"""

_GRAPH_CODE = """\
{docstring}from sequential.task import fetch  # known in every task; the import is for your editor

# graph.json says which state follows which. A state runs the function of its name as a durable run
# of its own: after a crash it goes on where it was, and states that are done are not run again.


async def step1(input: dict, context: dict) -> dict:
    # The first state gets the input of the run; context["state"] names the state, context["input"]
    # is the input of the run, context["results"] has what each state has returned.
    {call}
    response.raise_for_status()  # what is raised here leads to the state that "onError" names
    return response.json()


async def step2(input: dict, context: dict) -> dict:
    # Any other state gets what the one before it has returned.
    print("step1 was answered with", input)  # kept as the log of the run
    return {{"success": True, "data": input}}


def errorHandler(error: dict) -> dict:
    # The state that "onError" names gets the error; what a last state returns is the run's result.
    return {{"success": False, "error": error["message"]}}
"""


def graph(task: str) -> str:
    """The graph of a new task: two steps, and a state for what goes wrong in the first."""
    first, *more = task.replace("_", "-").split("-")
    states = {
        "step1": {
            "description": "First execution chunk",
            "onDone": "step2",
            "onError": "errorHandler",
        },
        "step2": {"description": "Second execution chunk", "onDone": "complete"},
        "errorHandler": {"type": "final"},
        "complete": {"type": "final"},
    }
    head = {"$schema": REFERENCE, "id": first + "".join(word.title() for word in more)}
    return json.dumps({**head, "initial": "step1", "states": states}, indent=2) + "\n"


def graph_code(fields: tuple[InputField, ...], description: str) -> str:
    """The source of a new task with a graph: a function for each state that does something."""
    return _GRAPH_CODE.format(docstring=_docstring(description), call=_call(fields, 'input["{}"]'))


def input_fields(text: str) -> tuple[InputField, ...]:
    """The fields that `userId,email,limit:integer` names; a field without a type is a string."""
    fields: list[InputField] = []
    for part in [part.strip() for part in text.split(",") if part.strip()]:
        name, _, kind = (piece.strip() for piece in part.partition(":"))
        check_field_name(name)
        if name in _TAKEN:
            raise InvalidInputError(
                f'an input cannot be called "{name}": the task needs this name itself'
            )
        if name in [field.name for field in fields]:
            raise InvalidInputError(f'the input "{name}" is named twice')
        fields.append(InputField(name=name, type=_type(name, kind), description=_words(name)))
    return tuple(fields)


def code(task: str, fields: tuple[InputField, ...], description: str) -> str:
    """The source of a new task."""
    function = snake_case(task)
    taken = _TAKEN | {field.name for field in fields}
    parameters = [_parameter(field) for field in fields]
    return _CODE.format(
        docstring=_docstring(description),
        function="main" if function in taken else function,
        parameters=", ".join(parameters),
        call=_call(fields),
    )


def _type(name: str, kind: str) -> str:
    if not kind:
        return "string"
    if kind not in TYPES:
        near = difflib.get_close_matches(kind, [*TYPES, *_ANNOTATIONS.values()], n=1)
        python = {annotation: json for json, annotation in _ANNOTATIONS.items()}
        hint = f"did you mean {python.get(near[0], near[0])}? " if near else ""
        raise InvalidInputError(
            f'the type of the input "{name}" is not known: {kind[:40]!a}; '
            f"{hint}There are {', '.join(TYPES)}"
        )
    return kind


def _parameter(field: InputField) -> str:
    annotation = _ANNOTATIONS.get(field.type)
    return f"{field.name}: {annotation}" if annotation else field.name


def _call(fields: tuple[InputField, ...], named: str = "{}") -> str:
    """A request that the server echoes, so that the first run shows where the inputs went."""
    pairs = [f'"{field.name}": {named.format(field.name)}' for field in fields]
    values = "{" + ", ".join(pairs) + "}"
    if not fields:
        return 'response = await fetch("https://postman-echo.com/get")'
    if all(field.type in _QUERY_TYPES for field in fields):
        call = f'response = await fetch("https://postman-echo.com/get", params={values})'
        start, option = 'fetch(\n        "https://postman-echo.com/get",', f"params={values}"
    else:
        call = (
            f'response = await fetch("https://postman-echo.com/post", method="POST", json={values})'
        )
        start = 'fetch(\n        "https://postman-echo.com/post",\n        method="POST",'
        option = f"json={values}"
    if len(call) <= 92:
        return call
    return f"response = await {start}\n        {option},\n    )"


def _docstring(description: str) -> str:
    """The description as the module's docstring, whatever it holds."""
    if not description:
        return ""
    text = description.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    text = text + " " if text.endswith('"') else text
    return f'"""{text}"""\n\n'


def _words(name: str) -> str:
    """`userId` -> `user id`: a first description, there to be replaced."""
    pieces = "".join(f" {c.lower()}" if c.isupper() else c for c in name).replace("_", " ").split()
    return " ".join(pieces)
