"""The database: engine, unit of work, tables, migrations, the embedded server."""
