#!/bin/sh
# One file through a running system, and `haulage verify`: as CI does after `docker compose up --wait`, and as often as
# one likes. HAULAGE says how to run the command, URL where the web process answers, CORP whose file it is.
set -eu
HAULAGE=${HAULAGE:-docker compose run --rm -T command haulage}
URL=${URL:-http://127.0.0.1:8000}
CORP=${CORP:-9001}
uploads="$URL/api/v1/corporations/$CORP/uploads"
name="smoke-$(date +%Y%m%d-%H%M%S)-$$.bin"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

$HAULAGE corp list | grep -q "^ *$CORP " || $HAULAGE corp add "$CORP" "Smoke test"
umask 077
printf 'Authorization: Bearer %s\n' "$($HAULAGE token create --corp "$CORP" --days 1)" > "$work/header" # not on a command line
ask() { curl --silent --show-error --fail --header "@$work/header" "$@"; }

head -c 3000000 /dev/urandom > "$work/sent"
ask --output "$work/answer" --form "file=@$work/sent;filename=$name" "$uploads"
echo "accepted: $(cat "$work/answer")"
id=$(sed 's/^{"id":"\([0-9a-f-]*\)".*/\1/' "$work/answer")
tries=0
until ask "$uploads/$id" | tee "$work/status" | grep -q '"state":"stored"'; do
    tries=$((tries + 1))
    if [ $tries -gt 60 ] || grep -q '"state":"failed"' "$work/status"; then
        echo "not stored after $tries looks: $(cat "$work/status")" >&2
        exit 1
    fi
    sleep 1
done
$HAULAGE verify --corp "$CORP"
