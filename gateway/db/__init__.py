"""The database: tables, migrations and every SQL statement. Functions take an open transaction first."""
