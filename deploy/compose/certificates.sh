#!/bin/sh
# Makes a CA and one certificate for each server, once, below the directory given:
#
#     ca/ca.crt               what clients verify with; everybody may read it
#     postgres/server.crt, server.key     of its account alone
#     redis/server.crt, server.key        of its account alone
#
# Each server's directory is a volume of its own: both accounts have the same number in the official images. The CA's key
# is not kept, so nobody can sign with it again. To renew: remove ca/ca.crt, run this, and start everything anew.
set -eu
cd "$1"
owner=999:999 # the account of the official images, both of them
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ -f ca/ca.crt ] && [ -f postgres/server.key ] && [ -f redis/server.key ]; then
    echo "The certificates are there already; postgres' is good until $(openssl x509 -enddate -noout -in postgres/server.crt)."
    exit 0
fi
umask 077
mkdir -p ca postgres redis
rm -f ca/ca.crt # comes back last: its presence says that everything is there

ec="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
# shellcheck disable=SC2086  # several words on purpose
openssl req -x509 $ec -days 3650 -subj "/CN=Haulage's own CA" \
    -addext "keyUsage=critical,keyCertSign,cRLSign" -keyout "$work/ca.key" -out "$work/ca.crt" 2>/dev/null
for server in postgres redis; do
    # shellcheck disable=SC2086
    openssl req $ec -subj "/CN=$server" -keyout "$work/server.key" -out "$work/server.csr" 2>/dev/null
    printf '%s\n' "subjectAltName=DNS:$server" "basicConstraints=critical,CA:FALSE" "extendedKeyUsage=serverAuth" \
        "subjectKeyIdentifier=hash" "authorityKeyIdentifier=keyid" > "$work/extensions"
    openssl x509 -req -in "$work/server.csr" -CA "$work/ca.crt" -CAkey "$work/ca.key" -CAcreateserial -days 825 \
        -extfile "$work/extensions" -out "$work/server.crt" 2>/dev/null
    cp "$work/server.crt" "$work/server.key" "$server/"
    chown -R "$owner" "$server"
    chmod 700 "$server"
    chmod 600 "$server/server.crt" "$server/server.key"
done
chmod 755 ca
cp "$work/ca.crt" ca/new
chmod 644 ca/new
mv ca/new ca/ca.crt
echo "A CA and certificates for postgres and redis were made."
