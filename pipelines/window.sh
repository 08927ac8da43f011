# Sourced by test.sh: what tests need to open a window without a screen. Installed where that is possible; otherwise said, and
# the tests marked window are skipped.
if command -v Xvfb > /dev/null && ldconfig -p | grep -q libxcb-icccm.so && ldconfig -p | grep -q libxcb-keysyms.so; then
  :
elif [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
  echo "installing Xvfb and what Qt needs of X" >&2
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 \
      xvfb xauth libgl1 libgl1-mesa-dri libegl1 libglx-mesa0 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 \
      libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libdbus-1-3 libfontconfig1; } > /dev/null 2>&1 ||
    echo "Xvfb could not be installed" >&2
else
  echo "no Xvfb (Debian: xvfb libxcb-icccm4 libxcb-keysyms1): tests that open a window are skipped" >&2
fi
