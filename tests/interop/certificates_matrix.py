"""What must become of every certificate: the one place where it stands.

docs/certificates.rst and docs/identity.rst in cells: the first identity that is present decides, and none
is passed over; what fails verification fails the handshake; what is revoked is cut off behind it, before a
byte is read, and what is live ends within a second; the key, where one has to come or comes, must be that
thing's.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tests.interop.certificates_world import METHODS
from tests.interop.identity_lives import ENDED
from tests.interop.identity_world import (
    ACCEPTED,
    CLOSED,
    FORBIDDEN,
    HANDSHAKE,
    HTTPS,
    MQTT_WSS,
    MQTTS,
    WSS,
    Spoken,
)

__all__ = ["MATRICES", "PROTOCOLS", "SITUATION", "WORDS", "Expectation", "expectations"]

#: The columns; the last one is MQTT over WSS. Each is spoken in these ways, under a version of TLS.
PROTOCOLS: Mapping[str, tuple[tuple[Spoken, str], ...]] = {
    "HTTPS": ((HTTPS, "1.2"), (HTTPS, "1.3")),
    "WSS": ((WSS, "1.2"), (WSS, "1.3")),
    "MQTTS": ((MQTTS[1], "1.2"), (MQTTS[2], "1.3")),
    "M/WSS": ((MQTT_WSS[1], "1.2"), (MQTT_WSS[2], "1.3")),
}

#: in: may publish, and is heard. no: 403, CONNACK "not authorized". tls: the handshake fails. cut: closed
#: right behind the handshake. end: the live connection is closed within a second.
WORDS: Mapping[str, str] = {
    "in": ACCEPTED,
    "no": FORBIDDEN,
    "tls": HANDSHAKE,
    "cut": CLOSED,
    "end": ENDED,
}

# The columns are fingerprint, SAN, CN = key, CN = id. Four words are for the four protocols: with HTTPS a
# connection may outlive what let its requests in, and the certificate is enough without a key.
# "-": there is no such case: a common name that is a thing's id lets nobody in, so that nothing is live.
#                                                         fingerprint     SAN             CN = key        id
_MATRIX = """
own: own key                                              in              in              in              no
own: own key and own id                                   in              in              in              no
own: no key                                               in,no,no,no     in,no,no,no     in,no,no,no     no
own: recorded, signed, and nothing else                   in              in              in              no
own: resumed                                              in              in              in              no

another's: its key                                        no              no              no              no
another's: its key and its id                             no              no              no              no
another's: own key and its id                             no              no              no              no
another's: its key, resumed                               no              no              no              no
another's: its name in a weaker place, own key            in              in              in              no
another's: its name in a weaker place, its key            no              no              no              no
another's: the certificate, own key                       no              no              no              no

revoked: new connection                                   cut             cut             cut             cut
revoked: live connection                                  end             end             end             -
revoked: another one of the thing's, new connection       in              in              in              no
revoked: another one of the thing's, live connection      in              in              in              -

expired: new connection                                   tls             tls             tls             tls
expired: live connection                                  end             end             end             -
expired: resumed                                          cut             cut             cut             cut
expired: soon, new connection                             in              in              in              no
not yet valid                                             tls             tls             tls             tls

wrong root: of the same name                              tls             tls             tls             tls
wrong root: itself                                        tls             tls             tls             tls
wrong root: a thing                                       tls             tls             tls             tls
wrong root: trusted, not ours                             in              no              in              no
wrong root: trusted, not ours, and CN = key besides       in              no              in              -

no clientAuth: for servers                                tls             tls             tls             tls
no clientAuth: for any usage                              tls             tls             tls             tls
no clientAuth: no usages at all                           in              in              in              no
no clientAuth: for servers and clients                    in              in              in              no

two names: own first, own key                             in              no              no              no
two names: another's first, own key                       in              no              no              no
two names: another's first, its key                       no              no              no              no
two names: own twice                                      in              no              no              no
two names: two of ours, and CN = key besides              in              no              -               -
two names: the other is not of our kind                   in              in              in              no

renewed: live connection under the old one                in              in              in              -
renewed: the old one, new connection                      in              in              in              no
renewed: the new one, new connection                      in              in              in              no
renewed, old one revoked: its live connection             end             end             end             -
renewed, old one revoked: the old one, new connection     cut             cut             cut             cut
renewed, old one revoked: the new one's live connection   in              in              in              -

revoked: resumed                                          cut             cut             cut             cut
revoked: another one of the thing's, resumed              in              in              in              no

thing deleted: live connection                            end             no,end,end,end  no,end,end,end  -
thing deleted: new connection                             cut             no              no              no
thing deleted: resumed                                    cut             no              no              no
thing deleted: another thing's live connection            in              in              in              -
key changed: live connection                              no,end,end,end  no,end,end,end  no,end,end,end  -
key changed: new key                                      in              in              no              no
key changed: old key                                      no              no              no              no
"""


# Options narrow the ways, or on MQTT let a certificate in that comes alone. What is said must be right.
_CERTIFICATE_ONLY = """
own: own key                                              in              in              in              no
own: no key                                               in,no,in,in     in,no,in,in     in,no,no,no     no
own: nothing said                                         in,no,in,in     in,no,in,in     in,no,no,no     no
another's: its key                                        no              no              no              no
another's: its id, no key                                 in,no,no,no     in,no,no,no     in,no,no,no     no
another's: own key and its id                             no              no              no              no
revoked: new connection                                   cut             -               -               -
"""
_FINGERPRINT = """
own: own key                                              in              no              no              no
own: recorded, signed, and nothing else                   in              no              no              no
another's: its name in a weaker place, own key            in              no              no              no
revoked: new connection                                   cut             -               -               -
"""
# What is issued here has a URI of ours, too. Its record counts no more, but that it was revoked.
_SAN = """
own: own key                                              in              in              no              no
own: recorded, signed, and nothing else                   no              in              no              no
another's: its name in a weaker place, own key            no              in              no              no
wrong root: trusted, not ours, and CN = key besides       no              no              no              -
revoked: new connection                                   cut             -               -               -
"""
_CN = """
own: own key                                              no              no              in              no
own: recorded, signed, and nothing else                   no              no              in              no
another's: its name in a weaker place, own key            no              no              in              no
wrong root: trusted, not ours, and CN = key besides       in              in              in              -
revoked: new connection                                   cut             -               -               -
"""

#: By the option that the server has.
MATRICES: Mapping[str, str] = {
    "": _MATRIX,
    "--certificate-only": _CERTIFICATE_ONLY,
    "--identity=fingerprint": _FINGERPRINT,
    "--identity=san": _SAN,
    "--identity=cn": _CN,
}

#: Characters of a line before its cells.
SITUATION = 58


class Expectation(NamedTuple):
    """What must become of one situation. :ivar outcome: one of :data:`WORDS`' keys."""

    situation: str
    method: str
    protocol: str
    outcome: str


def expectations(option: str = "") -> Iterator[Expectation]:
    """Every cell of a matrix but those where there is no such case."""
    for line in filter(None, MATRICES[option].splitlines()):
        situation, cells = line[:SITUATION].strip(), line[SITUATION:].split()
        for method, cell in zip(METHODS, cells, strict=True):
            if cell != "-":
                for protocol, outcome in zip(PROTOCOLS, _spread(cell), strict=True):
                    yield Expectation(situation, method, protocol, outcome)


def _spread(cell: str) -> list[str]:
    words = cell.split(",")
    return words if len(words) > 1 else words * len(PROTOCOLS)
