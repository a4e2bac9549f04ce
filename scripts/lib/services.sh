# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # shared with scripts/test and the other parts
# Starting the three servers. Sourced by scripts/test.

# Fills `ports` with this many ports where neither the port itself nor the one 10,000 above it
# answers (SeaweedFS takes both). All below 32768, where Linux begins to hand out ports by itself.
pick_ports() {
    local count=$1 port
    ports=()
    while ((${#ports[@]} < count)); do
        port=$((12000 + SRANDOM % 10000))
        [[ " ${ports[*]} " == *" $port "* ]] || answers "$port" || answers $((port + 10000)) || ports+=("$port")
    done
}

answers() { (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Starts a server by a function that becomes it, and waits for the line in its log that says it is
# ready; only its own log proves that it is not another program that answers on its port. A port
# can be lost between picking and binding it: then again with others.
# Usage: start_service NAME STOP-SIGNAL NUMBER-OF-PORTS READY-LINE FUNCTION
start_service() {
    local name=$1 signal=$2 count=$3 ready=$4 launch=$5 began=$SECONDS log pid
    log=$(log_of "$name")
    for _ in {1..5}; do
        pick_ports "$count"
        : >"$log"
        "$launch" >>"$log" 2>&1 </dev/null &
        pid=$!
        services+=("$pid $signal $name")
        until grep -q "$ready" "$log"; do
            kill -0 "$pid" 2>/dev/null || break
            if ((SECONDS - began > 60)); then
                show_log "$name"
                die "$name was not ready within 60 s"
            fi
            sleep 0.1
        done
        if kill -0 "$pid" 2>/dev/null; then return; fi
        unset 'services[-1]'
        grep -qiE 'address already in use|port .* not available' "$log" || break
    done
    show_log "$name"
    die "$name does not start"
}

start_postgres() {
    local data=$work/postgresql password as_user=()
    password=$(random_hex 16)
    mkdir -m 700 "$data"
    printf '%s' "$password" >"$data/password"

    # PostgreSQL refuses to run as root.
    postgres_user=()
    if ((EUID == 0)); then
        local user=postgres
        id "$user" >/dev/null 2>&1 || user=nobody
        postgres_user=(--reuid "$user" --regid "$(id -g "$user")" --clear-groups)
        as_user=(setpriv "${postgres_user[@]}")
        chown -R "$user" "$data"
        "${as_user[@]}" test -w "$data" ||
            die "user $user cannot enter $work: set TMPDIR to a folder that everyone may enter"
    fi
    # Run in its own folder: the user may not be allowed to enter the current one.
    if ! "${as_user[@]}" env -C "$data" LC_ALL=C "$postgres_bin/initdb" --pgdata="$data/db" --username=postgres \
        --pwfile="$data/password" --auth=password --locale=C --encoding=UTF8 --no-sync >"$(log_of postgresql)" 2>&1; then
        show_log postgresql
        die "initdb failed"
    fi

    # INT stops it at once; TERM would wait for its clients.
    start_service postgresql INT 1 'database system is ready to accept connections' become_postgres
    TEST_DATABASE_URL=postgres://postgres:$password@127.0.0.1:${ports[0]}/postgres
    say "PostgreSQL $("$postgres_bin/postgres" --version | grep -oE '[0-9]+\.?[0-9]*' | head -n 1) on port ${ports[0]}"
}

become_postgres() {
    # Its data need to survive nothing, but a benchmark wants what commits cost.
    local settings=(-c fsync=off -c synchronous_commit=off -c full_page_writes=off)
    [ -z "${durable:-}" ] || settings=()
    detached INT "${postgres_user[@]}" -- env -C "$work/postgresql" LC_ALL=C "$postgres_bin/postgres" -D "$work/postgresql/db" \
        -p "${ports[0]}" -c listen_addresses=127.0.0.1 -c unix_socket_directories="$work/postgresql" \
        -c max_connections=300 "${settings[@]}"
}

start_redis() {
    mkdir "$work/redis"
    start_service redis TERM 1 'Ready to accept connections' become_redis
    TEST_REDIS_URL=redis://127.0.0.1:${ports[0]}
    say "Redis $("$redis_server" --version | grep -oE 'v=[0-9.]+' | cut -c3-) on port ${ports[0]}"
}

become_redis() {
    detached TERM -- "$redis_server" --port "${ports[0]}" --bind 127.0.0.1 --save '' --appendonly no \
        --dir "$work/redis" --databases 64
}

seaweedfs_ports=()

start_seaweedfs() {
    TEST_S3_REGION=us-east-1
    TEST_S3_BUCKET=upflow
    TEST_S3_ACCESS_KEY_ID=$(random_hex 10)
    TEST_S3_SECRET_ACCESS_KEY=$(random_hex 20)
    mkdir -p "$work/seaweedfs/data"
    # The line comes after it has made the bucket. TERM would have it wait for idle connections,
    # for a minute and more.
    start_service seaweedfs KILL 5 'All enabled components are running' become_seaweedfs
    seaweedfs_ports=("${ports[@]}")
    TEST_S3_ENDPOINT=http://127.0.0.1:${ports[0]}
    # An unsigned request must be refused, or the tests would prove nothing about signatures.
    local status
    status=$(http_status "${ports[0]}" "/$TEST_S3_BUCKET")
    if [[ $status != 403 ]]; then
        show_log seaweedfs
        die "SeaweedFS answers an unsigned request with '$status', not 403"
    fi
    say "SeaweedFS $("$weed" version 2>/dev/null | grep -oE '[0-9]+\.[0-9]+' | head -n 1) on port ${ports[0]}"
}

# With a clean environment and a home of its own: it reads settings from both. Every port is given,
# since it quietly moves away from a taken one otherwise; the second of each pair (gRPC) is 10,000
# above the first, since its maintenance worker expects that whatever the options say. Volumes are as large as
# SeaweedFS has them elsewhere: `mini` makes them of a GiB or less, and whatever is written while it adds another one
# waits for a second. So many of them fit any disk, as they are empty at first.
become_seaweedfs() {
    local home=$work/seaweedfs s3=${ports[0]} master=${ports[1]} volume=${ports[2]} filer=${ports[3]} admin=${ports[4]}
    detached KILL -- env -i -C "$home" HOME="$home" \
        AWS_ACCESS_KEY_ID="$TEST_S3_ACCESS_KEY_ID" AWS_SECRET_ACCESS_KEY="$TEST_S3_SECRET_ACCESS_KEY" \
        "$weed" -logtostderr=true mini -dir="$home/data" -ip=127.0.0.1 -ip.bind=127.0.0.1 -bucket="$TEST_S3_BUCKET" \
        -s3.port="$s3" -s3.port.grpc=$((s3 + 10000)) -s3.port.iceberg=0 -s3.port.lance=0 -s3.localSocket="$home/s3.sock" \
        -s3.domainName=s3.test \
        -master.port="$master" -master.port.grpc=$((master + 10000)) -master.telemetry=false -master.volumeSizeLimitMB=30000 \
        -volume.port="$volume" -volume.port.grpc=$((volume + 10000)) -volume.preStopSeconds=0 -volume.max=1000 \
        -filer.port="$filer" -filer.port.grpc=$((filer + 10000)) -filer.localSocket="$home/filer.sock" \
        -admin.port="$admin" -admin.port.grpc=$((admin + 10000)) -admin.ui=false -webdav=false
}

# Killed, it leaves these; their place is not an option.
remove_seaweedfs_sockets() {
    local port
    for port in "${seaweedfs_ports[@]}"; do rm -f /tmp/seaweedfs-*-grpc-$((port + 10000)).sock; done
}

http_status() {
    (
        exec {connection}<>"/dev/tcp/127.0.0.1/$1"
        printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1:%s\r\n\r\n' "$2" "$1" >&"$connection"
        read -r -t 10 _ status _ <&"$connection"
        printf '%s' "$status"
    ) 2>/dev/null || true
}

# Until a signal ends the script, or one of the servers ends by itself.
hold_services() {
    detached TERM -- sleep infinity &
    task=$!
    wait -n || true
    show_logs
    die "a server has ended by itself"
}
