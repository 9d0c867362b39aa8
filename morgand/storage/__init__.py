"""The database: models, repositories, migrations."""
