"""Certificates of things."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "certificates",
        sa.Column("sequence", _SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("serial", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(32), nullable=False),
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
        sa.PrimaryKeyConstraint("sequence", name="pk_certificates"),
        sa.UniqueConstraint("serial", name="uq_certificates_serial"),
        sa.UniqueConstraint("fingerprint", name="uq_certificates_fingerprint"),
        sqlite_autoincrement=True,
    )
    ends = ["sequence", "revoked_at", "not_after"]
    op.create_index("ix_certificates_of_thing", "certificates", ["owner", "thing", *ends])
    op.create_index("ix_certificates_of_owner", "certificates", ["owner", *ends])
    is_revoked = sa.text("revoked_at IS NOT NULL")
    op.create_index(
        "ix_certificates_revoked",
        "certificates",
        ["not_after"],
        sqlite_where=is_revoked,
        postgresql_where=is_revoked,
    )
    is_in_use = sa.text("revoked_at IS NULL AND replaced_by IS NULL")
    op.create_index(
        "ix_certificates_in_use",
        "certificates",
        ["not_after"],
        sqlite_where=is_in_use,
        postgresql_where=is_in_use,
    )
