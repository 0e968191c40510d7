"""A server and some clients who do anything at any time: connect, lie, vanish, come back, stop reading."""

from collections import Counter
from collections.abc import Iterable
from random import Random
from typing import Any, Final

from mfserver.budget import Budget
from mfserver.errors import Overloaded
from mfserver.interfaces import IThing
from mfserver.message import HTTP, Message
from mfserver.mqtt.constants import MQTT_5_0
from mfserver.mqtt.encode import encode
from mfserver.mqtt.errors import QuotaExceeded
from mfserver.mqtt.limits import Limits
from mfserver.mqtt.packets import Connack, Connect, Packet, Publish, Subscribe, Unsubscribe
from mfserver.mqtt.properties import (
    MAXIMUM_PACKET_SIZE,
    MESSAGE_EXPIRY_INTERVAL,
    RECEIVE_MAXIMUM,
    SESSION_EXPIRY_INTERVAL,
    WILL_DELAY_INTERVAL,
)
from mfserver.records import Change, ChannelId, ThingId
from tests.adapters.fakes import Gate, House, Wire
from tests.adapters.fuzz_device import Device, Promises, marked
from tests.adapters.mqtt_case import packets
from tests.mqtt.fuzz_client import Client
from tests.mqtt.mutations import mutate
from tests.mqtt.random_packets import any_packet, will

__all__ = ["World"]

_THINGS: Final = {"alice": ("c", "d"), "bob": ("c",)}
_CHANNELS: Final = (*"c" * 20, "d")
_SUBTOPICS: Final = ("", "/a", "/a/b", "/x.y", "//")
_FILTERS: Final = ("", "/#", "/+", "/a", "/a/#", "/+/b")
_EXPIRIES: Final = (0, 0, 5, 300, 0xFFFF_FFFE, 0xFFFF_FFFF)
_PLAYERS: Final = 4
#: Seconds; its sums are exact, in nanoseconds too.
_MOMENT: Final = 1 / 64
_HAPPENS: Final = (
    *("time",) * 5,
    *("publish",) * 3,
    "disk",
    "disk",
    "room",
    "login",
    "login",
    "right",
    "end",
    "gone",
    "kill",
)


class _Rights(Gate):
    """A gate that knows whose rights are held, and how often."""

    def __init__(self) -> None:
        super().__init__()
        self.holds: Counter[str] = Counter()

    def preload(self, thing: ThingId, channels: Iterable[ChannelId]) -> IThing:
        self.holds[thing] += 1
        return super().preload(thing, channels)

    def release(self, thing: ThingId) -> None:
        self.holds[thing] -= 1
        assert self.holds[thing] >= 0, "rights were released that nobody held"


class Player:
    """Somebody who has a connection now and then, each time as another client or as the same again.

    :ivar wire: the connection; None while there is none.
    :ivar client: who says the right things on it.
    :ivar device: what it knows from its earlier connections.
    :ivar promises: what it published on this connection.
    :ivar unsent: what it could not send while nobody read.
    """

    wire: Wire | None = None
    client: Client
    device: Device
    promises: Promises
    version = 0
    unsent = b""


class World:
    """One house, its clients and everything that happens to them.

    :param lies: how likely it is that a packet of a client is mutated.
    """

    def __init__(self, random: Random, reached: "Counter[str]", lies: float) -> None:
        self.random = random
        self.reached = reached
        self.lies = lies
        self.house = house = _house()
        self.rights = house.sessions._rights = _Rights()
        self.rights.things = house.gate.things
        for name, channels in _THINGS.items():
            house.thing(name, *channels)
        self.players = [Player() for _ in range(_PLAYERS)]
        self.devices: dict[tuple[str, str], Device] = {}
        self.has_shared = random.random() < 0.3
        self.is_strict = not lies and not self.has_shared and random.random() < 0.8
        self.messages = self.connections = 0
        self.repeated: set[bytes] = set()

    def restart(self) -> None:
        """The server is killed, and another begins with what is on the disk."""
        before, store = self.house, self.house.store
        for player in self.players:
            player.wire = None
        for device in self.devices.values():
            device.server_was_killed()
        store.hold, store.fail = False, None
        store.waiting.clear()
        self.house = house = _house()
        house.clock.advance(before.clock.seconds())
        self.rights = house.sessions._rights = _Rights()
        self.rights.things = house.gate.things = before.gate.things
        house.store = house.journal._store = house.sessions.shared.store = store
        house.sessions.restore(store.load())

    def step(self) -> None:
        """Something happens."""
        random = self.random
        player = random.choice(self.players)
        chance = random.random()
        if player.wire is None:
            if chance < 0.7:
                self.connect(player)
        elif chance < 0.84:
            self.say(player, player.client.says())
        elif chance < 0.86:
            self.lose(player)
        elif chance < 0.87:
            self.say(player, player.client.says_goodbye())
        elif chance < 0.92 and player.wire.producer is not None:
            producer = player.wire.producer  # the client reads, or not
            (producer.pauseProducing if random.random() < 0.5 else producer.resumeProducing)()
        self.house.end_turn()
        if chance > 0.94:
            self.happen()
        for one in self.players:
            self.hear(one)

    # --- what a client does -------------------------------------------------------------------------------

    def connect(self, player: Player) -> None:
        """Open a connection and send CONNECT, with few client identifiers: they meet."""
        random = self.random
        player.version = version = random.choice((3, 4, 5, 5))
        player.client = client = Client(random, version, self.reached)
        name = random.choice(tuple(_THINGS))
        packet = client.connect
        packet.client_id = random.choice(("one", "two", "")) if packet.client_id else ""
        packet.user_name, packet.password = name, f"key-of-{name}".encode()
        if random.random() < 0.03:
            packet.password = b"guess"
        if packet.will is not None:
            packet.will = will(random, version, self.topic())
            packet.will.payload = packet.will.payload[:1_000]
            said = packet.will.properties
            if said and WILL_DELAY_INTERVAL in said:
                said[WILL_DELAY_INTERVAL] = random.choice((0, 1, 100))
        self.properties(packet)
        client.refuses = self.lies > 0
        self.connections += 1
        client.counts_from(1_000 * self.connections)
        player.device = self.device(name, packet.client_id)
        player.wire, player.unsent, player.promises = self.house.mqtt_wire(), b"", Promises()
        self.say(player, packet)

    def device(self, name: str, client_id: str) -> Device:
        """What a client has known since its last connection; nothing, where it has no identifier."""

        def session() -> int:
            found = self.house.sessions._sessions.get((ThingId(name), client_id))
            return found.key if found is not None else 0

        new = Device(session, self.repeated)
        return self.devices.setdefault((name, client_id), new) if client_id else new

    def properties(self, packet: Connect) -> None:
        """Let sessions outlive their connections, and few messages be under way at once."""
        if packet.version == MQTT_5_0:
            packet.properties = packet.properties or {}
            packet.properties[SESSION_EXPIRY_INTERVAL] = self.random.choice(_EXPIRIES)
            if self.is_strict:
                packet.properties.pop(MAXIMUM_PACKET_SIZE, None)  # what does not fit is as good as delivered
            if RECEIVE_MAXIMUM in packet.properties:
                packet.properties[RECEIVE_MAXIMUM] = self.random.choice((1, 2, 65_535))

    def say(self, player: Player, packet: Packet) -> None:
        """Send a packet, or what is made of it."""
        random = self.random
        if isinstance(packet, Publish) and packet.dup:
            self.repeated.add(b"" if packet.qos == 2 else packet.payload)
        else:
            self.localise(packet, self.players.index(player))
        player.device.sends(packet, player.wire)
        if isinstance(packet, Publish) and not packet.dup:
            player.promises.published(packet, self.devices.values())
        data = encode(packet, player.version)
        if random.random() < self.lies:
            other = any_packet(random, player.version)
            self.localise(other, 0)
            is_out_of_place = random.random() < 0.3
            spliced = encode(other, player.version)
            data = spliced if is_out_of_place else mutate(random, data, spliced, player.version)
        player.unsent += data
        self.send(player)

    def send(self, player: Player) -> None:
        """Let the server read, if it does."""
        wire = player.wire
        if wire is None or wire.lost or wire.producerState == "paused":
            return
        data, player.unsent = player.unsent, b""
        cut = self.random.randint(0, len(data)) if self.random.random() < 0.3 else len(data)
        for piece in (data[:cut], data[cut:]):
            if piece and not wire.lost:
                wire.protocol.dataReceived(piece)

    def hear(self, player: Player) -> None:
        """Read what the server wrote, all of it legal in the client's version; and see whether it closed."""
        wire = player.wire
        if wire is None:
            return
        version = wire.protocol._connection.version
        for packet in self.written(wire.take(), version):
            self.reached[f"{version}: wrote {type(packet).__name__.upper()}"] += 1
            if isinstance(packet, Connack) and packet.session_present:
                self.reached["a session was present"] += 1
            if isinstance(packet, Publish) and packet.dup:
                self.reached["sent again"] += 1
            assert version == MQTT_5_0 or not getattr(packet, "properties", None), packet
            player.client.received(packet)
            if not self.lies and not self.has_shared:
                player.device.receives(packet, wire, player.client.connect)
            player.promises.receives(packet)
        if wire.disconnecting and self.random.random() < 0.7:
            self.lose(player)
        else:
            self.send(player)

    def written(self, data: bytes, version: int) -> list[Packet]:
        """Every packet that was written."""
        try:
            return packets(data, version)
        except QuotaExceeded:
            # As many user properties as we take from a publisher, and the subscription identifiers besides.
            self.reached["more properties than we would take"] += 1
            return []

    def lose(self, player: Player) -> None:
        """The connection is lost."""
        if player.wire is not None:
            player.wire.take()
            player.wire.lose()
            player.wire = None

    def topic(self) -> str:
        """A topic of ours; some things may not use some of them."""
        return f"channels/{self.random.choice(_CHANNELS)}/messages{self.random.choice(_SUBTOPICS)}"

    def localise(self, packet: Packet, publisher: int) -> None:
        """Put one of our topics in the place of each other one, and mark each message that comes once."""
        random = self.random
        if isinstance(packet, Publish):
            packet.payload = packet.payload[: random.choice((0, 20, 900))]
            if not packet.retain:
                self.messages += 1
                packet.payload = marked(self.messages, publisher)
            if packet.topic:
                packet.topic = self.topic()
            said = packet.properties or {}
            if self.is_strict:
                said.pop(MESSAGE_EXPIRY_INTERVAL, None)
            said.pop(0x01, None)  # 3.3.2.3.2: it would have to be UTF-8
        elif isinstance(packet, Subscribe):
            del packet.subscriptions[4:]
            for subscription in packet.subscriptions:
                subscription.topic_filter = self.filter(subscription.topic_filter)
        elif isinstance(packet, Unsubscribe):
            packet.topic_filters = [self.filter(one) for one in packet.topic_filters[:4]]

    def filter(self, other: str) -> str:
        """A topic filter of ours, shared where the other is."""
        share = "$share/g/" if other.startswith("$share/") and self.has_shared else ""
        return f"{share}channels/{self.random.choice(_CHANNELS)}/messages{self.random.choice(_FILTERS)}"

    # --- what happens to the server -----------------------------------------------------------------------

    def happen(self) -> None:
        """Time passes, the disk fails, a right is lost, another protocol publishes..."""
        random, house = self.random, self.house
        kind = random.choice(_HAPPENS)
        if self.is_strict and kind in ("right", "gone"):
            return
        if house.store.hold and random.random() < 0.3:
            kind = "kill"  # before something is committed that was perhaps promised
        self.reached[f"happened: {kind}"] += 1
        if kind == "time":
            house.clock.advance(random.choice((_MOMENT, 1, 1, 6, 6, 200, 100_000)))
        elif kind == "disk":
            house.store.hold = not house.store.hold
            house.store.release()
        elif kind == "room":
            house.store.fail = Overloaded("no room") if house.store.fail is None else None
            house.clock.advance(1)
        elif kind == "login":
            self.login()
        elif kind == "right":
            self.right()
        elif kind == "publish":
            _, channel, _, *levels = self.topic().split("/")
            subtopic = ".".join(filter(None, levels))
            message = Message(channel, tuple(levels), subtopic, "alice", HTTP, b"x" * 100, "", house.now())
            message.retain = random.random() < 0.3
            house.router.publish(message)
        elif kind == "kill":
            self.restart()
            return
        elif kind == "gone":
            house.sessions.changed(Change(channels=(ChannelId(random.choice("cd")),)))
        elif house.gate.logged_in:
            connection: Any = random.choice(house.gate.logged_in)[1]
            connection.end("its key was revoked")
        house.end_turn()

    def login(self) -> None:
        """Who somebody is takes longer to find out, or is found out now."""
        gate = self.house.gate
        if gate.held is None:
            gate.held = []
            return
        held, gate.held = gate.held, None
        for decide in held:
            decide()

    def right(self) -> None:
        """A thing gets a channel or loses it, and its live connections are told."""
        random = self.random
        thing = random.choice(list(self.house.gate.things.values()))
        channel = ChannelId(random.choice("cd"))
        if channel not in thing.channels:
            thing.channels.add(channel)
            return
        if random.random() < 0.5:
            return
        thing.channels.discard(channel)
        for thing_id, connection in list(self.house.gate.logged_in):
            if thing_id == thing.id and connection is not None:
                connection.channel_lost(channel)

    # --- the end ------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """All that waits is committed, answered and read: nothing waits any more for those who are there."""
        house = self.house
        house.store.fail, house.store.hold = None, False
        house.store.release()
        house.clock.advance(1)
        if house.gate.held is not None:
            self.login()
        for _ in range(0 if self.lies else 200):
            for player in self.players:
                if player.wire is not None and player.wire.producer is not None:
                    player.wire.producer.resumeProducing()
                    self.say(player, player.client.answers())
                self.hear(player)
            house.clock.advance(_MOMENT)
        for player in self.players:
            if (
                player.wire is not None
                and player.client.is_connected
                and not (self.lies or player.client.is_over)
            ):
                self.check_read(player.wire.protocol._client)
                if self.is_strict:
                    self.reached["acknowledged messages that came"] += player.device.promises
                    assert not player.device.due, f"acknowledged and not delivered: {player.device.due}"

    def check_read(self, client: Any) -> None:
        """Everything that was for this client was sent to it, and acknowledged."""
        if client is not None:
            session = client.session
            assert not session.state.waiting and not session.state.in_flight, session.state.in_flight
            assert not session.count and not session.size, session.count
            self.reached["a session with nothing left to do"] += 1

    def end(self) -> None:
        """Everybody leaves, every session ends, and nothing is left of them."""
        house = self.house
        self.settle()
        for player in self.players:
            self.lose(player)
        house.clock.advance(1)
        for thing_id, client_id in list(house.sessions._sessions):
            wire = house.mqtt_wire()
            name = str(thing_id)
            packet = Connect(4, client_id, user_name=name, password=f"key-of-{name}".encode())
            wire.receive(encode(packet, 4))
            house.clock.advance(1)
            wire.lose()
        house.clock.advance(1e6)  # for wills that are delayed
        house.sessions.changed(Change(channels=(ChannelId("c"), ChannelId("d"))))
        house.clock.advance(1e6)
        self.check_empty()

    def check_empty(self) -> None:
        """Nothing is kept of those who are gone, in memory or on the disk."""
        house, sessions = self.house, self.house.sessions
        assert len(sessions) == 0 and not sessions._wills and not sessions._kept, sessions._sessions
        assert len(sessions._ends) == len(sessions._due) == 0
        for tree in (house.router._exact, house.router._normal):
            assert not tree.channels and not tree._places, tree._places
        assert not house.router._levels
        assert house.budget.used == 0 and not house.budget._addresses
        assert not any(self.rights.holds.values()), self.rights.holds
        assert not house.gate.logged_in and not house.mqtt.connections
        assert len(house.retained) == 0 and house.retained.size == 0 and not house.retained._channels
        assert house.journal.committed() is None
        kept = house.store.load()
        assert not kept.sessions and not kept.subscriptions and not kept.received, kept
        assert not kept.backlogs and not kept.wills and not kept.retained, kept
        assert not house.store._messages, house.store._messages
        calls = [str(call) for call in house.clock.getDelayedCalls()]
        assert len(calls) <= 2 and all("Deadlines._look" in call for call in calls), calls  # for all sessions


def _house() -> House:
    """A server with low bounds of each client, and room for many of them."""
    house = House()
    house.mqtt.limits = Limits(
        max_payload=1_000, receive_maximum=3, send_quota=4, max_queued_bytes=3_000, topic_alias_maximum=3
    )
    house.mqtt.budget = house.budget = Budget(4 << 20)
    bounds = house.sessions.shared.bounds
    bounds.messages, bounds.size = (
        10_000,
        1 << 24,
    )  # what waits on the disk is never too much, in memory often
    return house
