# The libraries of an engine-only build (TANDEM_ENGINE_ONLY), without pkg-config: Debian's, the system's, or those that
# scripts/setup --engine-kit has put into build/engine-kit, for machines that have none of them.
set(kit "${CMAKE_SOURCE_DIR}/build/engine-kit")

# kit_library(<name> <header> <library>...): target dep::<name>; a library may be a file name.
function(kit_library name header)
  find_path(TD_${name}_INCLUDE ${header} PATHS "${kit}/include")
  find_library(TD_${name}_LIBRARY NAMES ${ARGN} PATHS "${kit}/lib")
  if(NOT TD_${name}_INCLUDE OR NOT TD_${name}_LIBRARY)
    message(FATAL_ERROR "${name} is missing (header ${TD_${name}_INCLUDE}, library ${TD_${name}_LIBRARY}): install "
      "it, or make build/engine-kit with scripts/setup --engine-kit on a Debian machine and take it along")
  endif()
  add_library(dep_${name} INTERFACE)
  target_include_directories(dep_${name} SYSTEM INTERFACE "${TD_${name}_INCLUDE}")
  target_link_libraries(dep_${name} INTERFACE "${TD_${name}_LIBRARY}")
  add_library(dep::${name} ALIAS dep_${name})
endfunction()

kit_library(xxhash xxhash.h xxhash)
kit_library(utf8proc utf8proc.h utf8proc)
if(TANDEM_TESTS)
  kit_library(cmocka cmocka.h cmocka libcmocka.so.0)
  add_library(cmocka ALIAS dep_cmocka)
  set(TANDEM_CMOCKA "${TD_cmocka_INCLUDE}")
endif()
