"""Sessions with everything below them, small but real, on a clock that stands still."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from mfserver.durable import NEVER, KeptDelivery, KeptWill, SessionKey
from mfserver.errors import Overloaded
from mfserver.interfaces import IRights, IThing
from mfserver.message import Message
from mfserver.records import ChannelId, ThingId
from mfserver.routing.journal import Journal
from mfserver.routing.retained import Retained
from mfserver.routing.router import Options, Router
from mfserver.routing.sessions import Bounds, ClientSession, Sessions, Shared
from mfserver.topic import parse_filter
from tests.routing.cases import mqtt
from tests.store.memory_sessions import MemorySessions

__all__ = ["OVERHEAD", "House", "Memory", "Phone", "Rights", "Store", "Thing"]

#: What an empty message counts as.
OVERHEAD = 256


@implementer(IThing)
class Thing:
    """A thing whose channels a test may change."""

    def __init__(self, name: str, channels: Iterable[str] = ("c",)) -> None:
        self.id = ThingId(name)
        self.channels: Any = {ChannelId(channel) for channel in channels}


@implementer(IRights)
class Rights:
    """Counts the holds.

    :ivar things: by id; made when they are asked for.
    :ivar error: what holding fails with.
    :ivar held: how often each is held, while it is.
    """

    def __init__(self) -> None:
        self.things: dict[ThingId, Thing] = {}
        self.error: Exception | None = None
        self.held: dict[ThingId, int] = {}

    def thing(self, name: ThingId) -> Thing:
        return self.things.setdefault(name, Thing(name))

    def hold(self, thing: ThingId) -> "Deferred[IThing]":
        return succeed(self.preload(thing, ())) if self.error is None else fail(self.error)

    def preload(self, thing: ThingId, channels: Iterable[ChannelId]) -> IThing:
        self.held[thing] = self.held.get(thing, 0) + 1
        return self.thing(thing)

    def release(self, thing: ThingId) -> None:
        self.held[thing] -= 1
        if not self.held[thing]:
            del self.held[thing]


class Store(MemorySessions):
    """One whose reads can be held back, or fail, too.

    :ivar hold_reads: while it is set, what is read waits for :meth:`answer`.
    :ivar fail_reads: while it is an error, reads fail with it.
    :ivar reads: how many there were.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hold_reads = False
        self.fail_reads: Exception | None = None
        self.reads = 0
        self.held_reads: list[Callable[[], object]] = []

    def queued(
        self, session: SessionKey, after: int, limit: int, max_bytes: int
    ) -> "Deferred[list[KeptDelivery]]":
        self.reads += 1
        if self.fail_reads is not None:
            return fail(self.fail_reads)
        found = super().queued(session, after, limit, max_bytes)
        if not self.hold_reads:
            return found
        answer: Deferred[list[KeptDelivery]] = Deferred()
        self.held_reads.append(lambda: found.chainDeferred(answer))
        return answer

    def answer(self) -> None:
        """Answer the reads that wait: with what was there when they were asked for."""
        waiting, self.held_reads = self.held_reads, []
        for each in waiting:
            each()

    def queue(self, session: ClientSession) -> tuple[int, int]:
        """How many deliveries of a session are committed, and their bytes."""
        rows = self._rows(session.key)
        return len(rows), sum(row.delivery.size for row in rows)

    def is_empty(self) -> bool:
        """Whether nothing is kept of any session."""
        return not (
            self._sessions
            or self._subscriptions
            or self._received
            or self._queues
            or self._messages
            or self._wills
        )


class Memory:
    """What a correct client remembers between its connections, and what it has got, as it counts it.

    :ivar unreleased: payloads of QoS 2 messages by packet identifier, until their PUBREL.
    :ivar got: payloads by QoS; QoS 2 each once.
    """

    def __init__(self) -> None:
        self.unreleased: dict[int, bytes] = {}
        self.got: dict[int, list[bytes]] = {0: [], 1: [], 2: []}


class Phone:
    """The connected end of a session, which keeps to the rules and notices who does not.

    :ivar sent: packets in their order: ("PUBLISH", payload, qos, dup, packet id, retain) and ("PUBREL",
        packet id, reason code).
    :ivar acknowledgements: for PUBACK, PUBREC and PUBCOMP the packet identifiers that wait for them.
    :ivar longest: the longest payload that it takes.
    :ivar ended: why it was told to end: "taken over", "too slow".
    """

    def __init__(self, memory: Memory | None = None, receive_maximum: int = 65_535) -> None:
        self.memory = memory or Memory()
        self.receive_maximum = receive_maximum
        self.is_writable = True
        self.longest = 1 << 30
        self.sent: list[tuple[Any, ...]] = []
        self.acknowledgements: dict[str, deque[int]] = {
            "puback": deque(),
            "pubrec": deque(),
            "pubcomp": deque(),
        }
        self.under_way: set[int] = set()
        self.ended: list[str] = []
        self.on_end: Callable[[], None] = lambda: None
        self.session: ClientSession

    def send_publish(
        self,
        message: Message,
        qos: int,
        retain: bool,
        identifiers: tuple[int, ...],
        packet_id: int,
        dup: bool = False,
    ) -> bool:
        assert bool(packet_id) == bool(qos)
        assert not self.ended
        payload = message.payload
        if len(payload) > self.longest:
            return False
        self.sent.append(("PUBLISH", payload, qos, dup, packet_id, retain))
        if not qos:
            self.memory.got[0].append(payload)
            return True
        assert packet_id not in self.under_way, "a packet identifier that is in use"
        self.under_way.add(packet_id)
        assert len(self.under_way) <= self.receive_maximum
        if qos == 1:
            self.acknowledgements["puback"].append(packet_id)
            self.memory.got[1].append(payload)
            return True
        self.acknowledgements["pubrec"].append(packet_id)
        if packet_id in self.memory.unreleased:
            assert dup and self.memory.unreleased[packet_id] == payload, "lost: it looks like a repetition"
        else:
            self.memory.unreleased[packet_id] = payload
            self.memory.got[2].append(payload)
        return True

    def send_pubrel(self, packet_id: int, reason_code: int) -> None:
        self.sent.append(("PUBREL", packet_id, reason_code))
        self.memory.unreleased.pop(packet_id, None)
        if not reason_code:
            self.acknowledgements["pubcomp"].append(packet_id)

    def taken_over(self) -> None:
        self._end("taken over")

    def too_slow(self) -> None:
        self._end("too slow")

    def _end(self, reason: str) -> None:
        self.ended.append(reason)
        self.on_end()

    # --- what it does ---

    def acknowledge(self, kind: str) -> bool:
        """Send the next PUBACK, PUBREC or PUBCOMP. :return: whether one was due."""
        waiting = self.acknowledgements[kind]
        if not waiting:
            return False
        packet_id = waiting.popleft()
        if kind == "pubrec":
            self.session.pubrec(packet_id, 0)
        else:
            self.under_way.discard(packet_id)
            getattr(self.session, kind)(packet_id)
        return True

    def acknowledge_all(self) -> bool:
        """All that is due, also because of these. :return: whether there was any."""
        done = False
        while any(self.acknowledge(kind) for kind in ("puback", "pubrec", "pubcomp")):
            done = True
        return done

    def payloads(self) -> list[bytes]:
        """Of every PUBLISH on this connection."""
        return [packet[1] for packet in self.sent if packet[0] == "PUBLISH"]

    def packet_ids(self) -> list[int]:
        """Of every PUBLISH on this connection."""
        return [packet[4] for packet in self.sent if packet[0] == "PUBLISH"]


class House:
    """The sessions of one server, whose process may end at any moment."""

    def __init__(self, bounds: Bounds | None = None, max_kept: int = 3) -> None:
        self.bounds = bounds or Bounds()
        self.max_kept = max_kept
        self.store = Store()
        self.seconds = 1_600_000_000.0
        self.clock = Clock()
        self.reports: list[tuple[str, str]] = []
        self.start()

    def start(self) -> None:
        """Begin with what the store holds."""
        self.rights = Rights()
        self.journal = Journal(self.store, self.clock)
        self.retained = Retained(1000, 1 << 30, self.journal.retained, self.now)
        self.router = Router(100, self.journal, self.retained)
        self.shared = Shared(
            self.journal, self.store, self.bounds, now=self.now, clock=self.clock, report=self.report
        )
        self.sessions = Sessions(self.router, self.retained, self.rights, self.shared, self.max_kept)
        self.sessions.restore(self.store.load())

    def crash(self) -> None:
        """The process is gone, with all that is not committed; another one starts."""
        self.store.waiting.clear()
        self.store.held_reads.clear()
        self.seconds = self.now() / 1e9
        self.clock = Clock()
        self.start()

    def now(self) -> int:
        return int((self.seconds + self.clock.seconds()) * 1e9)

    def report(self, kind: str, detail: str) -> None:
        self.reports.append((kind, detail))

    def settle(self) -> None:
        """Let everything be committed and answered that can be; time passes only while the disk was full."""
        for _ in range(1000):
            self.clock.advance(1 if self.journal.stalled else 0)
            committed = self.journal.committed()
            if committed is not None:
                committed.addErrback(lambda _: None)
            elif not self.store.held_reads:
                return
            self.clock.advance(0)
            self.store.release()
            self.store.answer()
        raise AssertionError("it does not come to rest")

    def open(
        self,
        phone: Phone | None = None,
        name: str = "phone",
        *,
        thing: str = "alice",
        clean_start: bool = False,
        expiry: int = NEVER,
        will: KeptWill | None = None,
        subscribe: str | None = None,
    ) -> tuple[Phone, bool]:
        """Connect a client. :return: it, and whether there was a session."""
        phone = phone or Phone()
        opened = Deferred.fromCoroutine(
            self.sessions.open(self.rights.thing(ThingId(thing)), name, clean_start, expiry, phone, will)
        )
        results: list[Any] = []
        opened.addBoth(results.append)
        self.settle()
        (result,) = results
        if not isinstance(result, tuple):
            result.raiseException()
        phone.session, is_present = result
        session = phone.session
        phone.on_end = lambda: self.sessions.close(session, phone)
        session.attach(phone, phone.receive_maximum)
        if subscribe is not None:
            self.subscribe(phone, subscribe)
        return phone, is_present

    def close(self, phone: Phone, expiry: int | None = None, will: bool = True) -> None:
        """End a client's network connection."""
        self.sessions.close(phone.session, phone, expiry, will)

    def subscribe(self, phone: Phone, topic_filter: str = "#", qos: int = 2) -> None:
        """Subscribe below channel c."""
        text = topic_filter if "/" in topic_filter else f"channels/c/messages/{topic_filter}"
        self.sessions.subscribe(phone.session, parse_filter(text), Options(qos))

    def publish(self, payload: bytes, qos: int = 1, **rest: Any) -> "Deferred[None] | None":
        """Publish on channel c."""
        return self.router.publish(self.message(payload, qos, **rest))

    def message(self, payload: bytes, qos: int = 1, topic: str = "t", **rest: Any) -> Message:
        """A message on channel c."""
        return mqtt(f"channels/c/messages/{topic}", qos, payload=payload, **rest)

    def stall(self) -> None:
        """From now on the disk is full."""
        self.store.fail = Overloaded("the disk is full")
