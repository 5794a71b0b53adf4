#!/bin/sh
# Runs its arguments with a variable for every file of /run/secrets: its name is that of the file,
# such as PGPASSWORD, its value the content. So no secret is in the description of a container.
set -eu
for file in "${SECRETS_DIR:-/run/secrets}"/*; do
    if [ -f "$file" ]; then
        name=$(basename "$file")
        value=$(cat "$file")
        export "$name=$value"
    fi
done
exec "$@"
