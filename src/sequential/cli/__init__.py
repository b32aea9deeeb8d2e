"""The command line, `sequential-ecosystem` or `sequential` for short."""


def main() -> None:
    """Run the command line and end the process with its exit code."""
    from sequential.cli.app import start

    start()
