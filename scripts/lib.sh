# What the scripts share. Sourced, not run: `. "$(dirname "$0")/lib.sh"`.
# Works with the shells and package managers of common systems; says what it does before it does it.

set -eu

ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$ROOT"

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
note() { printf '  %s\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root: directly, or with sudo where that is there.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        fail "this takes root, and there is no sudo: run as root: $*"
    fi
}

# install_packages WHAT APT DNF APK PACMAN ZYPPER BREW: one list of packages for each package manager.
install_packages() {
    what=$1
    say "$what is not installed: asking the system's package manager for it"
    if have apt-get; then
        note "apt-get install $2"
        as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q >&2 || note "the lists of packages could not be refreshed"
        # shellcheck disable=SC2086 # a list of packages
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $2 >&2
    elif have dnf; then
        note "dnf install $3"
        # shellcheck disable=SC2086
        as_root dnf install -y $3 >&2
    elif have yum; then
        note "yum install $3"
        # shellcheck disable=SC2086
        as_root yum install -y $3 >&2
    elif have apk; then
        note "apk add $4"
        # shellcheck disable=SC2086
        as_root apk add $4 >&2
    elif have pacman; then
        note "pacman -S $5"
        # shellcheck disable=SC2086
        as_root pacman -Sy --noconfirm --needed $5 >&2
    elif have zypper; then
        note "zypper install $6"
        # shellcheck disable=SC2086
        as_root zypper --non-interactive install $6 >&2
    elif have brew; then
        note "brew install $7"
        # shellcheck disable=SC2086
        brew install $7 >&2
    else
        fail "no package manager known here: install $what by hand"
    fi
}

# The folder of PostgreSQL's `postgres` and `initdb`, where Souk looks for it, too.
find_postgres() {
    for dir in "${SOUK_POSTGRES_BIN_DIR:-}" /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/libexec/postgresql* \
        /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin /usr/local/pgsql/bin; do
        if [ -n "$dir" ] && [ -x "$dir/postgres" ] && [ -x "$dir/initdb" ]; then
            printf '%s\n' "$dir"
            return 0
        fi
    done
    if have postgres && have initdb; then
        dirname "$(command -v postgres)"
        return 0
    fi
    return 1
}

ensure_postgres() {
    if find_postgres >/dev/null; then
        return 0
    fi
    install_packages PostgreSQL postgresql postgresql-server postgresql postgresql postgresql-server postgresql@17
    find_postgres >/dev/null || fail "PostgreSQL was installed, but its programs are not where they usually are: name their folder in SOUK_POSTGRES_BIN_DIR"
    note "Souk runs a PostgreSQL of its own in its data directory; the system's service is not used and may be switched off."
}

ensure_curl() {
    have curl || install_packages curl curl curl curl curl curl curl
}

ensure_compiler() {
    have cc || install_packages "a C compiler" build-essential "gcc" "build-base" base-devel gcc gcc
}

# A Python with what tests/python/requirements.txt names, in a folder of the build; $PYTHON is where it is.
ensure_python() {
    if ! have python3 || ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        install_packages Python "python3 python3-venv" python3 python3 python python3 python3
    fi
    python=${CARGO_TARGET_DIR:-$ROOT/target}/python
    PYTHON=$python/bin/python
    wanted=$ROOT/tests/python/requirements.txt
    if cmp -s "$wanted" "$python/requirements.txt"; then
        return 0
    fi
    say "Python packages go into $python"
    rm -rf "$python"
    python3 -m venv "$python" >&2 &&
        "$PYTHON" -m pip install --quiet --disable-pip-version-check --requirement "$wanted" >&2 &&
        cp "$wanted" "$python/requirements.txt"
}

ensure_rust() {
    # A toolchain that was only just installed is not on the path yet.
    if ! have cargo && [ -f "$HOME/.cargo/env" ]; then
        # shellcheck disable=SC1091
        . "$HOME/.cargo/env"
    fi
    have cargo || fail "there is no Rust toolchain: see https://rustup.rs"
}

# Whether others than root may pass through every folder on the way to $1, as the user that PostgreSQL runs as must.
passable() {
    way=$1
    while [ "$way" != / ]; do
        case $(stat -c %A "$way") in
            *[xt]) way=$(dirname "$way") ;;
            *) return 1 ;;
        esac
    done
}

# build release|debug: builds Souk and prints where the program is.
build() {
    profile=$1
    shift
    if [ "$profile" = release ]; then set -- --release "$@"; fi
    cargo build --locked --package souk "$@" >&2 || return 1
    printf '%s/%s/souk\n' "${CARGO_TARGET_DIR:-$ROOT/target}" "$profile"
}
