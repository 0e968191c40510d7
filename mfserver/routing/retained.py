"""Retained messages (MQTT 5.0, 3.3.1.3): the last of each topic, kept for those who subscribe later.

They belong to their topic, and not to the session that published them (of 3.1.1 [MQTT-3.1.2-7]).

All of them are in memory, per channel in a tree of topic levels, and a journal is told of every change.
Sizes are about what Python takes for them, so that the bound on bytes bounds memory: a topic of a hundred
levels takes much more than it has characters.
"""

from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heappush
from typing import Final

from mfserver.errors import Overloaded
from mfserver.message import Message, text_size
from mfserver.topic import TopicFilter

__all__ = ["Found", "Retained"]

#: Bytes of a node with its dictionary and its place in the one above, and of a message with its place among
#: those that expire; both without their texts.
_NODE: Final = 320
_MESSAGE: Final = 600
#: Expired messages that one call drops at most.
_SWEEP: Final = 100


class _Node:
    """One topic level below its parent; the root of a channel has no parent, and the channel as its level.

    :ivar size: bytes of the message here.
    :ivar serial: of the message here: it grows with each that is put anywhere.
    :ivar place: a small number that no other node with a message has.
    """

    __slots__ = ("children", "level", "message", "parent", "place", "serial", "size")

    def __init__(self, parent: "_Node | None", level: str) -> None:
        self.parent = parent
        self.level = level
        self.children: dict[str, _Node] = {}
        self.message: Message | None = None
        self.size = 0
        self.serial = 0
        self.place = 0


class Retained:
    """The retained messages of all channels.

    :param max_messages: how many there may be.
    :param max_bytes: how much memory they may take, about.
    :param record: told of each change: channel, levels, and the message, None for one that is gone.
    :param now: the wall clock, in nanoseconds since 1970.
    :ivar size: bytes that they take, about.
    :ivar dropped: messages that came without being asked :meth:`check` for, and did not fit.
    :ivar last_serial: that of the newest.
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
        # When each message expires and its serial; the serials of those that are gone are found out later.
        self._expiries: list[tuple[int, int]] = []
        self._expiring: dict[int, _Node] = {}
        self._free_places: list[int] = []
        self.last_serial = 0
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
        node = self.node(message.channel, message.levels)
        if node is not None and node.message is not None:
            self._drop(node, node.message)  # [MQTT-3.3.1-6], of 3.1.1 [MQTT-3.3.1-10]

    def find(self, topic_filter: TopicFilter) -> "Found":
        """What there is now of which the topics match; it is looked for as it is asked for.

        A shared subscription gets none (4.8.2).
        """
        return Found(self, topic_filter)

    def match(self, topic_filter: TopicFilter) -> list[Message]:
        """All that :meth:`find` finds, at once."""
        found, messages = self.find(topic_filter), []
        while not found.is_over:
            message = found.look()
            if message is not None:
                messages.append(message)
        return messages

    @property
    def places(self) -> int:
        """A number above every node's :attr:`_Node.place`."""
        return self._count + len(self._free_places)

    def give_out(self, node: _Node) -> Message | None:
        """A copy of what is in a node, with RETAIN set; once it has expired, None, and it is dropped."""
        message = node.message
        if message is not None and message.expires and message.expires <= self._now():
            self._drop(node, message)  # [MQTT-3.3.2-5]
            return None
        return None if message is None else _copy(message)  # of 3.1.1 [MQTT-3.3.1-6]

    def walk(self, topic_filter: TopicFilter) -> "Iterator[_Node | None]":
        """The nodes that a filter matches, None for each other one that is looked at."""
        root = None if topic_filter.share else self._channels.get(topic_filter.channel)
        return iter(()) if root is None else _walk(root, topic_filter.levels)

    def node(self, channel: str, levels: tuple[str, ...]) -> _Node | None:
        """The node of a topic."""
        return self._find(channel, levels)[0]

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
        node.place = self._free_places.pop() if self._free_places else self._count
        self._count += 1
        self.last_serial += 1
        node.serial = self.last_serial
        if message.expires:
            self._expiring[node.serial] = node
            heappush(self._expiries, (message.expires, node.serial))
            if len(self._expiries) > 2 * len(self._expiring) + _SWEEP:
                self._expiries = [expiry for expiry in self._expiries if expiry[1] in self._expiring]
                heapify(self._expiries)

    def _take(self, node: _Node) -> None:
        """Take the message out of its node, if there is one."""
        if node.message is not None:
            node.message = None
            self._count -= 1
            self.size -= node.size
            self._free_places.append(node.place)
            self._expiring.pop(node.serial, None)

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


class Found:
    """The retained messages that match a filter: those that there were when it was made, and still are.

    What is replaced before its turn is left out: who asks gets the newer one as it is published. It holds no
    message, so that those which are replaced meanwhile take no room.

    :ivar is_over: all was looked at.
    """

    __slots__ = ("_nodes", "_retained", "_seen", "_serial", "_topic_filter", "is_over")

    def __init__(self, retained: Retained, topic_filter: TopicFilter) -> None:
        self.is_over = False
        self._retained = retained
        self._topic_filter = topic_filter
        self._serial = retained.last_serial
        # Begun with the first look: very many may wait for theirs.
        self._nodes: Iterator[_Node | None] | None = None
        self._seen: bytearray | None = None

    def look(self) -> Message | None:
        """Look at the next node: a copy of its message, None where it has none that is asked for."""
        if self._nodes is None:
            self._nodes = self._retained.walk(self._topic_filter)
        node = next(self._nodes, self)
        if isinstance(node, Found):
            self.is_over = True
            return None
        return None if node is None else self._take(node)

    def take(self, channel: str, levels: tuple[str, ...]) -> Message | None:
        """What was not looked at yet of one topic, before its turn."""
        wanted = self._topic_filter
        if channel != wanted.channel or wanted.share or not _matches(wanted.levels, levels):
            return None
        node = self._retained.node(channel, levels)
        return None if node is None else self._take(node)

    def _take(self, node: _Node) -> Message | None:
        if node.message is None or node.serial > self._serial:
            return None
        if self._seen is None:  # a bit for each place; of what came later nobody asks
            self._seen = bytearray(self._retained.places // 8 + 1)
        byte, bit = node.place >> 3, 1 << (node.place & 7)
        if self._seen[byte] & bit:
            return None
        self._seen[byte] |= bit
        return self._retained.give_out(node)


def _walk(root: _Node, levels: tuple[str, ...]) -> Iterator[_Node | None]:
    """The nodes that a filter matches, None for each other one; the tree may change meanwhile."""
    last = len(levels)
    below: list[tuple[Iterator[_Node], int]] = [(iter((root,)), 0)]
    while below:
        nodes, depth = below[-1]
        node = next(nodes, None)
        if node is None:
            below.pop()
            continue
        level = levels[depth] if depth < last else ""
        is_rest = depth < last and level == "#"  # the level above it too (4.7.1.2)
        if is_rest or (depth < last and level == "+"):
            if node.children:
                below.append((iter(list(node.children.values())), depth if is_rest else depth + 1))
        elif depth < last:
            child = node.children.get(level)
            if child is not None:
                below.append((iter((child,)), depth + 1))
        yield node if is_rest or depth == last else None


def _matches(wanted: tuple[str, ...], levels: tuple[str, ...]) -> bool:
    """Whether a filter's levels match a topic's."""
    if wanted and wanted[-1] == "#":
        wanted = wanted[:-1]
        if len(levels) < len(wanted):
            return False
        levels = levels[: len(wanted)]
    return len(wanted) == len(levels) and all(
        one in ("+", other) for one, other in zip(wanted, levels, strict=True)
    )


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
