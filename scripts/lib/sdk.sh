# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # shared with scripts/test, scripts/sdk and the other parts
# The generator, the linters and what the generated clients need: from PyPI, npm and Debian, pinned by
# sdk/tests. Sourced by scripts/test and scripts/sdk, after fetch.sh and processes.sh.

# Sets sdk_tools to the folder of exactly what the two lists pin: `python`, a virtual environment, and
# `node_modules`.
name_sdk_tools() {
    local hash
    hash=$(cat sdk/tests/requirements.txt sdk/tests/package-lock.json | sha256sum)
    sdk_tools=$cache/sdk-tools-${hash:0:16}
}

find_or_fetch_sdk_tools() {
    name_sdk_tools
    mkdir -p "$cache"
    exec {lock}>"$cache/lock"
    flock "$lock"
    local packages=()
    command -v java >/dev/null || packages+=(default-jre-headless)
    command -v node >/dev/null && command -v npm >/dev/null || packages+=(nodejs npm)
    find_python || packages+=(python3 python3-venv)
    if ((${#packages[@]})); then
        check_can_install "${packages[@]}"
        install_packages "${packages[@]}"
        command -v java >/dev/null || die "Java is installed, but not in PATH"
    fi
    [[ -d $sdk_tools ]] || fetch_sdk_tools
    exec {lock}>&-
}

fetch_sdk_tools() {
    local log=$work/sdk-tools.log part=$sdk_tools.part
    find_python || die "python3 is installed, but cannot make a virtual environment"
    say "Downloading the generator, the linters and schemathesis ..."
    rm -rf "$part"
    mkdir -p "$part"
    cp sdk/tests/package.json sdk/tests/package-lock.json "$part"
    # The environment knows its own place, so it is made where it stays; the folder counts once it has its name.
    if ! { run_task npm --prefix "$part" ci --ignore-scripts --no-audit --no-fund &&
        run_task "$python" -m venv "$sdk_tools-python" &&
        run_task "$sdk_tools-python/bin/pip" install --no-input --disable-pip-version-check --no-deps \
            --only-binary :all: --require-hashes -r sdk/tests/requirements.txt; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        die "the tools of the SDKs could not be fetched"
    fi
    ln -s "$sdk_tools-python" "$part/python"
    mv "$part" "$sdk_tools"
}

# Usage: generate_sdk LANG DIR
generate_sdk() {
    local log=$work/generate-$1.log
    # The generator looks for its jar in its Python package.
    if ! run_task "$sdk_tools/python/bin/openapi-generator-cli" generate --config "sdk/config/$1.yaml" \
        --input-spec openapi.yaml --output "$2" \
        --global-property apiTests=false,modelTests=false >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        die "the $1 client could not be generated"
    fi
}

lint_spec() {
    local log=$work/lint.log bin=$sdk_tools/node_modules/.bin
    if ! { run_task "$sdk_tools/python/bin/openapi-spec-validator" openapi.yaml &&
        run_task "$bin/redocly" lint --config sdk/tests/redocly.yaml --max-problems 1000 openapi.yaml &&
        run_task "$bin/spectral" lint --ruleset sdk/tests/spectral.yaml --fail-severity warn openapi.yaml; } >"$log" 2>&1 ||
        grep -q 'with .* warning\|[1-9][0-9]* warning' "$log"; then
        cat "$log" >&2
        die "openapi.yaml is not clean"
    fi
}

# Lints the spec, generates the clients that the tests use, compiles what is compiled, and names the place in
# TEST_SDKS. Three at a time would only wait for one another.
prepare_sdks() {
    local began=$SECONDS sdks=$work/sdks
    find_or_fetch_sdk_tools
    lint_spec
    mkdir -p "$sdks/clients" "$sdks/typescript"
    cp -r sdk/tests "$sdks/tests"
    ln -s "$sdk_tools/python" "$sdks/python"
    generate_sdk python "$sdks/clients/python"
    generate_sdk typescript-fetch "$sdks/typescript/client"
    generate_sdk kotlin "$sdks/clients/kotlin"
    generate_sdk swift6 "$sdks/clients/swift6"
    compile_typescript "$sdks/typescript"
    compile_kotlin "$sdks/clients/kotlin"
    check_swift "$sdks/clients/swift6"
    TEST_SDKS=$sdks
    export TEST_SDKS
    say "Spec linted, clients generated and compiled in $((SECONDS - began)) s"
}

compile_typescript() {
    cp sdk/tests/typescript/* "$1"
    printf '{"type": "module"}\n' >"$1/package.json"
    ln -s "$sdk_tools/node_modules" "$1/node_modules"
    if ! run_task "$sdk_tools/node_modules/.bin/tsc" --project "$1" --outDir "$1/out" >"$work/tsc.log" 2>&1; then
        tail -n 20 "$work/tsc.log" >&2
        die "the TypeScript client does not compile"
    fi
}

# The client and the samples of sdk/README.md, whose checksums are then run. The compiler is from npm; OkHttp, Moshi
# and WorkManager come from no registry at hand, so their signatures stand in.
compile_kotlin() {
    local kotlin=$sdk_tools/node_modules/kotlin-compiler log=$work/kotlinc.log sources
    run_task "$sdk_tools/python/bin/python" sdk/tests/readme.py kotlin "$1/readme" ||
        die "the Kotlin samples of sdk/README.md cannot be read"
    mapfile -t sources < <(find "$1/src/main" "$1/readme" sdk/tests/kotlin sdk/tests/kotlin-stubs -name '*.kt')
    if ! run_task java -Xmx1g -cp "$kotlin/lib/kotlin-compiler.jar" org.jetbrains.kotlin.cli.jvm.K2JVMCompiler \
        -nowarn -no-reflect -kotlin-home "$kotlin" -d "$1/out" "${sources[@]}" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        die "the Kotlin client, or the samples of sdk/README.md, do not compile"
    fi
    # The check values of the published catalogue, as in the tests of core/src/checksum.rs.
    if ! run_task java -cp "$1/out:$kotlin/lib/kotlin-stdlib.jar" ChecksumsKt >"$log" 2>&1 ||
        [[ $(<"$log") != $'crc64nvme rosUhgp5mIg=\ncrc32c 4waSgw==' ]]; then
        tail -n 20 "$log" >&2
        die "the checksums of sdk/README.md are wrong"
    fi
}

# No Swift compiler is at hand: what the samples call is looked up in the client.
check_swift() {
    run_task "$sdk_tools/python/bin/python" sdk/tests/readme.py swift "$1/Sources" ||
        die "the Swift samples of sdk/README.md do not fit the client"
}
