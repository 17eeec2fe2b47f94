#!/bin/sh
# Redis over TLS and nothing else. Its settings reach it through standard input: command lines can be read by everybody.
set -eu
: "${REDIS_PASSWORD:?is not set}"
exec redis-server - <<END
port 0
tls-port 6379
tls-cert-file /certificates/redis/server.crt
tls-key-file /certificates/redis/server.key
tls-ca-cert-file /certificates/ca/ca.crt
tls-auth-clients no
requirepass $REDIS_PASSWORD
dir /data
appendonly yes
save ""
maxmemory 256mb
maxmemory-policy noeviction
END
