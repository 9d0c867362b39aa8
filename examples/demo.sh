#!/usr/bin/env bash
# The first five minutes: start the daemon, ingest the example documents, ask a question. Needs no root.
set -euo pipefail
cd "$(dirname "$0")/.."
question=${1:-"What pressure should the boiler show when the system is cold?"}

if ! .venv/bin/morganctl --json status >/dev/null 2>&1; then
  .venv/bin/morgand start
fi
.venv/bin/morganctl ingest examples/documents
echo
echo "> $question"
.venv/bin/morganctl query "$question"
echo
echo "The daemon keeps running. Try: .venv/bin/morganctl chat    .venv/bin/morganctl status    make stop"
