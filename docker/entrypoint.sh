#!/bin/sh
# Serves as the user mfserver. Started as root, it gives that user the data directory, but not DIR/pki: that
# is mounted from the host, and its keys are read before twistd drops root's privileges.
# Started as anybody else (docker run --user), it serves as that user.
set -eu

data="${MF_DATA_DIR:-/var/lib/mfserver}"

if [ "$(id -u)" -ne 0 ]; then
    exec twistd --nodaemon --pidfile= mainflux "$@"
fi

mkdir -p "$data"
find "$data" -path "$data/pki" -prune -o ! -user mfserver -exec chown -h mfserver:mfserver {} +
exec twistd --nodaemon --pidfile= --uid=mfserver --gid=mfserver mainflux "$@"
