"""Which runtimes there are. One is imported and started when the first run asks for it."""

from typing import TYPE_CHECKING

from sequential.errors import InvalidTaskError
from sequential.runtimes.base import Runtime

if TYPE_CHECKING:
    from sequential.runtimes.sandbox.pool import SandboxPool

NAMES = ("sandbox", "native")
NATIVE_REFUSED = (
    "native tasks do not run here, since they may do anything: an operator allows them with "
    "`sequential-ecosystem config set runner.native true`"
)


class Runtimes:
    """Makes runtimes and owns what they share, such as the pool of sandbox processes."""

    def __init__(self, processes: int, *, native: bool = False) -> None:
        self._processes = processes
        self._native = native
        self._pool: SandboxPool | None = None

    def create(self, name: str) -> Runtime:
        """A runtime for one run; raises `InvalidTaskError` for one that there is not, or not here.

        Native code is trusted code, so it takes an operator to say that it may run here.
        """
        if name == "graph":
            from sequential.runtimes.graph.runtime import GraphRuntime  # noqa: PLC0415

            return GraphRuntime()
        if name == "native":
            if not self._native:
                raise InvalidTaskError(NATIVE_REFUSED)
            from sequential.runtimes.native.runtime import NativeRuntime  # noqa: PLC0415

            return NativeRuntime()
        if name != "sandbox":
            raise InvalidTaskError(f"there is no runtime {name!r}; there are: {', '.join(NAMES)}")
        from sequential.runtimes.sandbox.pool import SandboxPool  # noqa: PLC0415
        from sequential.runtimes.sandbox.runtime import SandboxRuntime  # noqa: PLC0415

        if self._pool is None:
            self._pool = SandboxPool(self._processes)
        return SandboxRuntime(self._pool)

    async def close(self) -> None:
        """End all processes."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()
