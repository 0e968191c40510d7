"""Files that commands write: with their modes from the first byte on, and nothing overwritten by accident."""

import os
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final

import click

__all__ = ["SECRET", "PUBLIC", "check_free", "read", "write"]

#: The modes of keys, and of everything else.
SECRET: Final = 0o600
PUBLIC: Final = 0o644

#: Bytes of a file that is read.
_MAX_READ: Final = 1 << 20


def check_free(paths: Iterable[str], force: bool) -> None:
    """Look before something is made that cannot be made twice.

    :raises ClickException: one is there and may not be replaced, or its directory is not there.
    """
    for path in paths:
        directory = os.path.dirname(path) or "."
        if not os.access(directory, os.W_OK | os.X_OK):
            raise click.ClickException(f"cannot write into {directory}")
        if os.path.lexists(path) and (not force or os.path.isdir(path)):
            raise click.ClickException(
                f"{path} is there already; give another --out, or --force to replace it"
            )


def read(path: str) -> bytes:
    """A small file. :raises ClickException: it cannot be read."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_READ + 1)
    except OSError as error:
        raise click.ClickException(f"cannot read {path}: {error.strerror}") from error
    if len(data) > _MAX_READ:
        raise click.ClickException(f"{path} has more than {_MAX_READ} bytes")
    return data


def write(files: Mapping[str, tuple[bytes, int]], force: bool) -> None:
    """Write files whole, in this order.

    :param files: path to content and mode.
    :raises ClickException: one cannot be written, or is there meanwhile.
    """
    for path, (data, mode) in files.items():
        new = f"{path}.{secrets.token_hex(8)}"
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    os.fchmod(file.fileno(), mode)
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                if force:
                    os.replace(new, path)
                else:
                    os.link(new, path)  # which fails where something is
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(new)
        except OSError as error:
            raise click.ClickException(f"cannot write {path}: {error.strerror}") from error
