"""What all clients together may make the server hold, where each of them is bounded but they are many."""

__all__ = ["Budget"]


class Budget:
    """Bytes that are not complete, half a control packet or half a body, or that nobody takes off us.

    :param maximum: of all clients.
    :param per_address: of those from one network, as :func:`mfserver.address.network` names it, so that one
        neighbour alone cannot take what everybody needs; None for as much as all.
    :ivar used: bytes taken now.
    """

    __slots__ = ("_addresses", "maximum", "per_address", "used")

    def __init__(self, maximum: int, per_address: int | None = None) -> None:
        self.maximum = maximum
        self.per_address = per_address
        self.used = 0
        self._addresses: dict[str, int] = {}

    def take(self, amount: int, address: str) -> bool:
        """Take so many bytes. :return: False, and none are taken, where there are not as many left."""
        held = self._addresses.get(address, 0) + amount
        if self.used + amount > self.maximum or (self.per_address is not None and held > self.per_address):
            return False
        if amount:
            self.used += amount
            self._addresses[address] = held
        return True

    def give(self, amount: int, address: str) -> None:
        """Give back what was taken."""
        if not amount:
            return
        self.used -= amount
        held = self._addresses[address] - amount
        if held:
            self._addresses[address] = held
        else:
            del self._addresses[address]
