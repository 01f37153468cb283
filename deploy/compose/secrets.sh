#!/bin/sh
# Draws the secrets of edge.yaml and of deploy/kubernetes into deploy/compose/secrets/, unless they are there. Prints
# none of them.
set -eu
folder=$(dirname "$0")/secrets
[ ! -e "$folder/keys.yaml" ] || { echo "$folder/keys.yaml is there: nothing drawn" >&2; exit 0; }
drawn() { od -An -N 24 -tx1 /dev/urandom | tr -d ' \n'; }

# The folder shuts out other users of this machine; the files are mounted one by one for users of containers.
umask 022
mkdir -p "$folder"
chmod 0700 "$folder"
redis=$(drawn)
printf 'requirepass %s\n' "$redis" > "$folder/redis.conf"
printf 'queue: redis://:%s@redis:6379/0\n' "$redis" > "$folder/perfuse.yaml"
head -c 32 /dev/urandom > "$folder/ids" # signs the ids of generations; servers with one Redis share it
cat > "$folder/keys.yaml" <<KEYS
- key: $(drawn)
  tenant: local
  scopes: [generate, feedback]
- key: $(drawn)
  tenant: local
  scopes: [generate, feedback, admin]
KEYS
echo "drawn: $folder/keys.yaml (the first key generates and gives feedback, the second also administers)" >&2
