/*
 * texts.h: the tokenizers of the fleet, fetched from its workers.
 *
 * A worker serves the bytes behind its text_id (Text). Whichever worker gives them, they are checked
 * against that id, decoded and opened on the thread pool, and kept for the life of the process, since
 * running requests hold on to them. A fetch that fails is tried again with another worker; bytes
 * that are right and yet cannot be used are not fetched again. One fetch at a time. Loop thread.
 */
#ifndef TANDEM_ROUTER_TEXTS_H
#define TANDEM_ROUTER_TEXTS_H

#include <stdint.h>

#include "lib/base/u128.h"
#include "lib/net/loop.h"
#include "lib/net/rpc.h"
#include "lib/text/model.h"
#include "router/core.h"

#define ROUTER_TEXTS_MAX 64 /* different tokenizers in the life of a process */

struct router_texts;

/* name, help. All rising; exported as tandem_router_<name>_total. */
#define ROUTER_TEXTS_COUNTERS_MAP(X)                                \
    X(texts_fetched, "Tokenizers fetched from workers and opened.") \
    X(texts_failed, "Fetches of a tokenizer that failed.")

struct router_texts_counters {
#define X(name, text) uint64_t name;
    ROUTER_TEXTS_COUNTERS_MAP(X)
#undef X
};

struct router_texts_config {
    struct net_loop *loop;
    struct rpc *rpc;
    const struct router_core *core; /* asked for the workers */
};

td_status_t router_texts_open(const struct router_texts_config *config,
                              struct router_texts **texts_out) TD_MUST_USE;
/* Nobody may use a text model any more. NULL is allowed. */
void router_texts_close(struct router_texts *texts);

/* The fleet has changed: fetches what is missing. */
void router_texts_look(struct router_texts *texts);

/* The text model, or NULL while it is not here; created is when it came, in Unix seconds. */
const struct text_model *router_texts_find(const struct router_texts *texts, struct td_u128 id,
                                           int64_t *created_out);
/* Why router_texts_find gives NULL, half a sentence. Valid until the next call into texts. */
const char *router_texts_why(const struct router_texts *texts, struct td_u128 id);

const struct router_texts_counters *router_texts_counters(const struct router_texts *texts);

#endif
