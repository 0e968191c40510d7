"""One session through anything that may happen: nothing that was promised is lost, twice or out of order."""

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from mfserver.errors import Overloaded
from mfserver.routing.sessions import Bounds
from tests.routing.house import OVERHEAD, House, Memory, Phone

#: Messages of the longest payload that fit into memory.
_FITTING = 4
_LONGEST = 200
_MEMORY = _FITTING * (OVERHEAD + _LONGEST)


class Life(RuleBasedStateMachine):
    """A publisher that counts what it was promised, and a correct client that comes and goes."""

    queue_qos0 = False

    def __init__(self) -> None:
        super().__init__()
        self.house = House(Bounds(memory=_MEMORY, queue_qos0=self.queue_qos0))
        self.memory = Memory()
        self.phone: Phone | None = None
        self.number = 0
        self.crashes = 0
        self.since = 0  # publishes of this process without an answer
        self.promised: dict[int, list[bytes]] = {1: [], 2: []}
        self.published: dict[int, list[bytes]] = {0: [], 1: [], 2: []}

    @initialize(qos=st.integers(1, 2))
    def begin(self, qos: int) -> None:
        self.phone, _ = self.house.open(Phone(self.memory), subscribe="#")
        self.house.settle()

    @rule(qos=st.integers(0, 2), length=st.integers(0, _LONGEST), many=st.sampled_from([1, 1, 2, 30]))
    def publish(self, qos: int, length: int, many: int) -> None:
        """The length of some is such that few fit into memory."""
        for _ in range(many):
            self.number += 1
            payload = b"%d" % self.number
            payload += bytes(max(0, length - len(payload)))
            self.published[qos].append(payload)
            committed = self.house.publish(payload, qos)
            self.since += bool(qos)
            if not qos:
                continue
            if committed is None:
                self._promise(None, qos, payload)
            else:
                committed.addCallback(self._promise, qos, payload)

    def _promise(self, _: None, qos: int, payload: bytes) -> None:
        self.since -= 1
        self.promised[qos].append(payload)

    @rule(kind=st.sampled_from(["puback", "pubrec", "pubcomp"]), times=st.integers(1, 5))
    def acknowledge(self, kind: str, times: int) -> None:
        if self.phone is not None:
            for _ in range(times):
                self.phone.acknowledge(kind)

    @rule()
    def acknowledge_all(self) -> None:
        if self.phone is not None:
            self.phone.acknowledge_all()

    @rule(writable=st.booleans())
    def reads(self, writable: bool) -> None:
        if self.phone is not None:
            self.phone.is_writable = writable
            if writable:
                self.phone.session.pump()

    @rule()
    def disconnect(self) -> None:
        if self.phone is not None:
            self.house.close(self.phone)
            self.phone = None

    @rule(receive_maximum=st.sampled_from([1, 2, 5, 65_535]), writable=st.booleans())
    def connect(self, receive_maximum: int, writable: bool) -> None:
        """It may take over its own older connection."""
        if self.house.store.fail is not None:
            return  # it would wait
        hold, self.house.store.hold = self.house.store.hold, False
        hold_reads = self.house.store.hold_reads
        self.house.store.hold_reads = False
        phone = Phone(self.memory, receive_maximum)
        phone.is_writable = writable
        _, is_present = self.house.open(phone)
        assert is_present
        self.phone = phone
        self.house.store.hold, self.house.store.hold_reads = hold, hold_reads

    @rule(hold=st.booleans())
    def hold_commits(self, hold: bool) -> None:
        self.house.store.hold = hold

    @rule(hold=st.booleans())
    def hold_reads(self, hold: bool) -> None:
        self.house.store.hold_reads = hold

    @rule()
    def commit(self) -> None:
        self.house.store.release()

    @rule()
    def answer(self) -> None:
        self.house.store.answer()

    @rule(full=st.booleans())
    def disk(self, full: bool) -> None:
        self.house.store.fail = Overloaded("no room") if full else None

    @rule(fails=st.booleans())
    def reads_fail(self, fails: bool) -> None:
        self.house.store.fail_reads = Overloaded("busy") if fails else None

    @rule(seconds=st.sampled_from([0, 0.1, 1]))
    def wait(self, seconds: float) -> None:
        self.house.clock.advance(seconds)

    @rule()
    def crash(self) -> None:
        self.house.crash()
        self.crashes += 1
        self.since = 0
        self.phone = None

    @invariant()
    def is_bounded(self) -> None:
        """What waits in memory for the client."""
        if self.phone is None:
            return
        session = self.phone.session
        assert session.state.waiting_bytes <= _MEMORY + OVERHEAD + _LONGEST
        assert len(session.state.waiting) <= 200
        assert session.count >= 0
        assert session.size >= 0

    def teardown(self) -> None:
        """In the end a client that keeps to the rules gets what is left, and the disk is empty."""
        house = self.house
        store = house.store
        store.fail = store.fail_reads = None
        store.hold = store.hold_reads = False
        self._rest()
        assert not self.since, "a publisher waits for ever"
        if self.phone is not None:
            self._count(self.phone)
            self.phone.is_writable = True
            self.phone.session.pump()
            self._rest()
            while self.phone.acknowledge_all():
                self._rest()
            self._count(self.phone)
            self._compare()
            house.close(self.phone)
            house.settle()
        self.phone, is_present = house.open(Phone(self.memory))
        assert is_present or not self.number
        self._rest()
        while self.phone.acknowledge_all():
            self._rest()
        self._compare()
        self._count(self.phone)
        session = self.phone.session
        assert (session.count, session.size) == (0, 0), (session.count, session.size)
        assert session.is_ready()
        assert not self.memory.unreleased
        house.close(self.phone, 0)
        house.settle()
        assert store.is_empty()
        assert not house.rights.held
        assert not house.shared.dropped or self.published[0]

    def _rest(self) -> None:
        """Long enough for whatever is tried again each second."""
        for _ in range(4):
            self.house.clock.advance(1)
            self.house.store.release()
            self.house.store.answer()
            self.house.settle()

    def _count(self, phone: Phone) -> None:
        session = phone.session
        assert self.house.store.queue(session) == (session.count, session.size)

    def _compare(self) -> None:
        got = self.memory.got
        assert got[2] == _only(got[2], self.published[2]), "QoS 2 twice or out of order"
        assert _only(self.promised[2], got[2]) == self.promised[2], "QoS 2 was promised, and lost"
        first = list(dict.fromkeys(got[1]))
        assert first == _only(first, self.published[1]), "QoS 1 out of order"
        assert set(self.promised[1]) <= set(first), "QoS 1 was promised, and lost"
        # That a QoS 0 message was sent need not be on the disk when the process ends.
        assert self.crashes or got[0] == _only(got[0], self.published[0]), "QoS 0 twice or out of order"


class KeepingLife(Life):
    """The same where messages at QoS 0 wait for a client that is away."""

    queue_qos0 = True


def _only(wanted: list[bytes], among: list[bytes]) -> list[bytes]:
    """Those of some that are wanted, in their order, each once."""
    names = set(wanted)
    return [it for it in among if it in names]


class LifeTests(SynchronousTestCase):
    """Random lives."""

    def _live(self, machine: Any, examples: int) -> None:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )

    def test_life(self) -> None:
        """QoS 1 at least once, QoS 2 exactly once, each in order, across crashes; memory is bounded."""
        self._live(Life, 60)

    def test_life_with_qos0(self) -> None:
        """So it is where QoS 0 stands among them on the disk."""
        self._live(KeepingLife, 60)
