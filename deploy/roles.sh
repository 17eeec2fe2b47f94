#!/bin/sh
# Runs once, when the database is made: one role for migrations, one for each kind of process.
set -eu
psql -v ON_ERROR_STOP=1 -v owner="$OWNER_PASSWORD" -v web="$WEB_PASSWORD" -v worker="$WORKER_PASSWORD" \
    --username "$POSTGRES_USER" --dbname postgres <<'SQL'
CREATE ROLE haulage_owner LOGIN PASSWORD :'owner';
CREATE ROLE haulage_web LOGIN PASSWORD :'web';
CREATE ROLE haulage_worker LOGIN PASSWORD :'worker';
CREATE DATABASE haulage OWNER haulage_owner;
SQL
echo 'hostssl all all all scram-sha-256' > "$PGDATA/pg_hba.conf"
echo 'local all all peer' >> "$PGDATA/pg_hba.conf"
