#!/usr/bin/env bash
# Builds the site of the documentation into build/site: bash pipelines/docs.sh
#
# Warnings are errors, dead links, anchors and pictures among them (mkdocs --strict). DOCS_PYTHON is another environment that has
# cryovae with the extra docs; without it .venv is used.
set -euo pipefail
if [ -z "${DOCS_PYTHON:-}" ]; then
  EXTRAS=docs
  source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
  DOCS_PYTHON=.venv/bin/python
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# mkdocs-material announces its successor at each build; CONTRIBUTING says why it is used.
NO_MKDOCS_2_WARNING=1 "$DOCS_PYTHON" -m mkdocs build --strict
echo "open build/site/index.html"
