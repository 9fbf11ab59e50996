# What `cmake --install` puts where: the programs, and what they print about themselves: man pages and the
# completion of shells.
include(GNUInstallDirs)
set(TANDEM_PROGRAMS tandem tandem-router tandem-scheduler tandem-prefill tandem-decode)

install(TARGETS ${TANDEM_PROGRAMS} RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")

install(CODE "
  set(bin \"${CMAKE_BINARY_DIR}/bin\")
  set(share \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_DATAROOTDIR}\")
  set(man \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_MANDIR}/man1\")
  message(STATUS \"Installing: \${man}\")
  execute_process(COMMAND \"${CMAKE_SOURCE_DIR}/scripts/man\" \"\${man}\" \"\${bin}\" COMMAND_ERROR_IS_FATAL ANY)
  # bash and fish look for a file named after the command
  foreach(program ${TANDEM_PROGRAMS})
    foreach(place bash:bash-completion/completions/\${program} fish:fish/vendor_completions.d/\${program}.fish)
      string(REGEX MATCH \"^[a-z]+\" shell \"\${place}\")
      string(REGEX REPLACE \"^[a-z]+:\" \"\" file \"\${place}\")
      get_filename_component(folder \"\${share}/\${file}\" DIRECTORY)
      file(MAKE_DIRECTORY \"\${folder}\")
      message(STATUS \"Installing: \${share}/\${file}\")
      execute_process(COMMAND \"\${bin}/tandem\" completion \${shell} OUTPUT_FILE \"\${share}/\${file}\"
        COMMAND_ERROR_IS_FATAL ANY)
    endforeach()
  endforeach()
  file(MAKE_DIRECTORY \"\${share}/zsh/site-functions\")
  message(STATUS \"Installing: \${share}/zsh/site-functions/_tandem\")
  execute_process(COMMAND \"\${bin}/tandem\" completion zsh OUTPUT_FILE \"\${share}/zsh/site-functions/_tandem\"
    COMMAND_ERROR_IS_FATAL ANY)
")
