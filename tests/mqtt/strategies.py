"""Hypothesis strategies for every control packet of every version, as the encoder takes it."""

from hypothesis import strategies as st

from mfserver.mqtt.constants import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    REASON_CODES,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
)
from mfserver.mqtt.packets import (
    Acknowledgement,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
    Will,
)

__all__ = ["packets"]

_characters = st.characters(codec="utf-8", exclude_characters="\0")
_texts = st.text(_characters, max_size=8)
_topics = st.text(st.characters(codec="utf-8", exclude_characters="\0#+"), min_size=1, max_size=8)
_filters = st.sampled_from(("a", "+", "#", "a/+/b", "a/#", "/", "é/€")) | _topics.filter(
    lambda topic: not topic.startswith("$share/")
)
_ids = st.integers(1, 65_535)
_two = st.integers(0, 65_535)
_four = st.integers(0, 0xFFFFFFFF)
_bit = st.integers(0, 1)
_binary = st.binary(max_size=8)
_pairs = st.lists(st.tuples(_texts, _texts), min_size=1, max_size=3)
_positive = st.integers(1, 268_435_455)

_PROPERTIES: dict[int, dict[int, st.SearchStrategy[object]]] = {
    0: {1: _bit, 2: _four, 3: _texts, 8: _topics, 9: _binary, 0x18: _four},
    CONNECT: {0x11: _four, 0x17: _bit, 0x19: _bit, 0x21: _ids, 0x22: _two, 0x27: _positive, 0x15: _texts},
    CONNACK: {
        0x11: _four, 0x12: _texts, 0x13: _two, 0x15: _texts, 0x1A: _texts, 0x1C: _texts, 0x1F: _texts,
        0x21: _ids, 0x22: _two, 0x24: _bit, 0x25: _bit, 0x27: _positive, 0x28: _bit, 0x29: _bit, 0x2A: _bit,
    },
    PUBLISH: {
        1: _bit, 2: _four, 3: _texts, 8: _topics, 9: _binary, 0x23: _ids,
        0x0B: st.lists(_positive, min_size=1, max_size=3),
    },
    SUBSCRIBE: {0x0B: _positive},
    UNSUBSCRIBE: {},
    DISCONNECT: {0x11: _four, 0x1C: _texts, 0x1F: _texts},
}  # fmt: skip


def _properties(version: int, packet_type: int) -> st.SearchStrategy[Properties | None]:
    """A property section of 5.0; None in 3.x."""
    if version != 5:
        return st.none()
    optional = {0x26: _pairs, **_PROPERTIES.get(packet_type, {0x1F: _texts})}
    return st.fixed_dictionaries({}, optional=optional).map(lambda section: section or None)


def packets(version: int) -> st.SearchStrategy[Packet]:
    """Every packet of this version."""
    choices = [_connects(version), _publishes(version), _subscribes(version), _others(version)]
    return st.one_of(choices)


def _has_allowed_names(packet: Connect) -> bool:
    """Whether user name and password can stand together in this version."""
    return packet.version == 5 or packet.user_name is not None or packet.password is None


def _connects(version: int) -> st.SearchStrategy[Packet]:
    """CONNECT and CONNACK."""
    names = _texts if version == 3 else _texts | st.none()
    wills = (
        st.builds(Will, _topics, _binary, st.integers(0, 2), st.booleans(), _properties(version, 0))
        | st.none()
    )
    connect: st.SearchStrategy[Packet] = st.builds(
        Connect, st.just(version), _texts, st.booleans(), _two, names, _binary | st.none(), wills,
        _properties(version, CONNECT),
    ).filter(_has_allowed_names)  # fmt: skip
    codes = sorted(REASON_CODES[CONNACK]) if version == 5 else list(range(6))
    connack: st.SearchStrategy[Packet] = st.builds(
        Connack, st.sampled_from(codes), st.just(False), _properties(version, CONNACK)
    )
    return connect | connack


def _publishes(version: int) -> st.SearchStrategy[Packet]:
    """PUBLISH and what answers it."""

    def acknowledgements(kind: type[Acknowledgement], packet_type: int) -> st.SearchStrategy[Packet]:
        codes = sorted(REASON_CODES[packet_type]) if version == 5 else [0]
        return st.builds(kind, _ids, st.sampled_from(codes), _properties(version, packet_type))

    section = _properties(version, PUBLISH)
    at_0 = st.builds(
        Publish, _topics, _binary, st.just(0), st.just(False), st.booleans(), st.just(0), section
    )
    above = st.builds(
        Publish, _topics, _binary, st.integers(1, 2), st.booleans(), st.booleans(), _ids, section
    )
    return st.one_of(
        at_0,
        above,
        acknowledgements(Puback, PUBACK),
        acknowledgements(Pubrec, PUBREC),
        acknowledgements(Pubrel, PUBREL),
        acknowledgements(Pubcomp, PUBCOMP),
    )


def _subscribes(version: int) -> st.SearchStrategy[Packet]:
    """SUBSCRIBE, UNSUBSCRIBE and their answers."""
    flags = st.booleans() if version == 5 else st.just(False)
    handling = st.integers(0, 2) if version == 5 else st.just(0)
    subscriptions = st.lists(
        st.builds(Subscription, _filters, st.integers(0, 2), flags, flags, handling), min_size=1, max_size=3
    )
    granted = {3: [0, 1, 2], 4: [0, 1, 2, 0x80], 5: sorted(REASON_CODES[SUBACK])}[version]
    unsuback: st.SearchStrategy[list[int]] = st.just([])
    if version == 5:
        unsuback = st.lists(st.sampled_from(sorted(REASON_CODES[UNSUBACK])), min_size=1, max_size=3)
    return st.one_of(
        st.builds(Subscribe, _ids, subscriptions, _properties(version, SUBSCRIBE)),
        st.builds(
            Suback,
            _ids,
            st.lists(st.sampled_from(granted), min_size=1, max_size=3),
            _properties(version, SUBACK),
        ),
        st.builds(
            Unsubscribe,
            _ids,
            st.lists(_filters, min_size=1, max_size=3),
            _properties(version, UNSUBSCRIBE),
        ),
        st.builds(Unsuback, _ids, unsuback, _properties(version, UNSUBACK)),
    )


def _others(version: int) -> st.SearchStrategy[Packet]:
    """PINGREQ, PINGRESP, DISCONNECT, AUTH."""
    pings: st.SearchStrategy[Packet] = st.builds(Pingreq) | st.builds(Pingresp)
    if version != 5:
        return pings | st.builds(Disconnect)
    disconnect = st.builds(
        Disconnect, st.sampled_from(sorted(REASON_CODES[DISCONNECT])), _properties(5, DISCONNECT)
    )
    method = st.fixed_dictionaries({0x15: _texts}, optional={0x16: _binary, 0x26: _pairs})
    auth = st.builds(Auth, st.sampled_from(sorted(REASON_CODES[AUTH])), method)
    return pings | disconnect | auth
