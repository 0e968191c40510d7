"""The tables. The migrations make them; a test compares the two.

``sequence`` is the order of creation. ``*_folded`` hold what is compared without case: what SQL
calls case differs between databases, and SQLite's knows only ASCII.
"""

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

__all__ = ["METADATA", "api_keys", "channels", "connections", "retired_keys", "things", "users"]

METADATA: Final = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only where the type is exactly INTEGER.
_SEQUENCE: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# Ordered by code point on every database.
_ORDERED: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_JSON: Final = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

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
