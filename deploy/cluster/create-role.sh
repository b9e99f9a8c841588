#!/bin/sh
# Create the servers' role; the image of PostgreSQL runs this once, when it has made the database.
set -eu

psql --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set password="$(cat /run/secrets/server-password)" <<'SQL'
CREATE ROLE kiroworkers LOGIN PASSWORD :'password';
SQL
