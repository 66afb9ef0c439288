#!/bin/sh
# Run a command. The password of PostgreSQL comes as a file, so that no address has to hold it: all
# its drivers, those of MLflow and Prefect too, read PGPASSWORD.
set -eu
if [ -n "${PGPASSWORD_FILE:-}" ]; then
    PGPASSWORD="$(cat "$PGPASSWORD_FILE")"
    export PGPASSWORD
fi
exec "$@"
