"""What may stand in the fields that people fill in. Every check raises Invalid and names the field."""

import re
from typing import Any, Final
from uuid import uuid4

import msgspec

from mfserver.errors import Invalid
from mfserver.records import MAX_NAME, Metadata

__all__ = [
    "new_id",
    "is_id",
    "check_email",
    "check_new_password",
    "check_password",
    "check_name",
    "check_metadata",
    "MAX_BULK",
    "MAX_DEPTH",
    "MAX_EMAIL",
    "MAX_METADATA",
    "MAX_PASSWORD",
    "MIN_PASSWORD",
]

#: Things or channels that one request creates.
MAX_BULK: Final = 1000
#: Levels of objects and arrays in metadata, so that nothing that walks through it runs out of stack.
MAX_DEPTH: Final = 32
#: Characters of an e-mail address (RFC 5321, 4.5.3.1.3, less the angle brackets).
MAX_EMAIL: Final = 254
#: Bytes of metadata as compact JSON, so that a page of a hundred entries has a bound too.
MAX_METADATA: Final = 65_536
#: Bytes of a password in UTF-8.
MAX_PASSWORD: Final = 1024
#: Characters of a new password.
MIN_PASSWORD: Final = 8

# ASCII alone, because addresses are compared without case and every database agrees on ASCII's.
_LABEL: Final = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL: Final = re.compile(rf"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{_LABEL}(?:\.{_LABEL})*")
# As JSON is written; after an odd number of backslashes it is text that looks so.
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_ID: Final = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def new_id() -> str:
    """A UUIDv4 in its 36-character form."""
    return str(uuid4())


def is_id(text: str) -> bool:
    """Whether this can be an id of ours; anything else is absent without asking the store."""
    return _ID.fullmatch(text) is not None


def check_email(email: str) -> None:
    """:raises Invalid: it is no e-mail address, or longer than :data:`MAX_EMAIL`."""
    if len(email) > MAX_EMAIL or _EMAIL.fullmatch(email) is None:
        raise Invalid(f"not an e-mail address of at most {MAX_EMAIL} ASCII characters", "email")


def check_password(password: str, field: str = "password") -> None:
    """:raises Invalid: it is longer than any password of ours."""
    if len(password.encode()) > MAX_PASSWORD:
        raise Invalid(f"longer than {MAX_PASSWORD} bytes", field)


def check_new_password(password: str) -> None:
    """:raises Invalid: it is too short or too long."""
    if len(password) < MIN_PASSWORD:
        raise Invalid(f"shorter than {MIN_PASSWORD} characters", "password")
    check_password(password)


def check_name(name: str | None, where: str = "") -> None:
    """Check the name of a thing or a channel.

    :param where: what stands before the field's name in the error: ``[3].`` in a list.
    :raises Invalid: it is longer than ``MAX_NAME`` characters or holds a NUL, which PostgreSQL cannot keep.
    """
    if name is None:
        return
    if len(name) > MAX_NAME:
        raise Invalid(f"longer than {MAX_NAME} characters", f"{where}name")
    if "\0" in name:
        raise Invalid("holds a NUL", f"{where}name")


def check_metadata(metadata: Metadata | None, where: str = "") -> None:
    """Check a JSON object that people attach to what is theirs.

    :raises Invalid: it is too deep or too long, or holds a NUL, which PostgreSQL cannot keep.
    """
    if metadata is None:
        return
    field = f"{where}metadata"
    try:
        encoded = msgspec.json.encode(metadata)
    except RecursionError as error:
        raise Invalid(f"nested deeper than {MAX_DEPTH} levels", field) from error
    # First: the looks at what is inside would keep everybody waiting for what is refused anyhow.
    if len(encoded) > MAX_METADATA:
        raise Invalid(f"longer than {MAX_METADATA} bytes", field)
    if _NUL.search(encoded):
        raise Invalid("holds a NUL", field)
    if _is_deeper(metadata, MAX_DEPTH):
        raise Invalid(f"nested deeper than {MAX_DEPTH} levels", field)


def _is_deeper(value: Any, depth: int) -> bool:
    """Whether there are more levels than so many, without recursion. What stands innermost is one, too."""
    level = [value]
    for _ in range(depth):
        # By type(): a megabyte of numbers is looked at in a few milliseconds.
        containers = [item for item in level if type(item) is dict or type(item) is list]
        level = [item for each in containers for item in (each.values() if type(each) is dict else each)]
    return bool(level)
