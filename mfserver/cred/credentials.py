"""What somebody brings to prove who they are, in twisted.cred's sense."""

from twisted.cred.credentials import ICredentials
from zope.interface import Attribute, implementer

from mfserver.interfaces import IPeer
from mfserver.records import Claims

__all__ = [
    "IClientCertificate",
    "IThingKey",
    "IUserToken",
    "ClientCertificate",
    "ThingKey",
    "UserToken",
]


class IThingKey(ICredentials):
    """A thing key, and whatever else was said with it (key mode)."""

    claims: Claims = Attribute("Everything that was said, with at least one key.")


class IClientCertificate(ICredentials):
    """A certificate that the peer proved to hold, and what it said besides (certificate mode)."""

    peer: IPeer = Attribute("The certificate.")
    claims: Claims = Attribute("Everything that was said, which must agree with it.")


class IUserToken(ICredentials):
    """A person's login token, or the value of an API key."""

    token: str = Attribute("The token, as it was sent.")


@implementer(IThingKey)
class ThingKey:
    """A thing key."""

    def __init__(self, claims: Claims) -> None:
        self.claims = claims


@implementer(IClientCertificate)
class ClientCertificate:
    """A client certificate."""

    def __init__(self, peer: IPeer, claims: Claims) -> None:
        self.peer = peer
        self.claims = claims


@implementer(IUserToken)
class UserToken:
    """A person's token."""

    def __init__(self, token: str) -> None:
        self.token = token
