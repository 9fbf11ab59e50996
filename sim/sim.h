/*
 * sim.h: a whole cluster in one process under one seed.
 *
 * The pure cores of a router, schedulers and workers run against a virtual clock, a virtual network and
 * the modelled engine; faults strike as a seed says; oracles watch every step. The same options
 * give the same run, byte for byte, on every machine: the trace hash proves it. docs/sim.md
 * tells how to read a failure.
 */
#ifndef TANDEM_SIM_SIM_H
#define TANDEM_SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/base/status.h"
#include "lib/base/u128.h"

/* name, help. The order is that of the bits of sim_options.faults. */
#define SIM_FAULTS_MAP(X)                                                                   \
    X(DELAY, "delay", "messages take up to a second instead of a millisecond")              \
    X(REORDER, "reorder", "messages of different streams, and KV chunks, overtake another") \
    X(DUPLICATE, "duplicate", "KV messages arrive twice")                                   \
    X(DROP, "drop", "streams break, hosts are cut off from each other, KV messages vanish") \
    X(CORRUPT, "corrupt", "bits flip in KV messages")                                       \
    X(CRASH, "crash", "a process dies at once and comes back with a new epoch")             \
    X(RESTART, "restart", "a process is asked to end, drains, and comes back")              \
    X(FREEZE, "freeze", "a process stands still for a while, as under SIGSTOP")             \
    X(STEP, "step", "a step of an engine fails")                                            \
    X(LEAVE, "leave", "clients leave, or have enough, at any moment")                       \
    X(PRESSURE, "pressure", "block pools, queues and windows are as small as they may be")  \
    X(HANG, "hang", "transports that cannot be cut off, so that blocks end in quarantine")

enum sim_fault {
#define X(name, text, help) SIM_FAULT_##name,
    SIM_FAULTS_MAP(X)
#undef X
        SIM_FAULT_COUNT
};

#define SIM_FAULTS_ALL ((1u << SIM_FAULT_COUNT) - 1)

/*
 * name, help. Ways to break the cluster on purpose, between the cores: they prove that the oracles
 * bite. Not faults: a correct cluster cannot survive them.
 */
#define SIM_BREAKS_MAP(X)                                                                          \
    X(NONE, "none", "")                                                                            \
    X(EARLY_QUIET, "early-quiet", "a transfer counts as quiet as soon as it is abandoned")         \
    X(EARLY_LANDED, "early-landed", "KV counts as landed when its first chunk arrives")            \
    X(EARLY_RELEASE, "early-release", "exported blocks are released as soon as they are computed") \
    X(SWAP_SLOTS, "swap-slots", "two blocks land in each other's place")                           \
    X(LOSE_CANCEL, "lose-cancel", "the engine never hears of a cancel")                            \
    X(LOSE_RELEASE, "lose-release", "the engine never hears of a release")                         \
    X(LOSE_CACHE, "lose-cache", "a change of the prefix cache is not announced, ever")             \
    X(LOSE_TOKENS, "lose-tokens", "one update of a worker loses its first token")                  \
    X(LOSE_END, "lose-end", "the end of an answer never reaches the router")                       \
    X(WRONG_EPOCH, "wrong-epoch", "what was meant for an old process is told to the new one")      \
    X(TAINT_TOKEN, "taint-token", "one token changes on its way to the router")

enum sim_break {
#define X(name, text, help) SIM_BREAK_##name,
    SIM_BREAKS_MAP(X)
#undef X
        SIM_BREAK_COUNT
};

struct sim_options {
    uint64_t seed;
    uint32_t steps_max; /* of the storm: faults end after so many events, or when all have ended */
    uint32_t requests;  /* of the storm */
    uint32_t faults;    /* bits by enum sim_fault: what may happen */
    uint32_t prefill;   /* prefill workers; 0: decode workers prefill themselves */
    uint32_t decode;    /* decode workers */
    uint32_t schedulers;
    uint32_t routers;
    enum sim_break break_what;
    bool verbose; /* logs of the cores and every event go to stderr */
    FILE *trace;  /* every event; NULL: none */
};

struct sim_options sim_options_default(void);

#define SIM_REASON_BYTES 512
#define SIM_TAIL_LINES   40
#define SIM_LINE_BYTES   192

/* name, help. What happened in a run; for the summary and to see that the faults bite. */
#define SIM_FIGURES_MAP(X)                                             \
    X(events, "events executed")                                       \
    X(requests, "requests that clients made")                          \
    X(answered, "answers that came to their end")                      \
    X(stopped, "answers whose client had enough")                      \
    X(left, "clients that left")                                       \
    X(refused, "requests refused")                                     \
    X(failed, "answers that ended with an error")                      \
    X(lost, "clients whose connection broke with its process")         \
    X(tokens, "tokens that reached clients, each checked")             \
    X(imports_landed, "prompts whose KV crossed")                      \
    X(imports_fallback, "prompts prefilled by decode after an ask")    \
    X(imports_retried, "imports that went on to another candidate")    \
    X(retries, "requests begun anew on another worker")                \
    X(attaches, "requests taken up again after a link broke")          \
    X(preemptions, "sequences that gave their blocks up")              \
    X(kv_chunks, "KV chunks that landed")                              \
    X(kv_corrupt, "KV chunks refused because their content was wrong") \
    X(quarantines, "transfers that could not be made quiet")           \
    X(stream_breaks, "streams broken by the network")                  \
    X(partitions, "pairs of processes cut off for a while")            \
    X(crashes, "processes killed")                                     \
    X(restarts, "processes drained and restarted")                     \
    X(freezes, "processes frozen for a while")                         \
    X(failed_steps, "steps of engines that failed")

struct sim_figures {
#define X(name, help) uint64_t name;
    SIM_FIGURES_MAP(X)
#undef X
};

/* What came of a run. */
struct sim_report {
    bool passed;
    struct td_u128 trace_hash; /* XXH3-128 over all events */
    uint64_t virtual_ns;
    uint32_t faults; /* of those that were allowed, the ones that this seed has chosen */
    struct sim_figures figures;
    /* of a failure */
    const char *oracle; /* which one spoke */
    uint64_t step;
    char reason[SIM_REASON_BYTES];
    char tail[SIM_TAIL_LINES][SIM_LINE_BYTES]; /* the last events, oldest first */
    uint32_t tail_count;
};

/* One run. An assertion in a core ends the process; sim_main says then how to replay it. */
void sim_run(const struct sim_options *options, struct sim_report *report_out);

/* The names of faults and breaks: "delay,crash", "all", "none". TD_INVALID with the word. */
td_status_t sim_faults_parse(const char *text, uint32_t *faults_out,
                             struct td_error *error) TD_MUST_USE;
td_status_t sim_break_parse(const char *text, enum sim_break *break_out,
                            struct td_error *error) TD_MUST_USE;

/* The command `tandem sim`: argv[0] is its name in messages. Returns the exit status: 0, 1 or 2. */
int sim_main(int argc, char **argv);

#endif
