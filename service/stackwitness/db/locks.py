"""Advisory lock numbers of the service: one list, so that no two purposes share one."""

MIGRATION_LOCK = 0x5741_0001
PARTITION_LOCK = 0x5741_0002
LOG_LOCK = 0x5741_0003
SERVICE_KEY_LOCK = 0x5741_0005  # shared by all who append events, exclusive for who changes the key
# First half of a two-number lock, the second half is the subject's hash: numbers of their own in PostgreSQL.
SUBJECT_LOCK_CLASS = 0x5741_0004
