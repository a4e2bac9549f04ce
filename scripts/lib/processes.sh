# shellcheck shell=bash
# shellcheck disable=SC2154 # `work` and `keep` are scripts/test's
# Starting and stopping processes, and their logs. Sourced by scripts/test.

services=() # "PID SIGNAL NAME" of each server, SIGNAL being the one that stops it
task=       # the process group of the command in the foreground, if any

random_hex() { head -c "$1" /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }

# Replaces this (background) shell by a command in a session of its own: Ctrl-C then reaches only
# the script, which stops the servers last, and the whole group of a command can be signalled.
# Should the script be killed outright, the kernel sends SIGNAL (hence no subshell between the
# two: the wish is tied to the parent). A shell without job control starts background commands
# with INT and QUIT ignored; tests of signal handling must not inherit that.
# Usage: detached SIGNAL [SETPRIV-OPTION...] -- COMMAND...
detached() {
    local signal=$1 options=()
    shift
    while [[ $1 != -- ]]; do options+=("$1") && shift; done
    shift
    if command -v setsid >/dev/null && setpriv --pdeathsig TERM true 2>/dev/null; then
        exec setsid setpriv "${options[@]}" --pdeathsig "$signal" env --default-signal=INT,QUIT "$@"
    fi
    exec "$@"
}

# Runs a command to its end and returns its exit code. In the background, because bash runs a trap
# only after a foreground command has ended by itself.
run_task() {
    local status=0
    detached TERM -- "$@" </dev/null &
    task=$!
    wait "$task" || status=$?
    task=
    return "$status"
}

signal_group() { kill -s "$1" -- "-$2" 2>/dev/null || kill -s "$1" "$2" 2>/dev/null; }

# Waits up to 10 s for the end of a process group that was told to stop, then kills it.
await_end() {
    local _
    for _ in {1..100}; do
        signal_group 0 "$1" || break
        sleep 0.1
    done
    signal_group KILL "$1" || true
    wait "$1" 2>/dev/null || true
}

stop_task() {
    signal_group TERM "$task"
    await_end "$task"
    task=
}

stop_all() {
    local service pid signal
    [[ -z $task ]] || stop_task
    for service in "${services[@]}"; do
        read -r pid signal _ <<<"$service"
        signal_group "$signal" "$pid"
    done
    for service in "${services[@]}"; do await_end "${service%% *}"; done
}

log_of() { printf '%s/%s.log' "$work" "$1"; }

show_log() {
    say "--- $1: the last lines of $(log_of "$1")"
    tail -n 20 "$(log_of "$1")" >&2
}

show_logs() {
    local name
    for name in postgresql redis seaweedfs; do
        [[ ! -f $(log_of "$name") ]] || show_log "$name"
    done
    [[ -n $keep ]] || say "--- the folder goes now; --keep keeps it"
}
