# Language level, warnings, hardening and sanitizers, the same for every target.
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)

add_library(tandem_flags INTERFACE)
target_compile_definitions(tandem_flags INTERFACE _GNU_SOURCE)
target_include_directories(tandem_flags INTERFACE "${CMAKE_SOURCE_DIR}")
target_compile_options(tandem_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes
  -Wcast-qual -Wundef -Wvla -Wformat=2 -Wwrite-strings -Wpointer-arith
  -fno-strict-aliasing -fno-omit-frame-pointer -ffp-contract=off)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
  target_compile_options(tandem_flags INTERFACE -Wlogical-op -Wduplicated-cond -Wduplicated-branches)
endif()
if(TANDEM_WERROR)
  target_compile_options(tandem_flags INTERFACE -Werror)
endif()

if(TANDEM_SANITIZE)
  target_compile_definitions(tandem_flags INTERFACE TANDEM_SANITIZED)
  target_compile_options(tandem_flags INTERFACE -fsanitize=${TANDEM_SANITIZE} -fno-sanitize-recover=all
    $<$<BOOL:${TANDEM_FUZZ}>:-fsanitize=fuzzer-no-link>)
  target_link_options(tandem_flags INTERFACE -fsanitize=${TANDEM_SANITIZE})
else()
  target_compile_options(tandem_flags INTERFACE
    -fstack-protector-strong -fstack-clash-protection -fcf-protection=full
    $<$<NOT:$<CONFIG:Debug>>:-D_FORTIFY_SOURCE=2>)
  target_link_options(tandem_flags INTERFACE -Wl,-z,relro,-z,now,-z,noexecstack)
endif()

# Assertions stay on in release: -O2 -g without NDEBUG.
set(CMAKE_C_FLAGS_RELEASE "-O2 -g")
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g")
set(CMAKE_C_FLAGS_DEBUG "-O0 -g3")
