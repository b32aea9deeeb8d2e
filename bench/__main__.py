"""All measurements, one after the other, each in a process of its own."""

import subprocess
import sys

for measurement in (
    "steps",
    "storage",
    "workers",
    "resume",
    "startup",
    "edge",
    "memory",
    "statechart",
    "graphs",
    "server",
):
    subprocess.run([sys.executable, "-m", f"bench.{measurement}"], check=True)
