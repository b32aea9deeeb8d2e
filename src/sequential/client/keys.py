"""The secrets of a server's store: they go there and never come back."""

from sequential.client.connection import Connection
from sequential.client.pages import listed
from sequential.core.names import check_secret_name
from sequential.errors import SecretNotFoundError


class RemoteKeystore:
    """Secrets by name, as tasks on the server use them. Nobody can read a value from afar."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def set(self, name: str, value: str) -> None:
        """Keep a value, in place of another of this name.

        Raises `InvalidNameError`, and `InvalidInputError` for a value that is empty, too long or no
        text.
        """
        path = f"/keys/{check_secret_name(name)}"
        await self._connection.request("PUT", path, body={"value": value})

    async def delete(self, *names: str) -> None:
        """Remove secrets: all of them, or none and `SecretNotFoundError` if one is not there."""
        known = await self.list()
        for name in names:
            if check_secret_name(name) not in known:
                raise SecretNotFoundError(f"there is no secret {name}")
        for name in names:
            await self._connection.request("DELETE", f"/keys/{name}", done_if=SecretNotFoundError)

    async def list(self) -> list[str]:
        """All names, sorted."""
        return await listed(self._connection, "/keys", str)
