"""``mfserver certs``: certificates of things, asked of a running server."""

import base64
import os
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import click

from mfserver.cli import files
from mfserver.cli.server import Server, is_private, line

__all__ = ["certs"]

F = TypeVar("F", bound=Callable[..., Any])

_REASONS: Final = (
    "unspecified",
    "keyCompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "privilegeWithdrawn",
)


@click.group()
def certs() -> None:
    """Certificates of things: issue, sign, renew, revoke, list.

    The server is MF_URL, the owner's login token or API key MF_TOKEN, and MF_CA_FILE the authority to trust.
    """


def _speaking(command: F) -> F:
    """Give a command the options that say which server it speaks to."""

    def url(_: click.Context, __: click.Parameter, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise click.BadParameter("use https://HOST:PORT")
        return value.rstrip("/")

    for option in (
        click.option("--ca-file", envvar="MF_CA_FILE", help="What to trust; the system's unless given."),
        click.option("--token", envvar="MF_TOKEN", help="A login token or an API key; better in MF_TOKEN."),
        click.option(
            "--url", envvar="MF_URL", default="https://localhost:8443", show_default=True, callback=url
        ),
    ):
        command = option(command)
    return command


def _written(command: F) -> F:
    """Give a command the options that say what it writes."""
    for option in (
        click.option("--force", is_flag=True, help="Replace files that are there."),
        click.option("--out", help="What the files are called, without endings. [default: the thing's id]"),
        click.option("--valid", help='How long: "90d", "2160h". [default: the server\'s]'),
    ):
        command = option(command)
    return command


def _server(context: click.Context, url: str, token: str | None, ca_file: str | None) -> Server:
    if token and not is_private(url):
        click.echo(f"warning: {url} has no TLS: the token crosses the network in clear", err=True)
    return Server(url, token or None, ca_file or None, context.obj)


@certs.command()
@click.argument("thing")
@_speaking
@_written
@click.option("--key-type", type=click.Choice(("ec", "rsa")), help="[default: ec]")
@click.option("--key-bits", type=int, help="[default: 256, or 2048 of RSA]")
@click.option("--cn", type=click.Choice(("id", "key")), help="What the common name is. [default: id]")
@click.option(
    "--p12", is_flag=True, help="PKCS #12 in place of the key; its password in MF_P12_PASSWORD, or asked for."
)
@click.pass_context
def issue(
    context: click.Context,
    thing: str,
    url: str,
    token: str | None,
    ca_file: str | None,
    valid: str | None,
    out: str | None,
    force: bool,
    key_type: str | None,
    key_bits: int | None,
    cn: str | None,
    p12: bool,
) -> None:
    """Make a key and a certificate for THING, and write both."""
    out = out or _name(thing)
    ending = "p12" if p12 else "key"
    files.check_free((f"{out}.{ending}", f"{out}.crt", f"{out}-ca.crt"), force)
    order = {"thing_id": thing, "valid": valid, "key_type": key_type, "key_bits": key_bits, "cn": cn}
    if p12:
        order |= {"format": "p12", "password": _password()}
    server = _server(context, url, token, ca_file)
    shown = server.ask_json("POST", "/certs", order)
    secret = base64.b64decode(_text(shown, "p12")) if p12 else _text(shown, "cert_key").encode()
    _write(shown, out, force, {f"{out}.{ending}": (secret, files.SECRET)})
    _try_it(url, out, None if p12 else f"{out}.key")


@certs.command()
@click.argument("thing")
@click.argument("csr", type=click.Path())
@_speaking
@_written
@click.option("--cn", type=click.Choice(("id", "key")), help="What the common name is. [default: id]")
@click.pass_context
def sign(
    context: click.Context,
    thing: str,
    csr: str,
    url: str,
    token: str | None,
    ca_file: str | None,
    valid: str | None,
    out: str | None,
    force: bool,
    cn: str | None,
) -> None:
    """Have the certificate signing request in the file CSR signed for THING."""
    out = out or _name(thing)
    files.check_free((f"{out}.crt", f"{out}-ca.crt"), force)
    order = {"thing_id": thing, "csr": _request(csr), "valid": valid, "cn": cn}
    shown = _server(context, url, token, ca_file).ask_json("POST", "/certs/sign", order)
    _write(shown, out, force, {})
    _try_it(url, out, "DEVICE.key")


@certs.command()
@click.argument("serial")
@click.option(
    "--csr",
    type=click.Path(),
    help="A request whose key is certified from now on; the same key unless given.",
)
@_speaking
@_written
@click.pass_context
def renew(
    context: click.Context,
    serial: str,
    csr: str | None,
    url: str,
    token: str | None,
    ca_file: str | None,
    valid: str | None,
    out: str | None,
    force: bool,
) -> None:
    """Have a certificate signed in the place of the one with this SERIAL number, which stays good."""
    out = out or f"{_name(serial)}-renewed"
    files.check_free((f"{out}.crt", f"{out}-ca.crt"), force)
    order = {"csr": None if csr is None else _request(csr), "valid": valid}
    shown = _server(context, url, token, ca_file).ask_json("POST", f"/certs/{_segment(serial)}/renew", order)
    _write(shown, out, force, {})
    click.echo(
        f"Next: put {out}.crt in the old one's place, see it work, then:"
        f" mfserver certs revoke {line(serial)} --reason superseded"
    )


@certs.command()
@click.argument("serial")
@click.option("--reason", type=click.Choice(_REASONS), default=_REASONS[0], show_default=True)
@_speaking
@click.pass_context
def revoke(
    context: click.Context, serial: str, reason: str, url: str, token: str | None, ca_file: str | None
) -> None:
    """Revoke the certificate with this SERIAL number: its live connections end within a second."""
    server = _server(context, url, token, ca_file)
    shown = server.ask_json("POST", f"/certs/{_segment(serial)}/revoke", {"reason": reason})
    click.echo(f"{line(serial)} is revoked since {_text(shown, 'revocation_time')}: {_text(shown, 'reason')}")
    click.echo(
        "Next: mfserver certs crl --out revoked.crl, for who verifies certificates without asking the server"
    )


@certs.command("list")
@click.option("--thing", help="A thing's id: its certificates alone.")
@click.option("--state", type=click.Choice(("active", "revoked", "expired")))
@click.option("--ends-within", help='What has ended by then: "30d", "720h".')
@click.option("--offset", type=click.IntRange(0), default=0)
@click.option("--limit", type=click.IntRange(1, 100), default=100, show_default=True)
@_speaking
@click.pass_context
def list_(
    context: click.Context,
    thing: str | None,
    state: str | None,
    ends_within: str | None,
    offset: int,
    limit: int,
    url: str,
    token: str | None,
    ca_file: str | None,
) -> None:
    """List certificates, the youngest first: serial number, thing, state, end."""
    asked = {"thing": thing, "state": state, "ends_within": ends_within, "offset": offset, "limit": limit}
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    page = _server(context, url, token, ca_file).ask_json("GET", f"/certs?{query}")
    certificates = page.get("certs")
    if not isinstance(certificates, list):
        raise click.ClickException(f"{url} answers with no list: is it an mfserver?")
    for each in certificates:
        click.echo(
            "  ".join(_text(each, name) for name in ("cert_serial", "thing_id", "state", "expiration"))
        )
    shown, total = offset + len(certificates), page.get("total")
    if isinstance(total, int) and shown < total:
        click.echo(f"Next: {total - shown} more with --offset {shown}", err=True)
    elif certificates:
        click.echo("Next: mfserver certs show, renew or revoke, with a serial number", err=True)
    else:
        click.echo("There is none. Next: mfserver certs issue, with a thing's id", err=True)


@certs.command()
@click.argument("serial")
@click.option(
    "--format", "form", type=click.Choice(("text", "pem", "der")), default="text", show_default=True
)
@_speaking
@click.pass_context
def show(
    context: click.Context, serial: str, form: str, url: str, token: str | None, ca_file: str | None
) -> None:
    """Show the certificate with this SERIAL number."""
    server, path = _server(context, url, token, ca_file), f"/certs/{_segment(serial)}"
    if form != "text":
        click.echo(server.ask("GET", f"{path}?format={form}"), nl=False)
        return
    shown = server.ask_json("GET", path)
    for name, value in shown.items():
        if name != "cert":
            click.echo(f"{line(name)}: {line(value)}")
    if shown.get("state") == "active":
        click.echo(f"Next: mfserver certs renew {line(serial)}, or revoke {line(serial)}", err=True)
    else:
        click.echo(f"Next: mfserver certs issue {line(shown.get('thing_id'))}", err=True)


@certs.command()
@click.option("--pem", is_flag=True, help="PEM in place of DER.")
@click.option("--out", help="The file; standard output unless given.")
@click.option("--force", is_flag=True, help="Replace the file.")
@_speaking
@click.pass_context
def crl(
    context: click.Context,
    pem: bool,
    out: str | None,
    force: bool,
    url: str,
    token: str | None,
    ca_file: str | None,
) -> None:
    """Fetch the revocation list, which needs no token."""
    if out:
        files.check_free((out,), force)
    revoked = _server(context, url, None, ca_file).ask("GET", f"/certs/crl{'?format=pem' if pem else ''}")
    if not out:
        click.echo(revoked, nl=False)
        return
    files.write({out: (revoked, files.PUBLIC)}, force)
    click.echo(f"wrote {out}")
    click.echo(
        f"Next: openssl crl -in {out} -inform {'PEM' if pem else 'DER'} -noout -text; fetch it anew each day"
    )


def _write(shown: dict[str, Any], out: str, force: bool, secret: dict[str, tuple[bytes, int]]) -> None:
    """Write what a server issued, the key first; where that fails, say how to be rid of the certificate."""
    serial = _text(shown, "cert_serial")
    written = {
        **secret,
        f"{out}.crt": (_text(shown, "cert").encode(), files.PUBLIC),
        f"{out}-ca.crt": (_text(shown, "ca_cert").encode(), files.PUBLIC),
    }
    try:
        files.write(written, force)
    except click.ClickException as error:
        raise click.ClickException(
            f"{error.message}; to be rid of it: mfserver certs revoke {serial}"
        ) from error
    click.echo(
        f"certificate {serial} of thing {_text(shown, 'thing_id')}, until {_text(shown, 'expiration')}"
    )
    click.echo(f"wrote {', '.join(written)}")


def _try_it(url: str, out: str, key: str | None) -> None:
    if key is None:
        click.echo(f"Next: give {out}.p12 and its password to the device")
    else:
        click.echo(
            f"Next: curl --cacert {out}-ca.crt --cert {out}.crt --key {key}"
            f" {url}/http/channels/CHANNEL/messages -d DATA"
        )


def _text(shown: Any, name: str) -> str:
    """A field of an answer. PEM has lines; everything else is one."""
    value = shown.get(name) if isinstance(shown, dict) else None
    if not isinstance(value, str):
        raise click.ClickException(f"the server's answer has no {name}: is it an mfserver?")
    return value if value.startswith("-----BEGIN ") else line(value) if name != "p12" else value


def _name(text: str) -> str:
    """What files can be called after what somebody typed."""
    name = text.replace(":", "")
    if not name.replace("-", "").isalnum():
        raise click.ClickException(f"{line(text)} is neither a thing's id nor a serial number")
    return name


def _segment(serial: str) -> str:
    return quote(serial, safe="")


def _request(path: str) -> str:
    try:
        return files.read(path).decode("ascii")
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{path} is no certificate signing request in PEM") from error


def _password() -> str:
    password = os.environ.get("MF_P12_PASSWORD")
    return password or str(
        click.prompt("Password of the PKCS #12", hide_input=True, confirmation_prompt=True)
    )
