# The CUDA toolkit for scripts/setup --cuda: the compiler and the runtime's headers and static library, out of
# NVIDIA's own Python packages, pinned with their hashes and unpacked without root. cmake/cuda.cmake looks first where
# this puts them.
cuda_wheels=scripts/cuda-wheels.txt

# Names and versions of the wheels, one a line.
wheel_names() {
    grep -o '^[a-z-]*==[0-9.]*' "$cuda_wheels"
}

# nvcc on the path or in the usual place: if it is new enough nothing is fetched.
installed_nvcc() {
    command -v nvcc || { [ -x /usr/local/cuda/bin/nvcc ] && echo /usr/local/cuda/bin/nvcc; }
}

# Whether a toolkit makes code for Hopper: the same that the build asks of it.
try_nvcc() {
    local folder status=0
    folder=$(mktemp -d)
    echo '__global__ void nothing(float *x) { x[threadIdx.x] = 0; }' >"$folder/try.cu"
    "$1" -gencode=arch=compute_90a,code=sm_90a -c "$folder/try.cu" -o "$folder/try.o" \
        >"$folder/log" 2>&1 || { status=1 && cat "$folder/log" >&2; }
    rm -rf "$folder"
    return "$status"
}

fetch_cuda() {
    local made=$1 watched=$1
    say "installing a CUDA toolkit without root: 110 MB to fetch, 280 MB in $cuda_folder"
    (TMPDIR=$made quietly /usr/bin/python3 -m pip install --no-deps --no-cache-dir --disable-pip-version-check \
        --only-binary=:all: --require-hashes --target "$made/packages" --requirement "$cuda_wheels") ||
        fail "the CUDA toolkit could not be fetched: is the package index reachable? Else install CUDA 13 so that
       nvcc is on the PATH or in /usr/local/cuda, or build without: cmake -D TANDEM_CUDA=OFF"
    mv "$made/packages/nvidia/cu13" "$made/toolkit"
    ln -s lib "$made/toolkit/lib64" # where nvcc looks for libraries
    wheel_names >"$made/toolkit/packages.txt"
}

set_up_cuda() {
    local nvcc made
    install_packages "${cuda_packages[@]}"
    if nvcc=$(installed_nvcc); then
        if try_nvcc "$nvcc"; then
            say "CUDA: $nvcc is there"
            return
        fi
        say "CUDA: $nvcc makes no code for sm_90a (CUDA 12 or newer does, 13 is tested): it is left as it is, and a
       toolkit beside it is used instead"
    fi
    if wheel_names | cmp -s - "$cuda_folder/packages.txt"; then
        return
    fi
    mkdir -p "$cache_folder"
    made=$(mktemp -d "$cache_folder/cuda-XXXXXX")
    # shellcheck disable=SC2064 # the folder of now
    trap "rm -rf '$made'" EXIT
    fetch_cuda "$made"
    try_nvcc "$made/toolkit/bin/nvcc" || fail "the CUDA toolkit was fetched but does not compile (see above)"
    rm -rf "$cuda_folder"
    mv "$made/toolkit" "$cuda_folder" # it gets its name only when it works
    rm -rf "$made"
    trap - EXIT
    say "CUDA: $cuda_folder/bin/nvcc"
}
