"""Advisory lock numbers of the service: one list, so that no two purposes share one."""

MIGRATION_LOCK = 0x5741_0001
PARTITION_LOCK = 0x5741_0002
