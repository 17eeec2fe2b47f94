#!/bin/sh
# Runs once, when the database is made.
set -eu
psql --no-psqlrc -v ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres --file /roles.sql
# From now on: over the network with TLS and a password, on the spot as the server's own account, no other way.
printf '%s\n' 'hostssl all all all scram-sha-256' 'local all all peer' > "$PGDATA/pg_hba.conf"
