"""What all clients together may make the server hold, where each of them is bounded but they are many."""

__all__ = ["Budget"]


class Budget:
    """Bytes of input that is not complete: half a control packet, half a request's body.

    :ivar used: bytes taken now.
    """

    __slots__ = ("maximum", "used")

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.used = 0

    def take(self, amount: int) -> bool:
        """Take so many bytes. :return: False, and none are taken, where there are not as many left."""
        if self.used + amount > self.maximum:
            return False
        self.used += amount
        return True

    def give(self, amount: int) -> None:
        """Give back what was taken."""
        self.used -= amount
