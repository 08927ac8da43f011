# Makes .venv with cryovae in it, for quickstart.sh and test.sh, which source this. Quick when run again.
#
#   EXTRAS=dev        extras of pyproject.toml to install
#
# torch: if a CPU build can be found where pip looks for wheels (PIP_FIND_LINKS or pip's own settings), constraints-cpu.txt
# pins it; otherwise pip takes the release from its index, which on Linux is the CUDA build. Set TORCH_CONSTRAINT to choose.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extras="${EXTRAS:-}"
python="${PYTHON:-python3}"
stamp=".venv/.cryovae${extras:+-$extras}"

if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2])'; then
  echo "cryovae needs Python 3.11 or newer, found $("$python" --version 2>&1): set PYTHON, e.g. PYTHON=python3.12" >&2
  exit 2
fi
if [ ! -e "$stamp" ] || [ pyproject.toml -nt "$stamp" ] || [ constraints.txt -nt "$stamp" ]; then
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  torch=()
  if [ -n "${TORCH_CONSTRAINT:-}" ]; then
    echo "$TORCH_CONSTRAINT" > .venv/torch.txt
    torch=(-c .venv/torch.txt)
  elif ! command -v nvidia-smi > /dev/null; then
    torch=(-c constraints-cpu.txt)
  fi
  echo "installing cryovae into .venv" >&2
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "${torch[@]}" -e ".${extras:+[$extras]}"
  touch "$stamp"
fi
