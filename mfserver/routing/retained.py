"""Retained messages (MQTT 5.0, 3.3.1.3): the last of each topic, kept for those who subscribe later.

They belong to their topic, and not to the session that published them (of 3.1.1 [MQTT-3.1.2-7]).

All of them are in memory, per channel in a tree of topic levels, and a journal is told of every change.
Sizes are about what Python takes for them, so that the bound on bytes bounds memory: a topic of a hundred
levels takes much more than it has characters.
"""

from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from typing import Final

from mfserver.errors import Overloaded
from mfserver.message import Message, text_size
from mfserver.topic import TopicFilter

__all__ = ["Retained"]

#: Bytes of a node with its dictionary and its place in the one above, and of a message with its place among
#: those that expire; both without their texts.
_NODE: Final = 320
_MESSAGE: Final = 600
#: Expired messages that one call drops at most.
_SWEEP: Final = 100


class _Node:
    """One topic level below its parent; the root of a channel has no parent, and the channel as its level.

    :ivar size: bytes of the message here.
    :ivar number: of the message here among those that expire, where it does.
    """

    __slots__ = ("children", "level", "message", "number", "parent", "size")

    def __init__(self, parent: "_Node | None", level: str) -> None:
        self.parent = parent
        self.level = level
        self.children: dict[str, _Node] = {}
        self.message: Message | None = None
        self.size = 0
        self.number = 0


class Retained:
    """The retained messages of all channels.

    :param max_messages: how many there may be.
    :param max_bytes: how much memory they may take, about.
    :param record: told of each change: channel, levels, and the message, None for one that is gone.
    :param now: the wall clock, in nanoseconds since 1970.
    :ivar size: bytes that they take, about.
    :ivar dropped: messages that came without being asked :meth:`check` for, and did not fit.
    """

    def __init__(
        self,
        max_messages: int,
        max_bytes: int,
        record: Callable[[str, tuple[str, ...], Message | None], None],
        now: Callable[[], int],
    ) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._record = record
        self._now = now
        self._channels: dict[str, _Node] = {}
        self._count = 0
        # When each message expires and its number; the numbers of those that are gone are found out later.
        self._expiries: list[tuple[int, int]] = []
        self._expiring: dict[int, _Node] = {}
        self._last_number = 0
        self.size = 0
        self.dropped = 0

    def __len__(self) -> int:
        return self._count

    def check(self, message: Message) -> None:
        """Ask whether a message that is about to be published could be kept, if it is to be.

        :raises Overloaded: it would not fit.
        """
        if message.retain and message.payload:
            self._sweep()
            if not self._fits(message):
                raise Overloaded("too many retained messages, or too large ones")

    def keep(self, message: Message) -> None:
        """Keep a copy of a message with RETAIN in the place of its topic's older one; an empty one clears it.

        One that does not fit clears it too: the older one is not true any more.
        """
        self._sweep()
        if message.payload:  # [MQTT-3.3.1-7], of 3.1.1 [MQTT-3.3.1-11]
            if self._fits(message):
                kept = _copy(message)
                self._put(kept)  # [MQTT-3.3.1-5], of 3.1.1 [MQTT-3.3.1-5] [MQTT-3.3.1-7]
                self._record(kept.channel, kept.levels, kept)
                return
            self.dropped += 1
        node = self._find(message.channel, message.levels)[0]
        if node is not None and node.message is not None:
            self._drop(node, node.message)  # [MQTT-3.3.1-6], of 3.1.1 [MQTT-3.3.1-10]

    def match(self, topic_filter: TopicFilter) -> list[Message]:
        """The messages whose topics match, as copies of the caller's own with RETAIN set.

        It costs at most a look at each node of the channel. A shared subscription gets none (4.8.2).
        """
        root = self._channels.get(topic_filter.channel)
        if root is None or topic_filter.share:
            return []
        nodes = [root]
        for level in topic_filter.levels:
            if level == "#":
                for node in nodes:  # it grows meanwhile: all levels below, and this one (4.7.1.2)
                    nodes.extend(node.children.values())
            elif level == "+":
                nodes = [child for node in nodes for child in node.children.values()]
            else:
                nodes = [child for node in nodes if (child := node.children.get(level)) is not None]
        found: list[Message] = []
        now = self._now()
        for node in nodes:
            message = node.message
            if message is None:
                continue
            if message.expires and message.expires <= now:
                self._drop(node, message)  # [MQTT-3.3.2-5]
            else:
                found.append(_copy(message))  # of 3.1.1 [MQTT-3.3.1-6]
        return found

    def channels_gone(self, channels: Iterable[str]) -> None:
        """Forget the messages of channels that were deleted; the journal is told by who tells us."""
        for channel in channels:
            root = self._channels.pop(channel, None)
            if root is None:
                continue
            nodes = [root]
            for node in nodes:
                nodes.extend(node.children.values())
                self._take(node)
                self.size -= _node_size(node.level)

    def restore(self, messages: Iterable[Message]) -> None:
        """Put back what the journal kept, even where the bounds have become lower since."""
        for message in messages:
            self._put(message)

    def _find(self, channel: str, levels: tuple[str, ...]) -> tuple[_Node | None, int]:
        """The node of a topic, or None and the bytes of the nodes that are missing."""
        node = self._channels.get(channel)
        missing = 0 if node is not None else _node_size(channel)
        for level in levels:
            if node is not None:
                node = node.children.get(level)
            if node is None:
                missing += _node_size(level)
        return node, missing

    def _fits(self, message: Message) -> bool:
        """Whether there is room for a message in the place of its topic's older one."""
        node, size = self._find(message.channel, message.levels)
        size += self.size + _message_size(message)
        count = self._count + 1
        if node is not None and node.message is not None:
            size -= node.size
            count -= 1
        return count <= self._max_messages and size <= self._max_bytes

    def _put(self, message: Message) -> None:
        """Put a message in its place."""
        node = self._channels.get(message.channel)
        if node is None:
            node = self._channels[message.channel] = _Node(None, message.channel)
            self.size += _node_size(message.channel)
        for level in message.levels:
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node(node, level)
                self.size += _node_size(level)
            node = child
        self._take(node)
        node.message = message
        node.size = _message_size(message)
        self.size += node.size
        self._count += 1
        if message.expires:
            self._last_number += 1
            node.number = self._last_number
            self._expiring[node.number] = node
            heappush(self._expiries, (message.expires, node.number))
            if len(self._expiries) > 2 * len(self._expiring) + _SWEEP:
                self._expiries = [expiry for expiry in self._expiries if expiry[1] in self._expiring]
                heapify(self._expiries)

    def _take(self, node: _Node) -> None:
        """Take the message out of its node, if there is one."""
        if node.message is not None:
            node.message = None
            self._count -= 1
            self.size -= node.size
            self._expiring.pop(node.number, None)

    def _drop(self, node: _Node, message: Message) -> None:
        """Take the message out of its node, cut off what has become empty, upwards, and record it."""
        self._take(node)
        while node.message is None and not node.children:
            self.size -= _node_size(node.level)
            parent = node.parent
            if parent is None:
                del self._channels[node.level]
                break
            del parent.children[node.level]
            node = parent
        self._record(message.channel, message.levels, None)

    def _sweep(self) -> None:
        """Drop messages that have expired, the oldest first, and no more than a few."""
        now = self._now()
        for _ in range(_SWEEP):
            if not self._expiries or self._expiries[0][0] > now:
                return
            node = self._expiring.get(heappop(self._expiries)[1])
            if node is not None and node.message is not None:
                self._drop(node, node.message)


def _copy(message: Message) -> Message:
    """A message as it is kept and given out: of no session, and with nothing that others leave in it.

    What is encoded for one client, or its number in a queue on the disk, must not live as long as this.
    """
    return Message(
        message.channel,
        message.levels,
        message.subtopic,
        message.publisher,
        message.protocol,
        message.payload,
        message.content_type,
        message.created,
        message.qos,
        True,  # of 3.1.1 [MQTT-3.3.1-8]
        message.properties,
        None,
        message.expires,
    )


def _node_size(level: str) -> int:
    """Bytes of a node."""
    return _NODE + text_size(level)


def _message_size(message: Message) -> int:
    """Bytes of a message in its node, with the topic that it holds itself."""
    size = _MESSAGE + message.size + text_size(message.subtopic) + text_size(message.content_type)
    return (
        size + text_size(message.channel) + text_size(message.publisher) + sum(map(text_size, message.levels))
    )
