"""`graph`: a task's graph as a drawing, with what a run has done marked in it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sequential.cli import output
from sequential.cli.graph_schema import schema_text
from sequential.cli.project import Project
from sequential.cli.usage import WithExample
from sequential.errors import ConfigError, InvalidTaskError

if TYPE_CHECKING:
    from sequential.core.diagrams.marks import Marks
    from sequential.core.statechart.machine import Machine
    from sequential.runner.engine import Engine


@click.command(
    "graph",
    short_help="Draw the graph of a task, or how far a run has come in it.",
    cls=WithExample,
    example="""
    graph order --svg --output order.svg
    graph order --run 019a2b3c --svg --output run.svg
    graph order --mermaid
    graph --schema --output tasks/graph.schema.json
    """,
)
@click.argument("name", required=False)
@click.option(
    "--run",
    "run_id",
    metavar="ID",
    help="Mark what this run has done; the beginning of an id will do.",
)
@click.option("--svg", "form", flag_value="svg", help="A picture, for browsers and files.")
@click.option(
    "--mermaid",
    "form",
    flag_value="mermaid",
    help="Text that many Markdown readers draw. This is what is printed if nothing is said.",
)
@click.option("--schema", "form", flag_value="schema", help="The JSON Schema of graph.json.")
@click.option(
    "--output",
    "path",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write it to a file instead of stdout.",
)
@click.pass_obj
def graph_command(
    project: Project, name: str | None, run_id: str | None, form: str | None, path: Path | None
) -> None:
    """Draw the graph of a task: its states, and what leads from one to the next.

    With --run the graph is the one that the run began with: the states it is in are marked, those
    it has been in, and the ways it took.
    """
    if form == "schema":
        if name or run_id:
            raise click.UsageError("--schema is the same for every task: name none")
        _give(schema_text(), path)
        return
    if name is None:
        raise click.UsageError("name a task, or ask for --schema")

    async def load(engine: "Engine") -> "tuple[Machine, Marks]":
        if run_id is None:
            return await _of_task(engine, name)
        return await _of_run(engine, name, run_id)

    machine, marks = project.with_engine(load, task=name)
    _give(_drawn(machine, marks, name, as_svg=form == "svg"), path)


async def _of_task(engine: "Engine", name: str) -> "tuple[Machine, Marks]":
    from sequential.core.diagrams.marks import Marks
    from sequential.core.task_graph import machine_of

    task = await engine.get_task(name)
    if task.config.graph is None:
        raise InvalidTaskError(f"{name} has no graph.json, so there is nothing to draw")
    return machine_of(task.config.graph, task.code, name), Marks()


async def _of_run(engine: "Engine", name: str, run_id: str) -> "tuple[Machine, Marks]":
    from sequential.core.diagrams.marks import marks_of
    from sequential.core.task_graph import machine_of

    run = await engine.find_run(run_id, name)
    if run.config.graph is None:
        parent = f": draw its parent, {run.parent_run_id}" if run.config.handler else ""
        raise InvalidTaskError(f"the run {run.id} follows no graph{parent}")
    machine = machine_of(run.config.graph, run.code, name)
    calls = await engine.list_calls(run.id)
    steps = [call.input for call in calls if call.operation == "graph.step"]
    return machine, marks_of(machine.chart, steps)


def _drawn(machine: "Machine", marks: "Marks", name: str, *, as_svg: bool) -> str:
    from sequential.core.diagrams.mermaid import mermaid
    from sequential.core.diagrams.svg import svg

    title = machine.graph.get("title") or machine.graph.get("id") or name
    return svg(machine.chart, marks, str(title)) if as_svg else mermaid(machine.chart, marks)


def _give(text: str, path: Path | None) -> None:
    if path is None:
        output.out(text.rstrip("\n"))
        return
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise ConfigError(
            f"{output.clean(str(path))} cannot be written: {error.strerror}"
        ) from error
    output.hint(f"written to {output.clean(str(path))}")
