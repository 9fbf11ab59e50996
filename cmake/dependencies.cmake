# Third-party libraries, each as one interface target with system includes.
# Which room may use which of them is written down in docs/architecture.md and checked by CI.
find_package(Threads REQUIRED)
if(TANDEM_ENGINE_ONLY)
  include(engine_kit)
  return()
endif()
find_package(PkgConfig REQUIRED)

# tandem_dependency(<name> <pkg-config module>...): target dep::<name>
function(tandem_dependency name)
  pkg_check_modules(TD_${name} REQUIRED IMPORTED_TARGET ${ARGN})
  add_library(dep_${name} INTERFACE)
  target_link_libraries(dep_${name} INTERFACE PkgConfig::TD_${name})
  add_library(dep::${name} ALIAS dep_${name})
endfunction()

tandem_dependency(xxhash libxxhash)
tandem_dependency(utf8proc libutf8proc)
tandem_dependency(uv libuv)
tandem_dependency(curl libcurl)
tandem_dependency(crypto openssl)
tandem_dependency(edit libedit)
tandem_dependency(ucx ucx)
tandem_dependency(protobuf_c libprotobuf-c)

# pkg-config for grpc expands to 78 words of Abseil that a dynamic link does not need.
find_library(GRPC_LIBRARY grpc REQUIRED)
find_library(GPR_LIBRARY gpr REQUIRED)
add_library(dep_grpc INTERFACE)
target_link_libraries(dep_grpc INTERFACE ${GRPC_LIBRARY} ${GPR_LIBRARY} Threads::Threads)
add_library(dep::grpc ALIAS dep_grpc)
