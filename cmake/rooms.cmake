# tandem_room(<name> SOURCES ... [ROOMS ...] [DEPS ...])
#   A static library room_<name> from the sources of one folder. ROOMS are the rooms below it,
#   DEPS the third-party targets (dep::x) whose headers this room alone may include.
function(tandem_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;ROOMS;DEPS" ${ARGN})
  add_library(room_${name} STATIC ${ROOM_SOURCES})
  target_link_libraries(room_${name} PRIVATE tandem_flags ${ROOM_DEPS})
  foreach(below ${ROOM_ROOMS})
    target_link_libraries(room_${name} PUBLIC room_${below})
  endforeach()
endfunction()

# tandem_program(<binary> SOURCES ... ROOMS ...): an executable in build/<preset>/bin.
function(tandem_program name)
  cmake_parse_arguments(PROGRAM "" "" "SOURCES;ROOMS;DEPS" ${ARGN})
  add_executable(${name} ${PROGRAM_SOURCES})
  target_link_libraries(${name} PRIVATE tandem_flags ${PROGRAM_DEPS})
  foreach(below ${PROGRAM_ROOMS})
    target_link_libraries(${name} PRIVATE room_${below})
  endforeach()
endfunction()

# tandem_test(<name> SOURCES ... ROOMS ... [LABELS ...]): a cmocka program run by ctest.
# Tests run in the source root, so that they find tests/data.
function(tandem_test name)
  if(NOT TANDEM_TESTS)
    return()
  endif()
  cmake_parse_arguments(TEST "" "TIMEOUT" "SOURCES;ROOMS;DEPS;LABELS" ${ARGN})
  if(NOT TEST_TIMEOUT)
    set(TEST_TIMEOUT 120)
  endif()
  add_executable(${name} ${TEST_SOURCES})
  target_link_libraries(${name} PRIVATE tandem_flags cmocka ${TEST_DEPS})
  foreach(below ${TEST_ROOMS})
    target_link_libraries(${name} PRIVATE room_${below})
  endforeach()
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY "${CMAKE_SOURCE_DIR}")
  set_tests_properties(${name} PROPERTIES TIMEOUT ${TEST_TIMEOUT} SKIP_RETURN_CODE 77
    LABELS "${TEST_LABELS}")
endfunction()

# tandem_fuzz(<name> SOURCES ... ROOMS ...): one decoder's fuzz target.
#   Always: <name>_replay runs the committed corpus tests/fuzz/corpus/<name> under ctest.
#   With TANDEM_FUZZ (clang): <name> is also a libFuzzer binary in build/<preset>/fuzz.
# A source defines LLVMFuzzerTestOneInput.
function(tandem_fuzz name)
  if(NOT TANDEM_TESTS)
    return()
  endif()
  cmake_parse_arguments(FUZZ "" "" "SOURCES;ROOMS;DEPS" ${ARGN})
  add_executable(${name}_replay ${FUZZ_SOURCES} "${CMAKE_SOURCE_DIR}/tests/fuzz/replay.c")
  target_link_libraries(${name}_replay PRIVATE tandem_flags ${FUZZ_DEPS})
  foreach(below ${FUZZ_ROOMS})
    target_link_libraries(${name}_replay PRIVATE room_${below})
  endforeach()
  set_target_properties(${name}_replay PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
  add_test(NAME ${name}_replay
    COMMAND ${name}_replay "${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${name}"
    WORKING_DIRECTORY "${CMAKE_SOURCE_DIR}")
  set_tests_properties(${name}_replay PROPERTIES TIMEOUT 120 LABELS "fuzz")
  if(TANDEM_FUZZ)
    add_executable(${name} ${FUZZ_SOURCES})
    target_link_libraries(${name} PRIVATE tandem_flags ${FUZZ_DEPS})
    foreach(below ${FUZZ_ROOMS})
      target_link_libraries(${name} PRIVATE room_${below})
    endforeach()
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/fuzz")
  endif()
endfunction()
