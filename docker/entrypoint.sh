#!/bin/sh
# Serves as the user mfserver, or as MF_USER, a user that the image knows. Started as root, it gives that user
# the data directory, but not DIR/pki: that is mounted from the host, and its keys are read before twistd drops
# root's privileges.
# Started as anybody else (docker run --user), it serves as that user.
set -eu

data="${MF_DATA_DIR:-/var/lib/mfserver}"
user="${MF_USER:-mfserver}"

if [ "$(id -u)" -ne 0 ]; then
    exec twistd --nodaemon --pidfile= mainflux "$@"
fi

group="$(id -g "$user")"
mkdir -p "$data"
chmod 0700 "$data"
find "$data" -path "$data/pki" -prune -o ! -user "$user" -exec chown -h "$user:$group" {} +
exec twistd --nodaemon --pidfile= --uid="$user" --gid="$group" mainflux "$@"
