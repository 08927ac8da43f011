#!/usr/bin/env bash
# Makes .venv-copick with the package copick in it, by which tests/io/test_copick.py opens what cryovae writes. Quick when run again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
stamp=.venv-copick/.cryovae
if [ ! -e "$stamp" ] || [ constraints-copick.txt -nt "$stamp" ]; then
  "${PYTHON:-python3}" -m venv .venv-copick
  .venv-copick/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-copick.txt copick
  touch "$stamp"
fi
