"""MQTT sessions with their subscriptions and queues, wills, and retained messages."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "sessions",
        sa.Column("number", _SEQUENCE, autoincrement=False, nullable=False),
        sa.Column("thing", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("expiry", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("number", name="pk_sessions"),
    )
    op.create_table(
        "session_subscriptions",
        sa.Column("session", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("filter_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("topic_filter", sa.Text(), nullable=False),
        sa.Column("qos", sa.SmallInteger(), nullable=False),
        sa.Column("no_local", sa.Boolean(), nullable=False),
        sa.Column("retain_as_published", sa.Boolean(), nullable=False),
        sa.Column("identifier", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("session", "filter_digest", name="pk_session_subscriptions"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "session_received",
        sa.Column("session", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("packet_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("session", "packet_id", name="pk_session_received"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "messages",
        sa.Column("key", _SEQUENCE, autoincrement=False, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_messages"),
    )
    op.create_table(
        "session_queue",
        sa.Column("session", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("message", sa.BigInteger()),
        sa.Column("qos", sa.SmallInteger(), nullable=False),
        sa.Column("retain", sa.Boolean(), nullable=False),
        sa.Column("identifiers", sa.Text(), nullable=False),
        sa.Column("packet_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("session", "sequence", name="pk_session_queue"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_session_queue_message", "session_queue", ["message"])
    op.create_table(
        "wills",
        sa.Column("session", _SEQUENCE, autoincrement=False, nullable=False),
        sa.Column("delay", sa.BigInteger(), nullable=False),
        sa.Column("due", sa.BigInteger()),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("session", name="pk_wills"),
    )
    op.create_table(
        "retained",
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("levels_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("channel", "levels_digest", name="pk_retained"),
    )
    op.create_table(
        "counters",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_counters"),
    )
