"""Choose the versions in `constraints.txt` again: the newest that pyproject.toml permits.

The file pins everything that the package, its tests and its build need, for every Python and
platform at once, with the hashes of all files of each version. It names no index and no address,
so that it works with whatever index pip is set up to use.
"""

import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "constraints.txt"
OLDEST_PYTHON = "3.11"
HEADER = """\
# Versions and hashes of all that is installed into .venv. Written by `make pin`.
"""


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        resolver = _install_resolver(Path(folder))
        pinned = _resolve(resolver)
    if found := re.search(r"://|file:|/", pinned):
        print(f"the resolver wrote an address or a path ({found[0]}): not kept", file=sys.stderr)
        return 1
    TARGET.write_text(HEADER + pinned)
    print(f"{TARGET.name}: {pinned.count('==')} packages")
    return 0


def _install_resolver(folder: Path) -> Path:
    """uv resolves for all platforms at once, which pip cannot."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "uv"], check=True)
    return folder / "bin" / "uv"


def _resolve(resolver: Path) -> str:
    command: list[str | Path] = [
        *(resolver, "pip", "compile", "pyproject.toml", "--group", "dev", "--quiet"),
        *("--universal", "--python-version", OLDEST_PYTHON, "--upgrade"),
        *("--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url"),
    ]
    done = subprocess.run(command, cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE)
    return str(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
