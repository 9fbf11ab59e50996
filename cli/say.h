/*
 * say.h: what a command tells the person in front of it while it works: one line each, on stderr.
 * Results go to stdout, so that they can be piped.
 */
#ifndef TANDEM_CLI_SAY_H
#define TANDEM_CLI_SAY_H

#include "lib/base/status.h"

/* "tandem: " in front, a newline behind; one write, so that lines of children do not mix with it. */
void cli_say(const char *format, ...) TD_PRINTF(1, 2);

#endif
