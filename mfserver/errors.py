"""What can go wrong, in words that know no protocol and no database.

Each adapter has one dictionary from these classes to the status of its protocol. The text of an error
is written for the person at the other end: short, lower-case, and never with a key, a password, a token
or a payload in it.
"""

__all__ = [
    "MFServerError",
    "ConfigurationError",
    "Invalid",
    "Unauthenticated",
    "NotAuthorized",
    "NotFound",
    "Conflict",
    "TooLarge",
    "SlowDown",
    "Overloaded",
    "Unavailable",
]


class MFServerError(Exception):
    """The base of every error that mfserver raises on purpose."""


class ConfigurationError(MFServerError):
    """An option, a file or an address that the server was started with cannot be used.

    :ivar option: the option that the user has to change (``--cert``), or None.
    """

    def __init__(self, text: str, option: str | None = None) -> None:
        super().__init__(text)
        self.option = option


class Invalid(MFServerError):
    """What was asked is malformed; asking again the same way cannot help.

    :ivar field: the name of the wrong field or parameter, or None.
    """

    def __init__(self, text: str, field: str | None = None) -> None:
        super().__init__(text)
        self.field = field


class Unauthenticated(MFServerError):
    """Nobody, or nobody known, is asking."""


class NotAuthorized(MFServerError):
    """Somebody known asks for what is not theirs, or claims two identities at once."""


class NotFound(MFServerError):
    """There is no such thing, or it is somebody else's: the two look alike."""


class Conflict(MFServerError):
    """It exists already, or is taken."""


class TooLarge(MFServerError):
    """More bytes than the server's bound.

    :ivar limit: the bound in bytes.
    """

    def __init__(self, text: str, limit: int) -> None:
        super().__init__(text)
        self.limit = limit


class SlowDown(MFServerError):
    """Too many attempts; the next is looked at after a pause.

    :ivar retry_after: seconds until then.
    """

    def __init__(self, text: str, retry_after: float) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class Overloaded(MFServerError):
    """A bounded queue of the server is full; nothing was done."""


class Unavailable(MFServerError):
    """What this server is not set up for; asking again helps once its operator has acted."""
