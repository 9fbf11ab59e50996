/*
 * ucx_process.c: what UCX needs of the whole process, see kvt_ucx_prepare_process.
 *
 * Settings of UCX's transports are read from the environment when a context is made; in 1.13
 * ucp_config_modify accepts them and then ignores them. Settings of its base library were read from
 * the environment when it was loaded, before main, and are changed where it keeps them.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucs/config/global_opts.h>
#include <ucs/debug/debug.h>
#include <ucs/debug/log_def.h>

#include "kvtransfer/ucx_private.h"
#include "lib/base/log.h"

static atomic_bool is_prepared;

/* Overrides what the user may have set: each of these is needed for a promise we make. */
static const struct {
    const char *name;
    const char *value;
} variables[] = {
    /* Without these two, shared memory is not used together with peer error handling. */
    {"UCX_POSIX_ERROR_HANDLING", "y"},
    {"UCX_SYSV_ERROR_HANDLING", "y"},
    /*
     * 8 MiB on the way instead of half a MiB: with fewer cores than threads each filling of the queue
     * costs a turn of both processes, and this made it four times as fast. Not 64k: the length
     * overflows 16 bits in 1.13, and the receiver aborts.
     */
    {"UCX_POSIX_FIFO_SIZE", "256"},
    {"UCX_SYSV_FIFO_SIZE", "256"},
    {"UCX_POSIX_SEG_SIZE", "32k"},
    {"UCX_SYSV_SEG_SIZE", "32k"},
    /* No peer writes to addresses that it names itself, not even for rendezvous. */
    {"UCX_TCP_PUT_ENABLE", "n"},
    /* Receivers read, nobody writes into another's GPU: also where UCX thinks that writing is faster. */
    {"UCX_CUDA_IPC_ENABLE_GET_ZCOPY", "on"},
};

static enum td_log_level level_of(ucs_log_level_t level)
{
    if (level <= UCS_LOG_LEVEL_ERROR)
        return TD_LOG_ERROR;
    return level == UCS_LOG_LEVEL_WARN ? TD_LOG_WARN : TD_LOG_DEBUG;
}

__attribute__((format(printf, 6, 0))) static ucs_log_func_rc_t on_log(
    const char *file, unsigned line, const char *function, ucs_log_level_t level,
    const ucs_log_component_config_t *component, const char *message, va_list arguments)
{
    char text[512];

    (void)component;
    (void)function;
    if (td_log_enabled(level_of(level))) {
        vsnprintf(text, sizeof text, message, arguments);
        td_log(level_of(level), "ucx", "%s at %s:%u", text, file, line);
    }
    return UCS_LOG_FUNC_RC_STOP;
}

/*
 * UCX prints a backtrace or waits for a debugger on these. Ours to handle, or the sanitizers'. Newer versions handle
 * none unless they are asked to, and warn of what is taken back from them in vain.
 */
static void take_back_signals(void)
{
    static const int numbers[] = {SIGILL, SIGSEGV, SIGBUS, SIGFPE, SIGHUP};

    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct sigaction action;

        if (sigaction(numbers[i], NULL, &action) == 0 && action.sa_handler != SIG_DFL &&
            action.sa_handler != SIG_IGN)
            ucs_debug_disable_signal(numbers[i]);
    }
}

/* Not every variable has its transport in use. Where the setting lies in memory differs among versions; its name does not. */
static void allow_unused_variables(void)
{
    (void)ucs_global_opts_set_value("WARN_UNUSED_ENV_VARS", "n"); /* what is left is a warning */
}

/* 1.13 crashes with the second generation of protocols. The default of 1.16 and newer is kept: the contract holds over it. */
static td_status_t choose_protocols(void)
{
    unsigned major;
    unsigned minor;
    unsigned release;

    ucp_get_version(&major, &minor, &release);
    if (UCP_VERSION(major, minor) >= UCP_VERSION(1, 16))
        return TD_OK;
    return setenv("UCX_PROTO_ENABLE", "n", 1) == 0 ? TD_OK : TD_NO_MEMORY;
}

td_status_t kvt_ucx_prepare_process(void)
{
    td_status_t status;

    if (atomic_load(&is_prepared))
        return TD_OK;
    if (!ucx_events_are_guarded()) /* a fault of the build: see ucx_events.c */
        return TD_INTERNAL;
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        if (setenv(variables[i].name, variables[i].value, 1) != 0)
            return TD_NO_MEMORY;
    status = choose_protocols();
    if (status != TD_OK)
        return status;
    ucs_log_push_handler(on_log);
    allow_unused_variables();
    take_back_signals();
    atomic_store(&is_prepared, true);
    return TD_OK;
}

bool ucx_process_is_prepared(void)
{
    return atomic_load(&is_prepared);
}
