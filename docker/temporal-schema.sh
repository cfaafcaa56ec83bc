#!/bin/sh
# Creates or updates Temporal's two databases. Safe to run again.
# Environment: SQL_HOST, SQL_USER, SQL_PASSWORD (read by temporal-sql-tool).
set -eu

export SQL_PLUGIN=postgres12 SQL_PORT="${SQL_PORT:-5432}"

for database in temporal visibility; do
    export SQL_DATABASE="temporal_$database"
    temporal-sql-tool create
    temporal-sql-tool setup-schema --version 0.0
    temporal-sql-tool update-schema --schema-dir "/etc/temporal/schema/postgresql/v12/$database/versioned"
done
