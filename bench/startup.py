"""What a user waits for: the import, the help, and a run of a task with one call."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.table import milliseconds, show

ROUNDS = 7
PROGRAM = [str(Path(sys.executable).with_name("sequential"))]
TASK = "async def hello(input):\n    return await services.local.answer(input)\n"


def seconds(command: list[str], folder: Path) -> float:
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tasks" / "hello").mkdir(parents=True)
        (folder / "tasks" / "hello" / "code.py").write_text(TASK)
        (folder / "services").mkdir()
        (folder / "services" / "local.py").write_text("def answer(x):\n    return x\n")
        commands = {
            "python -c pass (floor)": [sys.executable, "-c", "pass"],
            "python -c 'import sequential'": [sys.executable, "-c", "import sequential"],
            "--help": [*PROGRAM, "--help"],
            "run of a task with one call": [*PROGRAM, "run", "hello"],
        }
        times: dict[str, list[float]] = {label: [] for label in commands}
        for number in range(ROUNDS + 1):
            for label, command in commands.items():
                taken = seconds(command, folder)
                if number:  # the first round fills the caches
                    times[label].append(taken)
    base = statistics.median(times["python -c pass (floor)"])
    rows = [
        [label, milliseconds(statistics.median(t)), f"{statistics.median(t) / base:.1f}x"]
        for label, t in times.items()
    ]
    show("Start-up (medians of 7 rounds)", ["command", "ms", "to the floor"], rows)


if __name__ == "__main__":
    main()
