"""What goes in and out as JSON. Unknown fields are passed over, as in Mainflux; absent ones are left out."""

from datetime import datetime
from typing import Any

from msgspec import Struct

__all__ = [
    "Registration",
    "Login",
    "Token",
    "Profile",
    "NewMetadata",
    "PasswordChange",
    "PasswordChanged",
    "KeyRequest",
    "KeyIssued",
    "KeyShown",
    "ThingBody",
    "ThingUpdate",
    "ThingKey",
    "ThingShown",
    "ThingsCreated",
    "ThingsPage",
    "ChannelBody",
    "ChannelShown",
    "ChannelsCreated",
    "ChannelsPage",
    "Pairs",
    "KeyToken",
    "ThingIdBody",
    "Identity",
    "CertOrder",
    "SigningRequest",
    "Renewal",
    "Revocation",
    "Revoked",
    "CertIssued",
    "CertShown",
    "CertsPage",
    "Version",
    "Health",
]

Object = dict[str, Any]


class Registration(Struct):
    """A new account."""

    email: str
    password: str
    metadata: Object | None = None


class Login(Struct):
    """An account and its password."""

    email: str
    password: str


class Token(Struct):
    """A login token."""

    token: str


class Profile(Struct, omit_defaults=True):
    """Somebody's own account."""

    id: str
    email: str
    metadata: Object | None = None


class NewMetadata(Struct):
    """What replaces an account's metadata."""

    metadata: Object | None = None


class PasswordChange(Struct):
    """The old password and the new one."""

    old_password: str
    password: str


class PasswordChanged(Struct):
    """Mainflux answers with an empty message."""

    msg: str = ""


class KeyRequest(Struct):
    """Which key is wanted: type 0 a login token, 2 an API key; the duration in seconds."""

    type: int
    duration: int | None = None


class KeyIssued(Struct, omit_defaults=True):
    """A new key; its value is shown this once."""

    value: str
    issued_at: datetime
    id: str | None = None
    expires_at: datetime | None = None


class KeyShown(Struct, omit_defaults=True):
    """An API key, without its value."""

    id: str
    issuer_id: str
    subject: str
    type: int
    issued_at: datetime
    expires_at: datetime | None = None


class ThingBody(Struct):
    """A new thing."""

    name: str | None = None
    key: str | None = None
    metadata: Object | None = None


class ThingUpdate(Struct):
    """What replaces a thing's name and metadata, both."""

    name: str | None = None
    metadata: Object | None = None


class ThingKey(Struct):
    """A thing's new key."""

    key: str


class ThingShown(Struct, omit_defaults=True):
    """A thing, as its owner sees it."""

    id: str
    key: str
    name: str | None = None
    metadata: Object | None = None


class ThingsCreated(Struct):
    """The things that were created at once."""

    things: list[ThingShown]


class ThingsPage(Struct):
    """A part of a list of things."""

    total: int
    offset: int
    limit: int
    things: list[ThingShown]


class ChannelBody(Struct):
    """A new channel, or what replaces its name and metadata, both."""

    name: str | None = None
    metadata: Object | None = None


class ChannelShown(Struct, omit_defaults=True):
    """A channel, as its owner sees it."""

    id: str
    name: str | None = None
    metadata: Object | None = None


class ChannelsCreated(Struct):
    """The channels that were created at once."""

    channels: list[ChannelShown]


class ChannelsPage(Struct):
    """A part of a list of channels."""

    total: int
    offset: int
    limit: int
    channels: list[ChannelShown]


class Pairs(Struct):
    """Every one of these channels with every one of these things."""

    channel_ids: list[str]
    thing_ids: list[str]


class KeyToken(Struct):
    """A thing key, under the name that Mainflux gives it."""

    token: str


class ThingIdBody(Struct):
    """A thing's id."""

    thing_id: str


class Identity(Struct):
    """Which thing it is."""

    id: str


class CertOrder(Struct):
    """A certificate that is wanted, with a key. Times are ``90d``, ``2160h`` or a number of days."""

    thing_id: str
    key_bits: int | None = None
    key_type: str | None = None
    valid: str | float | None = None
    cn: str | None = None
    format: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return f"<CertOrder for {self.thing_id!r}>"  # a password has no place in a log or a traceback


class SigningRequest(Struct):
    """A certificate that is wanted for the key of a certificate signing request, in PEM."""

    thing_id: str
    csr: str
    valid: str | float | None = None
    cn: str | None = None


class Renewal(Struct):
    """A certificate in the place of another: for the same key, or for that of a signing request."""

    csr: str | None = None
    valid: str | float | None = None


class Revocation(Struct):
    """Why a certificate is revoked, in the words of RFC 5280, 5.3.1."""

    reason: str | None = None


class Revoked(Struct):
    """Since when a certificate is revoked, and why."""

    revocation_time: datetime
    reason: str


class CertIssued(Struct, omit_defaults=True):
    """A new certificate in PEM. A key that was made here is shown this once; ``p12`` is in base64."""

    thing_id: str
    cert: str
    cert_serial: str
    ca_cert: str
    expiration: datetime
    cert_key: str | None = None
    p12: bytes | None = None

    def __repr__(self) -> str:
        return f"<CertIssued {self.cert_serial}>"  # a private key has no place in a log or a traceback


class CertShown(Struct, omit_defaults=True):
    """A certificate, as its thing's owner sees it; in a list without the certificate itself."""

    cert_serial: str
    thing_id: str
    state: str
    fingerprint: str
    issued_at: datetime
    valid_from: datetime
    expiration: datetime
    revocation_time: datetime | None = None
    reason: str | None = None
    replaced_by: str | None = None
    cert: str | None = None


class CertsPage(Struct):
    """A part of a list of certificates, the youngest first."""

    total: int
    offset: int
    limit: int
    certs: list[CertShown]


class Version(Struct):
    """Which server this is.

    :ivar build: of its hot modules: ``pure`` or ``mypyc``.
    """

    service: str
    version: str
    build: str


class Health(Struct):
    """Whether the server serves."""

    status: str
    version: str
