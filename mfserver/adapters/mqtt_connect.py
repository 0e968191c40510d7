"""What a CONNECT asks of the server behind the protocol: a will, and how long the session is to live."""

from typing import Final, cast

from mfserver.adapters.mqtt_messages import incoming_message
from mfserver.durable import KeptWill
from mfserver.errors import Invalid, MFServerError, NotAuthorized, Overloaded, SlowDown, Unauthenticated
from mfserver.interfaces import IThing
from mfserver.mqtt import constants as mqtt
from mfserver.mqtt.packets import Connect
from mfserver.mqtt.properties import (
    SESSION_EXPIRY_INTERVAL,
    WILL_DELAY_INTERVAL,
    is_payload_well_formed,
)
from mfserver.records import Claims
from mfserver.topic import parse

__all__ = ["REASON_CODES", "PayloadFormatInvalid", "claims_of", "session_expiry", "will_of"]


class PayloadFormatInvalid(MFServerError):
    """A payload is not the UTF-8 that it says it is (MQTT 5.0, 3.3.2.3.2)."""


#: What each error is in MQTT 5.0 (2.4); the core turns it into the return codes of 3.1 and 3.1.1.
REASON_CODES: Final[dict[type[MFServerError], int]] = {
    Unauthenticated: mqtt.BAD_USER_NAME_OR_PASSWORD,
    NotAuthorized: mqtt.NOT_AUTHORIZED,
    SlowDown: mqtt.CONNECTION_RATE_EXCEEDED,
    Overloaded: mqtt.QUOTA_EXCEEDED,
    Invalid: mqtt.TOPIC_NAME_INVALID,
    PayloadFormatInvalid: mqtt.PAYLOAD_FORMAT_INVALID,
}


def claims_of(connect: Connect, address: str, *, by_browser: bool = False) -> Claims:
    """Who a CONNECT says it is.

    :param by_browser: it came over a WebSocket that a page in a browser may have opened.
    """
    password = connect.password
    return Claims(
        address=address,
        keys=() if password is None else (password.decode("utf-8", "replace"),),
        thing_id=connect.user_name,
        needs_key=True,
        needs_thing_id=True,
        by_browser=by_browser,
    )


def session_expiry(connect: Connect, longest: int) -> int:
    """Seconds that the session is to outlive its connection by (MQTT 5.0, 3.1.2.11.2).

    :param longest: what it may be; MQTT 3 without clean session, which sets no bound, gets that.
    """
    if connect.version < mqtt.MQTT_5_0:
        return 0 if connect.clean_start else longest  # of 3.1.1 [MQTT-3.1.2-4] [MQTT-3.1.2-6]
    asked = cast(int, (connect.properties or {}).get(SESSION_EXPIRY_INTERVAL, 0))
    return min(asked, longest)


def will_of(connect: Connect, thing: IThing, now: int) -> KeptWill | None:
    """The will of a CONNECT, if it may be published by this thing now.

    :raises Invalid: its topic is none of ours.
    :raises NotAuthorized: the thing is not connected to its channel.
    :raises PayloadFormatInvalid: it is not the text that it says it is.
    """
    will = connect.will
    if will is None:
        return None
    topic = parse(will.topic)
    if topic.channel not in thing.channels:
        raise NotAuthorized("the thing is not connected to the will's channel")
    if not is_payload_well_formed(will.properties, will.payload):
        raise PayloadFormatInvalid("the will's payload is not UTF-8")
    # [MQTT-3.1.2-14] [MQTT-3.1.2-15], of 3.1.1 [MQTT-3.1.2-16] [MQTT-3.1.2-17]
    message = incoming_message(
        topic, thing.id, will.payload, will.qos, will.retain, will.properties, now, None
    )
    return KeptWill(message, cast(int, (will.properties or {}).get(WILL_DELAY_INTERVAL, 0)))
