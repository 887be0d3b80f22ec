"""The store: schema, migrations, the group-commit writer and the queries that read it."""
