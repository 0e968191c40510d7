"""The tables. The migrations make them; a test compares the two.

``sequence`` is the order of creation. ``*_folded`` hold what is compared without case: what SQL
calls case differs between databases, and SQLite's knows only ASCII.

What MQTT keeps has no foreign keys, neither to things and channels nor among itself: a batch is written as
one, a while after it was collected, and must not fail because something was deleted meanwhile. What is left
over so is swept out at the next start (:mod:`mfserver.store.kept`). Certificates have none, either: they are
revoked, not deleted, with their things.
"""

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

__all__ = [
    "METADATA",
    "SESSION_NUMBERS",
    "api_keys",
    "certificates",
    "channels",
    "connections",
    "counters",
    "messages",
    "retained",
    "retired_keys",
    "session_queue",
    "session_received",
    "session_subscriptions",
    "sessions",
    "things",
    "users",
    "wills",
]

METADATA: Final = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself, and finds them without an index, only where the type is exactly INTEGER.
_SEQUENCE: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# Ordered by code point on every database.
_ORDERED: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_JSON: Final = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def _only_where(condition: str) -> dict[str, Any]:
    """What makes an index hold only the rows that this is true for."""
    return {f"{database}_where": sa.text(condition) for database in ("sqlite", "postgresql")}


users: Final = sa.Table(
    "users",
    METADATA,
    sa.Column("id", sa.Text(), primary_key=True),
    sa.Column("email", sa.Text(), nullable=False),
    sa.Column("email_folded", sa.Text(), nullable=False, unique=True),
    sa.Column("password_hash", sa.Text(), nullable=False),
    sa.Column("metadata", _JSON),
    sa.Column("generation", sa.BigInteger(), nullable=False),
)

api_keys: Final = sa.Table(
    "api_keys",
    METADATA,
    sa.Column("id", sa.Text(), primary_key=True),
    sa.Column("owner", sa.Text(), sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("issued_at", sa.BigInteger(), nullable=False),
    sa.Column("expires_at", sa.BigInteger()),
)

things: Final = sa.Table(
    "things",
    METADATA,
    sa.Column("sequence", _SEQUENCE, primary_key=True, autoincrement=True),
    sa.Column("id", _ORDERED, nullable=False, unique=True),
    sa.Column("owner", sa.Text(), nullable=False),
    sa.Column("key", sa.Text(), nullable=False),
    sa.Column("key_digest", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("name", sa.Text()),
    sa.Column("name_folded", _ORDERED, nullable=False),
    sa.Column("metadata", _JSON),
    sa.Index(None, "owner", "sequence"),
    sa.Index(None, "owner", "name_folded"),
    sqlite_autoincrement=True,
)

channels: Final = sa.Table(
    "channels",
    METADATA,
    sa.Column("sequence", _SEQUENCE, primary_key=True, autoincrement=True),
    sa.Column("id", _ORDERED, nullable=False, unique=True),
    sa.Column("owner", sa.Text(), nullable=False),
    sa.Column("name", sa.Text()),
    sa.Column("name_folded", _ORDERED, nullable=False),
    sa.Column("metadata", _JSON),
    sa.Index(None, "owner", "sequence"),
    sa.Index(None, "owner", "name_folded"),
    sqlite_autoincrement=True,
)

connections: Final = sa.Table(
    "connections",
    METADATA,
    sa.Column("thing", sa.Text(), sa.ForeignKey("things.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("channel", sa.Text(), sa.ForeignKey("channels.id", ondelete="CASCADE"), primary_key=True),
    sa.Index(None, "channel", "thing"),
)

#: Keys that were changed, or whose things were deleted: free for their last owner alone.
retired_keys: Final = sa.Table(
    "retired_keys",
    METADATA,
    sa.Column("key_digest", sa.LargeBinary(32), primary_key=True),
    sa.Column("owner", sa.Text(), nullable=False),
)

#: Certificates of things. The two indexes of an owner's hold all that lists are filtered and ordered by, so
#: that counting and skipping never touch the rows; those of all owners hold nothing that is not asked for.
certificates: Final = sa.Table(
    "certificates",
    METADATA,
    sa.Column("sequence", _SEQUENCE, primary_key=True, autoincrement=True),
    sa.Column("serial", sa.Text(), nullable=False, unique=True),
    sa.Column("fingerprint", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("thing", sa.Text(), nullable=False),
    sa.Column("owner", sa.Text(), nullable=False),
    sa.Column("issuer", sa.LargeBinary(32), nullable=False),
    sa.Column("not_before", sa.BigInteger(), nullable=False),
    sa.Column("not_after", sa.BigInteger(), nullable=False),
    sa.Column("issued_at", sa.BigInteger(), nullable=False),
    sa.Column("revoked_at", sa.BigInteger()),
    sa.Column("reason", sa.Text()),
    sa.Column("replaced_by", sa.Text()),
    sa.Column("der", sa.LargeBinary(), nullable=False),
    sa.Index("ix_certificates_of_thing", "owner", "thing", "sequence", "revoked_at", "not_after"),
    sa.Index("ix_certificates_of_owner", "owner", "sequence", "revoked_at", "not_after"),
    sa.Index("ix_certificates_revoked", "not_after", **_only_where("revoked_at IS NOT NULL")),
    sa.Index(
        "ix_certificates_in_use", "not_after", **_only_where("revoked_at IS NULL AND replaced_by IS NULL")
    ),
    sqlite_autoincrement=True,
)

#: MQTT sessions. The number is given by us and never again.
sessions: Final = sa.Table(
    "sessions",
    METADATA,
    sa.Column("number", _SEQUENCE, primary_key=True, autoincrement=False),
    sa.Column("thing", sa.Text(), nullable=False),
    sa.Column("client_id", sa.Text(), nullable=False),
    sa.Column("expiry", sa.BigInteger(), nullable=False),
    sa.Column("ends_at", sa.BigInteger()),
)

#: A topic filter may have 65,535 bytes, more than an index takes: its SHA-256 stands for it.
session_subscriptions: Final = sa.Table(
    "session_subscriptions",
    METADATA,
    sa.Column("session", sa.BigInteger(), primary_key=True, autoincrement=False),
    sa.Column("filter_digest", sa.LargeBinary(32), primary_key=True),
    sa.Column("topic_filter", sa.Text(), nullable=False),
    sa.Column("qos", sa.SmallInteger(), nullable=False),
    sa.Column("no_local", sa.Boolean(), nullable=False),
    sa.Column("retain_as_published", sa.Boolean(), nullable=False),
    sa.Column("identifier", sa.BigInteger(), nullable=False),
    sqlite_with_rowid=False,
)

#: Packet identifiers of QoS 2 messages that came and are not released.
session_received: Final = sa.Table(
    "session_received",
    METADATA,
    sa.Column("session", sa.BigInteger(), primary_key=True, autoincrement=False),
    sa.Column("packet_id", sa.Integer(), primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

#: What stands in queues, once for all of them.
messages: Final = sa.Table(
    "messages",
    METADATA,
    sa.Column("key", _SEQUENCE, primary_key=True, autoincrement=False),
    sa.Column("body", sa.LargeBinary(), nullable=False),
)

#: The queues of sessions. ``message`` is null once PUBREC came; ``identifiers`` are separated by spaces.
session_queue: Final = sa.Table(
    "session_queue",
    METADATA,
    sa.Column("session", sa.BigInteger(), primary_key=True, autoincrement=False),
    sa.Column("sequence", sa.BigInteger(), primary_key=True, autoincrement=False),
    sa.Column("message", sa.BigInteger(), index=True),
    sa.Column("qos", sa.SmallInteger(), nullable=False),
    sa.Column("retain", sa.Boolean(), nullable=False),
    sa.Column("identifiers", sa.Text(), nullable=False),
    sa.Column("packet_id", sa.Integer(), nullable=False),
    sa.Column("state", sa.SmallInteger(), nullable=False),
    sa.Column("size", sa.BigInteger(), nullable=False),
    sqlite_with_rowid=False,
)

wills: Final = sa.Table(
    "wills",
    METADATA,
    sa.Column("session", _SEQUENCE, primary_key=True, autoincrement=False),
    sa.Column("delay", sa.BigInteger(), nullable=False),
    sa.Column("due", sa.BigInteger()),
    sa.Column("body", sa.LargeBinary(), nullable=False),
)

#: Retained messages; the SHA-256 of the topic's levels stands for them, as it does for a topic filter.
retained: Final = sa.Table(
    "retained",
    METADATA,
    sa.Column("channel", sa.Text(), primary_key=True),
    sa.Column("levels_digest", sa.LargeBinary(32), primary_key=True),
    sa.Column("body", sa.LargeBinary(), nullable=False),
)

#: The greatest numbers that were ever given, so that none is given again when its row is gone.
counters: Final = sa.Table(
    "counters",
    METADATA,
    sa.Column("name", sa.Text(), primary_key=True),
    sa.Column("last", sa.BigInteger(), nullable=False),
)

#: The counter of sessions.
SESSION_NUMBERS: Final = "sessions"
