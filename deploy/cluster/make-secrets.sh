#!/bin/sh
# Write the secrets of compose.yaml to the folder "secrets" next to this file, unless they exist.
#
# Containers read the files as users of their own, so the files are readable; only the owner of the
# folder reaches them on this machine.
set -eu

folder=$(cd "$(dirname "$0")" && pwd)/secrets
[ ! -e "$folder" ] || { echo "$folder exists already" >&2; exit 1; }

random() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

umask 022
mkdir -m 700 "$folder"
cd "$folder"
owner=$(random)
server=$(random)
printf '%s' "$owner" >owner-password
printf '%s' "$server" >server-password
echo "postgresql://kiroworkers_owner:$owner@postgres/kiroworkers" >database-owner
echo "postgresql://kiroworkers:$server@postgres/kiroworkers" >database
echo "admin ask,watch,operate $(random)" >tokens
