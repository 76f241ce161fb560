# Shared by the shell scripts, which source it: strict mode, the root of the tree, and functions for output.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CACHE=${SANDGATE_CACHE_DIR:-$ROOT/.cache}
cd "$ROOT"

# The folder of rustup's programs, in case no shell start-up file has run (CI, sudo), and the folder of the tools.
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:$CACHE/tools/bin
export PATH

# Prints a line of progress on stderr. Results go to stdout.
say() { printf '%s\n' "==> $*" >&2; }

# Prints one sentence that says what is wrong and what to do, and exits.
die() {
  printf '%s\n' "error: $*" >&2
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command quietly; shows its last lines only if it fails.
quietly() {
  local log
  log=$(mktemp)
  if "$@" >"$log" 2>&1 </dev/null; then
    rm -f "$log"
    return 0
  fi
  tail -n 15 "$log" >&2
  rm -f "$log"
  return 1
}

# Runs a command as root, with sudo if necessary.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif have sudo; then
    sudo "$@"
  else
    die "\`$*\` needs root, and there is no sudo; run it as root, then try again"
  fi
}

# Installs Debian packages. Refreshes the package lists if the installation fails.
apt_install() {
  have apt-get || die "$* missing, and this is not Debian or Ubuntu; install them with your package manager"
  say "installing $* (apt-get)"
  local attempt
  for attempt in 1 2 3; do
    if quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; then
      return 0
    fi
    say "apt-get install failed; refreshing the package lists (try $attempt of 3)"
    quietly as_root apt-get update || sleep $((attempt * 5))
  done
  quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" ||
    die "apt-get could not install $*; see its output above, fix it, and try again"
}

# rustup uses the toolchain in rust-toolchain.toml, and downloads it if necessary. A machine that has the same version under
# another name, such as `stable`, uses that instead. A machine that can't download it uses its default toolchain;
# `scripts/setup build` checks whether that is new enough.
choose_toolchain() {
  [ -z "${RUSTUP_TOOLCHAIN:-}" ] && have rustup || return 0
  local pinned installed name
  pinned=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
  installed=$(rustup toolchain list 2>/dev/null | cut -d' ' -f1) || return 0
  [ -n "$installed" ] || return 0
  for name in $installed; do
    case $name in "$pinned" | "$pinned"-*) return 0 ;; esac
  done
  for name in $installed; do
    if [ "$(rustup run "$name" rustc --version 2>/dev/null | cut -d' ' -f2)" = "$pinned" ]; then
      export RUSTUP_TOOLCHAIN=$name
      return 0
    fi
  done
  say "installing Rust $pinned (rustup)"
  RUSTUP_MAX_RETRIES=1 quietly timeout 300 rustup toolchain install "$pinned" --profile minimal && return 0
  name=$(rustup default 2>/dev/null | cut -d' ' -f1) || return 0
  say "Rust $pinned can't be installed; using $name instead"
  export RUSTUP_TOOLCHAIN=$name
}
choose_toolchain
