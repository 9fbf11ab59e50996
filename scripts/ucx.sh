# A newer UCX for scripts/setup --ucx: NVIDIA's Python package, which knows CUDA, pinned with its hash and unpacked without
# root. Programs use it when $ucx_folder/lib is on LD_LIBRARY_PATH: it has the same name as Debian's.
ucx_wheel=scripts/ucx-wheel.txt

set_up_ucx() {
    local made watched version
    version=$(grep -o '^libucx-cu13==[0-9.]*' "$ucx_wheel")
    if [ "$(cat "$ucx_folder/package.txt" 2>/dev/null)" = "$version" ]; then
        return
    fi
    install_packages python3 python3-pip
    mkdir -p "$cache_folder"
    made=$(mktemp -d "$cache_folder/ucx-XXXXXX")
    watched=$made
    # shellcheck disable=SC2064 # the folder of now
    trap "rm -rf '$made'" EXIT
    say "fetching $version: 43 MB, 16 MB of it in $ucx_folder"
    (TMPDIR=$made quietly /usr/bin/python3 -m pip install --no-deps --no-cache-dir --disable-pip-version-check \
        --only-binary=:all: --require-hashes --target "$made/packages" --requirement "$ucx_wheel") ||
        fail "UCX could not be fetched: is the package index reachable? Debian's is used without it"
    mkdir -p "$made/ucx/lib/ucx"
    cp "$made"/packages/libucx/lib/*.so.0 "$made/ucx/lib/"
    cp "$made"/packages/libucx/lib/ucx/libuc[mt]_*.so.0 "$made/ucx/lib/ucx/" # modules, found beside the library
    echo "$version" >"$made/ucx/package.txt"
    rm -rf "$ucx_folder"
    mv "$made/ucx" "$ucx_folder" # it gets its name only when it is whole
    rm -rf "$made"
    trap - EXIT
    say "UCX: LD_LIBRARY_PATH=$ucx_folder/lib runs programs with it"
}
