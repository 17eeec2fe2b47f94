#!/bin/sh
# Runs once, when the database is made: one role for migrations, one for each kind of process. Passwords come through the
# environment, since command lines can be read by everybody.
set -eu
psql --no-psqlrc -v ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\getenv owner OWNER_PASSWORD
\getenv web WEB_PASSWORD
\getenv worker WORKER_PASSWORD
CREATE ROLE haulage_owner LOGIN PASSWORD :'owner';
CREATE ROLE haulage_web LOGIN PASSWORD :'web';
CREATE ROLE haulage_worker LOGIN PASSWORD :'worker';
-- So that the operations page and the metrics see how the workers' sessions do, and whether they have TLS.
GRANT pg_read_all_stats TO haulage_web;
CREATE DATABASE haulage OWNER haulage_owner;
SQL
# From now on: over the network with TLS and a password, on the spot as the server's own account, no other way.
printf '%s\n' 'hostssl all all all scram-sha-256' 'local all all peer' > "$PGDATA/pg_hba.conf"
