"""Users, API keys, things, channels and their connections."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_ORDERED = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "users",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("email_folded", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("metadata", _JSON),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("email_folded", name="uq_users_email_folded"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.ForeignKeyConstraint(["owner"], ["users.id"], name="fk_api_keys_owner", ondelete="CASCADE"),
    )
    op.create_index("ix_api_keys_owner", "api_keys", ["owner"])
    op.create_table(
        "things",
        sa.Column("sequence", _SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("id", _ORDERED, nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("key_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("name", sa.Text()),
        sa.Column("name_folded", _ORDERED, nullable=False),
        sa.Column("metadata", _JSON),
        sa.PrimaryKeyConstraint("sequence", name="pk_things"),
        sa.UniqueConstraint("id", name="uq_things_id"),
        sa.UniqueConstraint("key_digest", name="uq_things_key_digest"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_things_owner_sequence", "things", ["owner", "sequence"])
    op.create_index("ix_things_owner_name_folded", "things", ["owner", "name_folded"])
    op.create_table(
        "channels",
        sa.Column("sequence", _SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("id", _ORDERED, nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("name", sa.Text()),
        sa.Column("name_folded", _ORDERED, nullable=False),
        sa.Column("metadata", _JSON),
        sa.PrimaryKeyConstraint("sequence", name="pk_channels"),
        sa.UniqueConstraint("id", name="uq_channels_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_channels_owner_sequence", "channels", ["owner", "sequence"])
    op.create_index("ix_channels_owner_name_folded", "channels", ["owner", "name_folded"])
    op.create_table(
        "connections",
        sa.Column("thing", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("thing", "channel", name="pk_connections"),
        sa.ForeignKeyConstraint(["thing"], ["things.id"], name="fk_connections_thing", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["channel"], ["channels.id"], name="fk_connections_channel", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_connections_channel_thing", "connections", ["channel", "thing"])
    op.create_table(
        "retired_keys",
        sa.Column("key_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key_digest", name="pk_retired_keys"),
    )
