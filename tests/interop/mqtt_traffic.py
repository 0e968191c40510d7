"""Publishers who number what they say, and subscribers who notice what is missing, twice or out of order."""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from mfserver.mqtt.packets import Publish
from tests.interop.mqtt_wire import NEVER, Client, Crowd, Place

__all__ = ["Keeper", "Listener", "Restless", "Series", "Speaker", "User", "series_of"]

#: The id and the key of a thing.
User = tuple[str, str]
#: What a series of numbers belongs to: a publisher's client id and the QoS that it published at.
Series = tuple[str, int]

_PADDING: Final = bytes(4096)


class Speaker(Client):
    """Publishes numbers from 0 on, at QoS 1 and at QoS 2.

    :ivar sent: how many, by QoS.
    :ivar acknowledged: which, by QoS; at QoS 2 by PUBREC.
    :ivar refused: which, by QoS, with the reason code.
    """

    def __init__(
        self, crowd: Crowd, name: str, topic: str, *, version: int, user: User | None, expiry: int = NEVER
    ) -> None:
        super().__init__(crowd, name, version=version, user=user, expiry=expiry)
        self.topic = topic
        self.sent = {1: 0, 2: 0}
        self.acknowledged: dict[int, list[int]] = {1: [], 2: []}
        self.refused: dict[int, dict[int, int]] = {1: {}, 2: {}}

    def speak(self, qos: int, size: int = 0) -> None:
        """Publish the next number, with so many bytes behind it."""
        payload = b"%s %d %d " % (self.client_id.encode(), qos, self.sent[qos])
        self.sent[qos] += 1
        self.publish(self.topic, payload + _PADDING[:size], qos)

    def publish_acknowledged(self, publish: Publish) -> None:
        self.acknowledged[publish.qos].append(series_of(publish)[1])

    def publish_refused(self, publish: Publish, reason_code: int) -> None:
        self.refused[publish.qos][series_of(publish)[1]] = reason_code

    @property
    def is_content(self) -> bool:
        """Whether everything that it said was answered to the end."""
        return not self.in_flight


class Listener(Client):
    """Hears numbers. Each series has to come from 0 on, without a gap and, at QoS 2, without a repetition.

    :param qos: that its subscriptions are granted.
    :param may_miss: asked of each number that did not come: whether its publisher was refused.
    :ivar expected: the number that comes next, by series.
    :ivar delivered: different messages, by the QoS that they were delivered at.
    :ivar duplicates: those that came again.
    """

    def __init__(
        self,
        crowd: Crowd,
        name: str,
        *,
        version: int,
        user: User | None,
        qos: int = 2,
        receive_maximum: int = 0,
        topic_alias_maximum: int = 0,
        may_miss: Callable[[Series, int], bool] = lambda series, number: False,
    ) -> None:
        super().__init__(
            crowd,
            name,
            version=version,
            user=user,
            receive_maximum=receive_maximum,
            topic_alias_maximum=topic_alias_maximum,
        )
        self.qos = qos
        self._may_miss = may_miss
        self.expected: Counter[Series] = Counter()
        self.delivered: Counter[int] = Counter()
        self.duplicates: Counter[int] = Counter()

    def message_received(self, publish: Publish) -> None:
        series, number = series_of(publish)
        if publish.qos != min(series[1], self.qos):
            self.wrong.append(f"{series} {number} came at QoS {publish.qos}")
        expected = self.expected[series]
        if number < expected:
            self.duplicates[publish.qos] += 1
            if publish.qos == 2:
                self.wrong.append(f"{series} {number} came twice")
            return
        missing = [gap for gap in range(expected, number) if not self._may_miss(series, gap)]
        if missing:
            self.wrong.append(f"{series} {number} came where {missing[:5]} should")
        self.delivered[publish.qos] += 1
        self.expected[series] = number + 1


class Keeper(Client):
    """Replaces one retained message again and again: by numbers from 0 on.

    :param qos: of all of them: a repetition at QoS 1 may come after a message of QoS 2 that is not repeated.
    :ivar sent: the last number.
    :ivar acknowledged: the last one that was.
    """

    def __init__(self, crowd: Crowd, name: str, topic: str, qos: int, *, version: int, user: User) -> None:
        super().__init__(crowd, name, version=version, user=user)
        self.topic = topic
        self._qos = qos
        self.sent = self.acknowledged = -1

    def keep(self) -> None:
        """Publish the next number."""
        self.sent += 1
        self.publish(self.topic, b"%d" % self.sent, self._qos, retain=True)

    def publish_acknowledged(self, publish: Publish) -> None:
        self.acknowledged = max(self.acknowledged, int(publish.payload))


class Restless:
    """Lets clients come and go: gone without a word, with a DISCONNECT, or back before they were gone.

    :param present: least and most seconds that one stays; so ``absent``.
    """

    def __init__(
        self,
        clients: Sequence[Client],
        chance: random.Random,
        present: tuple[float, float],
        absent: tuple[float, float],
    ) -> None:
        self._clients = clients
        self._chance = chance
        self._present = present
        self._absent = absent
        self._moments: dict[str, float] = {}

    def begin(self) -> None:
        """Everybody is away, and comes within the next moments."""
        now = time.monotonic()
        self._moments = {
            client.client_id: now + self._chance.uniform(0, self._absent[1]) for client in self._clients
        }

    def move(self, place: Place) -> None:
        """Those whose moment it is come or go."""
        now = time.monotonic()
        for client in self._clients:
            if now < self._moments[client.client_id]:
                continue
            stays = client.is_closed
            if stays:
                client.open(place)
            elif client.is_open:
                stays = self._change(client, place)
            self._moments[client.client_id] = now + self._chance.uniform(
                *(self._present if stays else self._absent)
            )

    def _change(self, client: Client, place: Place) -> bool:
        """:return: whether it is there afterwards."""
        what = self._chance.random()
        if what < 0.2:
            client.open(place)
            return True
        if what < 0.5:
            client.leave()
        else:
            client.cut()
        return False


def series_of(publish: Publish) -> tuple[Series, int]:
    """The series that a message belongs to, and its number."""
    name, qos, number = publish.payload.split(b" ", 3)[:3]
    return (name.decode(), int(qos)), int(number)
