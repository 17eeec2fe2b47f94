#!/bin/sh
# What must be there before the servers start: their certificates, and directories that belong to Haulage's account.
set -eu
sh "$(dirname "$0")/certificates.sh" /certificates
chown 10001:10001 /srv/staging /srv/inbox /srv/drive
