# shellcheck shell=bash
# A whole `upflow` with a browser beside it, for scripts that use the demo: scripts/screenshots and
# bench/browser/run. To be sourced in the root of the checkout.

say() { printf '%s\n' "$*" >&2; }
die() { say "$0: $*"; exit 1; }

# shellcheck source=scripts/lib/processes.sh
source scripts/lib/processes.sh
# shellcheck source=scripts/lib/fetch.sh
source scripts/lib/fetch.sh
# shellcheck source=scripts/lib/services.sh
source scripts/lib/services.sh

# shellcheck disable=SC2034 # for fetch.sh
want_postgres='' want_redis='' want_s3='' want_aws_clients='' want_browser=1
keep=
work=$(mktemp -d "${TMPDIR:-/tmp}/upflow-demo.XXXXXX")

cleanup() {
    local status=$?
    trap '' INT TERM HUP
    set +e
    stop_all 2>/dev/null
    restore_machine
    rm -rf "$work"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

become_upflow() {
    detached TERM -- "$upflow" --port "${ports[0]}" --s3-port "${ports[1]}" --data-dir "$work/data"
}

# Starts the program UPFLOW in the temporary folder and runs SCRIPT in Node.js with the address of the page.
# Usage: with_demo UPFLOW SCRIPT [ARGUMENT...]
with_demo() {
    local upflow=$1 script=$2
    shift 2
    start_service upflow TERM 2 'is running' become_upflow
    mkdir "$work/files"
    # shellcheck disable=SC2154 # chromium, browser_packages: fetch.sh; ports: services.sh
    TEST_CHROMIUM=$chromium TEST_BROWSER_PACKAGES=$browser_packages TEST_FOLDER=$work/files \
        run_task node "$script" "http://127.0.0.1:${ports[0]}/" "$@"
}
