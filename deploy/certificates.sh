#!/bin/sh
# Makes a CA and one certificate for each server, once. Each server gets its own copy of its key, owned by its account.
set -eu
cd /certificates
[ -f ca.crt ] && exit 0
umask 077
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=Haulage's own CA" \
    -addext "keyUsage=critical,keyCertSign,cRLSign" -keyout /tmp/ca.key -out /tmp/ca.crt
for server in postgres redis; do
    mkdir -p "$server"
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$server" \
        -keyout "$server/server.key" -out "/tmp/$server.csr"
    printf 'subjectAltName=DNS:%s\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\nextendedKeyUsage=serverAuth\n' \
        "$server" > "/tmp/$server.ext"
    openssl x509 -req -in "/tmp/$server.csr" -CA /tmp/ca.crt -CAkey /tmp/ca.key -CAcreateserial -days 825 \
        -extfile "/tmp/$server.ext" -out "$server/server.crt"
    cp /tmp/ca.crt "$server/ca.crt"
    chown -R 999:999 "$server" # the account of the official images, both of them
done
install -d -m 755 public
install -m 644 /tmp/ca.crt public/ca.crt
mv /tmp/ca.crt ca.crt # last: its presence says that everything above is there; the CA's key is not kept
rm -f /tmp/ca.key
