# The CUDA toolkit: where it is looked for, and whether it is used.
#   TANDEM_CUDA  AUTO: where a working nvcc is found (never in builds with sanitizers); ON: must be there; OFF.
# Looked for where scripts/setup --cuda puts it (which it does only where no other is good enough), then on the PATH and
# in /usr/local/cuda. Sets TANDEM_CUDA_FOUND.
set(TANDEM_CUDA "AUTO" CACHE STRING "Build for CUDA: AUTO (where a toolkit is found), ON or OFF")
set_property(CACHE TANDEM_CUDA PROPERTY STRINGS AUTO ON OFF)
# Hopper's own code, and PTX from which drivers make code for every other GPU since Ampere (80, 89, 100, 120).
set(TANDEM_CUDA_ARCHITECTURES "80-virtual;90a-real" CACHE STRING "As CMAKE_CUDA_ARCHITECTURES")
set(TANDEM_CUDA_FOUND OFF)

if(TANDEM_CUDA STREQUAL "OFF" OR (TANDEM_CUDA STREQUAL "AUTO" AND TANDEM_SANITIZE))
  return()
endif()

set(cache "$ENV{XDG_CACHE_HOME}")
if(cache STREQUAL "")
  set(cache "$ENV{HOME}/.cache")
endif()
find_program(TANDEM_NVCC nvcc HINTS "${cache}/tandem/cuda/bin" PATHS /usr/local/cuda/bin)
set(CMAKE_CUDA_ARCHITECTURES "${TANDEM_CUDA_ARCHITECTURES}")
set(CMAKE_CUDA_RUNTIME_LIBRARY Static) # a program that is built with it runs where there is no CUDA
if(TANDEM_NVCC AND NOT CMAKE_CUDA_COMPILER)
  # tried in a project of its own, since a compiler that is found and does not work would end this one
  unset(CMAKE_CUDA_COMPILER CACHE)
  set(ENV{CUDACXX} "${TANDEM_NVCC}")
  set(ENV{CUDAARCHS} "${TANDEM_CUDA_ARCHITECTURES}") # CUDA 11.8 knows 90, but not 90a
  include(CheckLanguage)
  check_language(CUDA)
endif()
if(NOT TANDEM_NVCC OR NOT CMAKE_CUDA_COMPILER)
  set(why "there is no nvcc (scripts/setup --cuda installs a toolkit without root)")
  if(TANDEM_NVCC)
    set(why "${TANDEM_NVCC} does not work: CUDA 12 or newer is needed, and g++ (scripts/setup --cuda installs what is missing)")
    unset(TANDEM_NVCC CACHE) # the next time another may be there
  endif()
  if(TANDEM_CUDA STREQUAL "ON")
    message(FATAL_ERROR "TANDEM_CUDA=ON, but ${why}")
  endif()
  message(STATUS "CUDA: ${why}; the CUDA device layer is not built")
  return()
endif()

enable_language(CUDA)
set(TANDEM_CUDA_FOUND ON)
message(STATUS "CUDA: ${CMAKE_CUDA_COMPILER} ${CMAKE_CUDA_COMPILER_VERSION} for ${TANDEM_CUDA_ARCHITECTURES}")

# Kernels round as they are written: no contraction, and IEEE division, square root and subnormals (the defaults).
set(CMAKE_CUDA_FLAGS_RELEASE "-O3 -lineinfo")
set(CMAKE_CUDA_FLAGS_DEBUG "-O0 -g -lineinfo")
add_library(tandem_cuda_flags INTERFACE)
target_include_directories(tandem_cuda_flags INTERFACE "${CMAKE_SOURCE_DIR}")
target_compile_options(tandem_cuda_flags INTERFACE
  -fmad=false -Xcompiler=-Wall,-Wextra,-fno-strict-aliasing -Xptxas=-warn-spills)
if(TANDEM_WERROR)
  target_compile_options(tandem_cuda_flags INTERFACE -Werror=all-warnings)
endif()
# For C files that call the runtime.
add_library(dep_cudart INTERFACE)
target_include_directories(dep_cudart SYSTEM INTERFACE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
add_library(dep::cudart ALIAS dep_cudart)
