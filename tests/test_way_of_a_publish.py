"""The README's list "The way of one PUBLISH" is true: every name is there, and called in that order."""

import importlib
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mfserver.cred.access import Presence
from mfserver.mqtt import properties
from mfserver.mqtt.encode import encode
from mfserver.mqtt.packets import Publish
from mfserver.records import ChannelId
from tests.adapters.mqtt_case import MQTTTestCase, packets, pubacks
from tests.builds import pure_only
from tests.cred.fakes import House, alices_thing

_README = Path(__file__).resolve().parents[1] / "README.rst"
#: The wire in memory has no TLS.
_BELOW_THE_WIRE = "mfserver.tls.transport:TLSTransport.ready"
#: No call, but a look into the set that it gave the thing.
_A_LOOK = "mfserver.cred.access"
_TOPIC = "channels/c/messages/a"


def steps() -> list[str]:
    """The ``module`` or ``module:name`` of each numbered line, in their order."""
    text = _README.read_text(encoding="utf-8")
    section = re.split(r"^The way of one PUBLISH\n-+\n", text, flags=re.MULTILINE)[1]
    section = re.split(r"^.+\n-{3,}\n", section, flags=re.MULTILINE)[0]
    items = re.findall(r"^(\d+)\. (.*(?:\n {3,}.*)*)", section, flags=re.MULTILINE)
    assert [int(number) for number, _ in items] == list(range(1, len(items) + 1))
    names = [re.findall(r"``(mfserver[\w.]*(?::[\w.]+)?)``", item) for _, item in items]
    assert all(len(found) == 1 for found in names), "each line names one function or module"
    return [found[0] for found in names]


def code_of(step: str) -> set[CodeType]:
    """Every function that a step stands for: itself, a class's methods, or all of a module."""
    module_name, _, name = step.partition(":")
    found: Any = importlib.import_module(module_name)
    for part in name.split(".") if name else ():
        found = getattr(found, part)
    if inspect.isfunction(found):
        return {found.__code__}
    members = [found] if inspect.isclass(found) else _defined_in(found)
    functions = [one for one in members if inspect.isfunction(one)]
    for one in members:
        if inspect.isclass(one):
            functions += [member for member in vars(one).values() if inspect.isfunction(member)]
    return {function.__code__ for function in functions}


def _defined_in(module: Any) -> list[Any]:
    return [one for one in vars(module).values() if getattr(one, "__module__", None) == module.__name__]


def recorded(call: Callable[[], object]) -> list[CodeType]:
    """The functions that a call enters, in their order."""
    entered: list[CodeType] = []

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            entered.append(frame.f_code)

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(before)
    return entered


class Watched(set[ChannelId]):
    """A thing's channels, which can tell when they are looked into."""

    def __contains__(self, channel: object) -> bool:
        return super().__contains__(channel)


class WayOfAPublishTests(MQTTTestCase):
    """One PUBLISH at QoS 1, from its bytes to a subscriber whose session is kept, and to its PUBACK."""

    @pure_only
    def test_names(self) -> None:
        """Every step is there, and stands for functions of its own."""
        found = steps()
        self.assertGreater(len(found), 10)
        for step in found:
            self.assertTrue(code_of(step), step)

    @pure_only
    def test_order(self) -> None:
        """Each step is entered after the one before it."""
        self.alice.channels = Watched(self.alice.channels)
        alice = self.connect("alice")
        bob = self.connect("bob", properties={properties.SESSION_EXPIRY_INTERVAL: 60})
        self.subscribe(bob, _TOPIC)
        data = encode(Publish(_TOPIC, b"hello", qos=1, packet_id=9), 5)

        def publish() -> None:
            alice.protocol.dataReceived(data)
            self.house.end_turn()
            self.assertEqual([(9, 0)], pubacks(packets(alice.take())))

        entered = recorded(publish)
        self.assertEqual([(_TOPIC, b"hello", 1)], self.delivered(bob))
        position = -1
        for step in steps():
            if step == _BELOW_THE_WIRE:
                continue
            codes = {Watched.__contains__.__code__} if step == _A_LOOK else code_of(step)
            later = [index for index, code in enumerate(entered) if code in codes and index > position]
            self.assertTrue(later, f"{step} is not called after the steps before it")
            position = later[0]

    def test_one_write(self) -> None:
        """The last step, told of ``Turn``: three messages of one turn are one write."""
        alice, bob = self.connect("alice"), self.connect("bob")
        self.subscribe(bob, _TOPIC)
        writes: list[bytes] = []
        bob.write = writes.append  # type: ignore[method-assign]
        alice.receive(encode(Publish(_TOPIC, b"x"), 5) * 3)
        self.house.end_turn()
        self.assertEqual(1, len(writes))


class AccessTests(SynchronousTestCase):
    """The step that is no call: a look into a set in memory."""

    def test_set(self) -> None:
        """What Access gives a thing is a set, so that asking it calls nothing and waits for nothing."""
        house = House()
        thing = alices_thing(1)
        self.assertEqual(thing.id, self.successResultOf(Deferred.fromCoroutine(house.access.find(thing.key))))
        login = house.access.login(thing.id, Presence(None, None))
        self.assertIs(set, type(login.avatar.channels))
