"""``mfserver ca``: the authority of a data directory, with no server asked."""

import os

import click

from mfserver.ca.imported import import_authority
from mfserver.cli import files
from mfserver.cli.server import line
from mfserver.errors import MFServerError

__all__ = ["ca"]


@click.group()
def ca() -> None:
    """The authority that signs certificates."""


@ca.command("import")
@click.argument("file", type=click.Path())
@click.option("--data-dir", envvar="MF_DATA_DIR", default="mainflux-data", show_default=True)
@click.option(
    "--password", "is_asked", is_flag=True, help="Ask for the password, where MF_CA_PASSWORD is not set."
)
@click.option("--keep", is_flag=True, help="The authorities that are trusted now stay trusted.")
@click.option("--force", is_flag=True, help="Replace the authority that is there; its key is then gone.")
def import_(file: str, data_dir: str, is_asked: bool, keep: bool, force: bool) -> None:
    """Take the authority in FILE, with its key: a root, or an intermediate and its chain; PEM or PKCS #12."""
    data = files.read(file)
    password = os.environ.get("MF_CA_PASSWORD") or None
    if password is None and is_asked:
        password = str(click.prompt("Password", hide_input=True))
    try:
        if not os.path.isdir(data_dir):
            os.mkdir(data_dir, 0o700)
        lines = import_authority(data_dir, data, password, force=force, keep=keep)
    except MFServerError as error:
        raise click.ClickException(f"{file}: {line(error)}") from error
    except OSError as error:
        raise click.ClickException(f"cannot write {error.filename or data_dir}: {error.strerror}") from error
    for each in lines:
        click.echo(each)
    click.echo(
        "Next: kill -HUP the server, or start it again. To have its own certificate from this authority, too,"
        f" remove {os.path.join(data_dir, 'pki', 'mainflux-server.crt')} before it starts"
    )
