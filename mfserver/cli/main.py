"""``mfserver``: the server for those whose installer gives them no ``twistd``, and what is asked of one."""

import sys

import click
from twisted.scripts import twistd

from mfserver import __version__
from mfserver.cli.authority import ca
from mfserver.cli.certs import certs

__all__ = ["main"]


@click.group()
@click.version_option(__version__, prog_name="mfserver", message="%(prog)s %(version)s")
def main() -> None:
    """Things talk securely over HTTP, WebSocket and MQTT: one process, no other service."""


@main.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def run(options: tuple[str, ...]) -> None:
    """Start the server in the foreground: the same as "twistd --nodaemon mainflux".

    OPTIONS are those of "twistd mainflux"; "mfserver run --help" lists them.
    """
    sys.argv = ["twistd", "--nodaemon", "--pidfile=", "mainflux", *options]
    twistd.run()


main.add_command(certs)
main.add_command(ca)
