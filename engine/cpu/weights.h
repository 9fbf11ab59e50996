/*
 * weights.h: the matrices of a model, packed for the kernels (pack.h): from a cache file that all
 * workers of the host map, or in memory of this process.
 *
 * Owns which matrices there are and in which order they lie, packing by several threads, and the memory.
 * The file is cache.h's. Immutable once open: any thread may read them.
 */
#ifndef TANDEM_ENGINE_CPU_WEIGHTS_H
#define TANDEM_ENGINE_CPU_WEIGHTS_H

#include <stddef.h>
#include <stdint.h>

#include "engine/cpu/pack.h"
#include "lib/base/status.h"
#include "model/map.h"
#include "model/model.h"

#define CPU_CACHE_BYTES_DEFAULT ((uint64_t)64 << 30)

/* What struct model_layer has, packed. */
struct cpu_layer {
    struct cpu_matrix q;
    struct cpu_matrix k;
    struct cpu_matrix v;
    struct cpu_matrix attention_output;
    struct cpu_matrix gate;
    struct cpu_matrix up;
    struct cpu_matrix down;
};

struct cpu_weights {
    struct cpu_layer *layer;  /* [layers] */
    struct cpu_matrix output; /* the LM head */
    size_t bytes;             /* of all of them, packed */
    struct model_map map;     /* where they are: a file of the cache ... */
    uint8_t *memory;          /* ... or memory of this process */
};

/* Zero-initialised: one thread, no cache, nothing said. */
struct cpu_weights_options {
    uint32_t threads;
    const char *cache;        /* a folder; NULL: pack in memory */
    uint64_t cache_bytes_min; /* fewer are packed in memory all the same */
    uint64_t cache_bytes_max; /* of all files in it; 0: CPU_CACHE_BYTES_DEFAULT */
    /* Called now and then, on the caller's thread: so many bytes of something are done. May be NULL. */
    void (*progress)(void *ctx, const char *what, uint64_t done, uint64_t total);
    void *ctx;
};

/* How many bytes cpu_weights_open makes of a model. */
uint64_t cpu_weights_bytes(const struct model *model);

/*
 * TD_LIMIT, TD_NO_MEMORY or TD_EXHAUSTED; TD_CORRUPT if the model file was written to meanwhile. A cache that
 * cannot be used is said in one line of log, and is no error: then the weights are packed in memory. The
 * model may be closed before the weights.
 */
td_status_t cpu_weights_open(const struct model *model, const struct cpu_weights_options *options,
                             struct cpu_weights **weights_out, struct td_error *error) TD_MUST_USE;
void cpu_weights_close(struct cpu_weights *weights);

#endif
