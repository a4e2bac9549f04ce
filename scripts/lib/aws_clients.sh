# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # shared with scripts/test and the other parts
# The Python SDK (boto3) and the AWS command line, as strangers to the local S3 store. Sourced by scripts/test.

# Sets aws_clients to the virtual environment that holds what the requirements pin with their hashes.
find_aws_clients() {
    local pinned
    pinned=$(sha256sum scripts/lib/aws-requirements.txt)
    aws_clients=$cache/aws-clients-${pinned:0:16}
    # A newer Python of the system may have left it without its own.
    [[ -x $aws_clients/bin/python ]] && "$aws_clients/bin/python" -c 'import awscli, boto3' 2>/dev/null
}

fetch_aws_clients() {
    local log=$work/pip-aws-clients.log
    find_python || die "python3 is installed, but cannot make a virtual environment"
    say "Downloading boto3 and the AWS command line ..."
    rm -rf "$aws_clients" "$aws_clients.part"
    if ! { run_task "$python" -m venv "$aws_clients.part" && run_task "$aws_clients.part/bin/pip" install --no-input --no-cache-dir \
        --no-deps --disable-pip-version-check --only-binary :all: --require-hashes \
        -r scripts/lib/aws-requirements.txt; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        die "pip could not fetch boto3 and the AWS command line"
    fi
    # Renamed into place, and so used by its python alone: scripts in bin/ know the old name.
    mv "$aws_clients.part" "$aws_clients"
}
