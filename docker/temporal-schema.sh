#!/bin/sh
# Creates or updates Temporal's two databases. Safe to run again.
# Environment: SQL_HOST, SQL_USER; SQL_PASSWORD is read by temporal-sql-tool itself.
set -eu

: "${SQL_HOST:?}" "${SQL_USER:?}" "${SQL_PASSWORD:?}"

sql_tool() {
    temporal-sql-tool --plugin postgres12 --ep "$SQL_HOST" -p "${SQL_PORT:-5432}" -u "$SQL_USER" "$@"
}

prepare() {
    sql_tool --db "$1" create
    sql_tool --db "$1" setup-schema -v 0.0
    sql_tool --db "$1" update-schema -d "/etc/temporal/schema/postgresql/v12/$2/versioned"
}

prepare temporal temporal
prepare temporal_visibility visibility
