#!/bin/sh
# One file through a running system and back, and `haulage verify`: as CI does after `docker compose up --wait`.
# HAULAGE says how to run the command, URL where the web process answers, CORP which corporation is added for it.
set -eu
HAULAGE=${HAULAGE:-docker compose run --rm -T command haulage}
URL=${URL:-http://127.0.0.1:8000}
CORP=${CORP:-9001}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

$HAULAGE corp add "$CORP" "Smoke test"
umask 077
printf 'Authorization: Bearer %s\n' "$($HAULAGE token create --corp "$CORP" --days 1)" > "$work/header" # not on a command line
ask() { curl --silent --show-error --fail --header "@$work/header" "$@"; }

head -c 3000000 /dev/urandom > "$work/sent"
ask --output "$work/answer" --form "file=@$work/sent;filename=smoke.bin" "$URL/api/v1/corporations/$CORP/uploads"
echo "accepted: $(cat "$work/answer")"
tries=0
until $HAULAGE status --corp "$CORP" --json | tee "$work/status" | grep -q '"stored": 1'; do
    tries=$((tries + 1))
    if [ $tries -gt 60 ]; then
        echo "not stored after 60 looks: $(cat "$work/status")" >&2
        exit 1
    fi
    sleep 1
done
$HAULAGE verify --corp "$CORP"
