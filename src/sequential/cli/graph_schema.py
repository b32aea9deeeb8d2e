"""The JSON Schema of graph.json: editors complete and check a graph with it while it is written.

It is part of the package, and `create-task --with-graph` puts it into the tasks folder, once: so an
editor finds it from every graph of the project without a network.
"""

from importlib import resources
from pathlib import Path

FILE_NAME = "graph.schema.json"
REFERENCE = f"../{FILE_NAME}"  # the "$schema" of a tasks/<name>/graph.json


def schema_text() -> str:
    """The schema, as a JSON text."""
    return (resources.files("sequential") / "schemas" / FILE_NAME).read_text("utf-8")


def keep_schema(tasks: Path) -> Path:
    """Put the schema of this version into the tasks folder, and say where it is.

    Raises `OSError` for a folder that cannot be written.
    """
    path = tasks / FILE_NAME
    path.write_text(schema_text(), "utf-8")
    return path
