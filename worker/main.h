/*
 * main.h: the main of both worker binaries; they differ in what they pass here.
 */
#ifndef TANDEM_WORKER_MAIN_H
#define TANDEM_WORKER_MAIN_H

#include "worker/types.h"

struct worker_role {
    const char *program; /* "tandem-decode" */
    const char *name;    /* in log lines: "decode" */
    const char *summary; /* one sentence for --help */
    const char *examples;
    const char *purpose; /* as in struct td_flags */
    const char *about;
    const char *see_also;
    const char *listen; /* defaults */
    const char *http_listen;
    struct worker_policy policy;
};

/* Runs until the worker has stopped; returns the exit status. */
int worker_main(const struct worker_role *role, int argc, char **argv);

#endif
