"""The route table: every path of the API, who may ask, what goes in and what comes out. Read this first."""

from collections.abc import Sequence
from typing import Final

from mfserver.api import bodies, health
from mfserver.api.call import Routes
from mfserver.api.certs import CERTIFICATES, FORMAT, LIST_FORMAT, LIST_TYPES, REASON, TYPES, CertCalls
from mfserver.api.channels import ChannelCalls
from mfserver.api.connections import ConnectionCalls
from mfserver.api.keys import KeyCalls
from mfserver.api.metrics import MEDIA_TYPE, Metrics
from mfserver.api.openapi import Description
from mfserver.api.pages import CONNECTED, PAGE, PART
from mfserver.api.things import ThingCalls
from mfserver.api.users import UserCalls
from mfserver.interfaces import IUserAuthenticator
from mfserver.provisioning.certificates import Certificates
from mfserver.provisioning.channels import Channels
from mfserver.provisioning.connections import Connections
from mfserver.provisioning.keys import Keys
from mfserver.provisioning.things import Things
from mfserver.provisioning.users import Users
from mfserver.route import Route

__all__ = ["routes"]

_NOBODY: Final = ""


def routes(
    authenticator: IUserAuthenticator,
    users: Users,
    keys: Keys,
    things: Things,
    channels: Channels,
    connections: Connections,
    certificates: Certificates,
    metrics: Metrics,
    others: Sequence[Route] = (),
) -> list[Route]:
    """The whole route table.

    :param others: the rows of the adapters, which the description covers too.
    """
    make = Routes(authenticator)
    table = [
        *_people(make, UserCalls(users), KeyCalls(keys)),
        *_things(make, ThingCalls(things)),
        *_channels(make, ChannelCalls(channels)),
        *_connections(make, ConnectionCalls(connections)),
        *_access(make, ThingCalls(things), ConnectionCalls(connections)),
        *_certificates(make, CertCalls(certificates)),
        *others,
    ]
    table += [
        make.route("GET", "/version", health.version, "Version", reply=bodies.Version, access=_NOBODY),
        make.route("GET", "/health", health.health, "Health", reply=bodies.Health, access=_NOBODY),
        make.route(
            "GET",
            "/metrics",
            metrics.serve,
            "Figures for Prometheus; programs on the server's machine need no token",
            is_open_here=True,
            media_types=(MEDIA_TYPE,),
        ),
    ]
    description = Description(table)
    table.append(make.route("GET", "/openapi.json", description.serve, "This description", access=_NOBODY))
    return table


def _people(make: Routes, users: UserCalls, keys: KeyCalls) -> list[Route]:
    return [
        make.route(
            "POST",
            "/users",
            users.register,
            "Register; where registration is closed, with its token in Authorization",
            body=bodies.Registration,
            success=201,
            errors=(401, 409),
            access=_NOBODY,
        ),
        make.route("GET", "/users", users.profile, "Own profile", reply=bodies.Profile),
        make.route("GET", "/users/profile", users.profile, "Own profile", reply=bodies.Profile),
        make.route("GET", "/users/{id}", users.profile, "Own profile", reply=bodies.Profile, errors=(404,)),
        make.route("PUT", "/users", users.update, "Replace the metadata", body=bodies.NewMetadata),
        make.route(
            "POST",
            "/tokens",
            users.login,
            "Log in",
            body=bodies.Login,
            reply=bodies.Token,
            success=201,
            errors=(401,),
            access=_NOBODY,
        ),
        make.route(
            "PATCH",
            "/password",
            users.change_password,
            "Change the password, which ends the login tokens made before",
            body=bodies.PasswordChange,
            reply=bodies.PasswordChanged,
            success=201,
            errors=(409,),
        ),
        make.route(
            "POST",
            "/keys",
            keys.issue,
            "Make an API key",
            body=bodies.KeyRequest,
            reply=bodies.KeyIssued,
            success=201,
            errors=(403,),
        ),
        make.route("GET", "/keys/{id}", keys.get, "An API key", reply=bodies.KeyShown, errors=(404,)),
        make.route("DELETE", "/keys/{id}", keys.revoke, "Revoke an API key", success=204),
    ]


def _things(make: Routes, things: ThingCalls) -> list[Route]:
    return [
        make.route(
            "POST",
            "/things",
            things.create,
            "Create a thing",
            body=bodies.ThingBody,
            success=201,
            errors=(409,),
        ),
        make.route(
            "POST",
            "/things/bulk",
            things.create_all,
            "Create things, all or none",
            body=list[bodies.ThingBody],
            reply=bodies.ThingsCreated,
            success=201,
            errors=(409,),
        ),
        make.route("GET", "/things", things.page, "Own things", reply=bodies.ThingsPage, parameters=PAGE),
        make.route("GET", "/things/{id}", things.get, "A thing", reply=bodies.ThingShown, errors=(404,)),
        make.route(
            "PUT",
            "/things/{id}",
            things.update,
            "Replace name and metadata",
            body=bodies.ThingUpdate,
            errors=(404,),
        ),
        make.route(
            "PATCH",
            "/things/{id}/key",
            things.change_key,
            "Change a thing's key, which ends its live connections",
            body=bodies.ThingKey,
            errors=(404, 409),
        ),
        make.route("DELETE", "/things/{id}", things.remove, "Delete a thing", success=204),
    ]


def _channels(make: Routes, channels: ChannelCalls) -> list[Route]:
    return [
        make.route(
            "POST", "/channels", channels.create, "Create a channel", body=bodies.ChannelBody, success=201
        ),
        make.route(
            "POST",
            "/channels/bulk",
            channels.create_all,
            "Create channels, all or none",
            body=list[bodies.ChannelBody],
            reply=bodies.ChannelsCreated,
            success=201,
        ),
        make.route(
            "GET", "/channels", channels.page, "Own channels", reply=bodies.ChannelsPage, parameters=PAGE
        ),
        make.route(
            "GET", "/channels/{id}", channels.get, "A channel", reply=bodies.ChannelShown, errors=(404,)
        ),
        make.route(
            "PUT",
            "/channels/{id}",
            channels.update,
            "Replace name and metadata",
            body=bodies.ChannelBody,
            errors=(404,),
        ),
        make.route("DELETE", "/channels/{id}", channels.remove, "Delete a channel", success=204),
    ]


def _connections(make: Routes, connections: ConnectionCalls) -> list[Route]:
    pair = "/channels/{channel}/things/{thing}"
    return [
        make.route("PUT", pair, connections.connect_one, "Connect a thing", errors=(404, 409)),
        make.route(
            "DELETE", pair, connections.disconnect_one, "Disconnect a thing", success=204, errors=(404,)
        ),
        make.route(
            "POST",
            "/connect",
            connections.connect,
            "Connect every pair, all or none",
            body=bodies.Pairs,
            errors=(404, 409),
        ),
        make.route(
            "PUT",
            "/disconnect",
            connections.disconnect,
            "Disconnect every pair, all or none",
            body=bodies.Pairs,
            errors=(404,),
        ),
        make.route(
            "GET",
            "/things/{id}/channels",
            connections.channels_with,
            "Channels that a thing is connected to, or is not",
            reply=bodies.ChannelsPage,
            errors=(404,),
            parameters=CONNECTED,
        ),
        make.route(
            "GET",
            "/channels/{id}/things",
            connections.things_on,
            "Things that are connected to a channel, or are not",
            reply=bodies.ThingsPage,
            errors=(404,),
            parameters=CONNECTED,
        ),
    ]


def _access(make: Routes, things: ThingCalls, connections: ConnectionCalls) -> list[Route]:
    """Questions about things, with no more than a key, or the owner's token and an id."""
    table = [
        make.route(
            "POST",
            "/identify",
            things.identify,
            "Which thing has this key",
            body=bodies.KeyToken,
            reply=bodies.Identity,
            errors=(401,),
            access=_NOBODY,
        )
    ]
    for prefix in "/identify", "":
        table += [
            make.route(
                "POST",
                f"{prefix}/channels/{{id}}/access-by-key",
                connections.access_by_key,
                "Which thing may use this channel with this key",
                body=bodies.KeyToken,
                reply=bodies.Identity,
                errors=(403,),
                access=_NOBODY,
            ),
            make.route(
                "POST",
                f"{prefix}/channels/{{id}}/access-by-id",
                connections.access_by_id,
                "Whether a thing may use this channel",
                body=bodies.ThingIdBody,
                errors=(403,),
            ),
        ]
    return table


def _certificates(make: Routes, certs: CertCalls) -> list[Route]:
    """Those who issue answer 503 where the key of the authority is not here."""
    return [
        make.route(
            "POST",
            "/certs",
            certs.issue,
            "Make a key and a certificate for a thing; the key is shown this once",
            body=bodies.CertOrder,
            reply=bodies.CertIssued,
            success=201,
            errors=(404,),
        ),
        make.route(
            "POST",
            "/certs/sign",
            certs.sign,
            "Sign a certificate for the key of a certificate signing request",
            body=bodies.SigningRequest,
            reply=bodies.CertIssued,
            success=201,
            errors=(404,),
        ),
        make.route(
            "POST",
            "/certs/{id}/renew",
            certs.renew,
            "Sign a certificate in the place of one, which stays good until it ends or is revoked",
            body=bodies.Renewal,
            reply=bodies.CertIssued,
            success=201,
            errors=(404, 409),
        ),
        make.route(
            "GET",
            "/certs",
            certs.page,
            "Certificates of own things, the youngest first",
            reply=bodies.CertsPage,
            parameters=CERTIFICATES,
        ),
        make.route(
            "GET",
            "/certs/{id}",
            certs.get,
            "A certificate by its serial number; or those of a thing, by the thing's id",
            reply=(bodies.CertShown, bodies.CertsPage),
            errors=(404,),
            parameters={**PART, **FORMAT},
            media_types=TYPES,
        ),
        make.route(
            "POST",
            "/certs/{id}/revoke",
            certs.revoke,
            "Revoke a certificate, which ends its live connections",
            body=bodies.Revocation,
            reply=bodies.Revoked,
            errors=(404,),
        ),
        make.route(
            "DELETE",
            "/certs/{id}",
            certs.remove,
            "Revoke a certificate, which ends its live connections",
            reply=bodies.Revoked,
            errors=(404,),
            parameters=REASON,
        ),
        make.route(
            "GET",
            "/certs/crl",
            certs.revocation_list,
            "The revocation list, in DER unless asked for in PEM",
            parameters=LIST_FORMAT,
            access=_NOBODY,
            media_types=LIST_TYPES,
        ),
        make.route(
            "GET",
            "/certs/ca",
            certs.trust,
            "What clients and things have to trust, in PEM",
            access=_NOBODY,
            media_types=TYPES[:1],
        ),
    ]
