"""Whose turn it is in a shared subscription (MQTT 5.0, 4.8.2)."""

from collections.abc import Iterator, Sequence

from twisted.logger import Logger

from mfserver.interfaces import ISubscriber
from mfserver.routing.tree import Group, Options

__all__ = ["next_members"]

_log = Logger(__name__)


def next_members(groups: Sequence[Group[ISubscriber]], channel: str) -> Iterator[tuple[ISubscriber, Options]]:
    """Pick who gets a message that groups match: of each group one member, asked for at the last moment.

    The message is that member's alone from then on: it waits in its queue and ends with its session.
    """
    for group in groups:
        member = _next_member(group, channel)
        if member is not None:
            yield member  # [MQTT-4.8.2-4] [MQTT-4.8.2-5] [MQTT-4.8.2-6]


def _next_member(group: Group[ISubscriber], channel: str) -> tuple[ISubscriber, Options] | None:
    """Pick who of a group gets a message, in turn: of those who may, one who is ready; without any, the next.

    Members that were passed over go to the end, so that a group of which most are ready costs O(1). The
    worst is a look at each member: less than what the same subscriptions cost unshared.

    :param channel: where the message was published; members whose thing may not use it now are left out.
    :return: the member and what it asks for; None when nobody may.
    """
    subscriptions = group.subscriptions
    waiting: ISubscriber | None = None
    for _ in range(len(subscriptions)):
        member = next(iter(subscriptions))
        subscriptions.move_to_end(member)
        try:
            if channel not in member.thing.channels:
                continue
            if member.is_ready():
                return member, subscriptions[member]
        except Exception:
            _log.failure("a subscriber failed to say whether it is ready")
            continue
        if waiting is None:
            waiting = member
    if waiting is None:
        return None
    subscriptions.move_to_end(waiting)
    return waiting, subscriptions[waiting]
