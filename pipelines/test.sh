#!/usr/bin/env bash
# Sets up .venv and runs the tests, two at a time: bash pipelines/test.sh [pytest options], e.g. -m "not slow", or -n 0: one by one.
set -euo pipefail
EXTRAS=dev
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
source pipelines/window.sh
exec .venv/bin/python -m pytest -n 2 --dist loadgroup "$@"
