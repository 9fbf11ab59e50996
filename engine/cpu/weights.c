/* weights.c: see weights.h. */
#include "engine/cpu/weights.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/cpu/cache.h"
#include "engine/cpu/team.h"
#include "lib/base/bytes.h"
#include "lib/base/hash.h"
#include "lib/base/log.h"
#include "lib/base/time.h"

/* What one thread packs at a time, and how often progress is told. */
#define UNIT_GROUPS 8
#define SLICES      64

/* A matrix of a layer, in the model and here. The order is the order in memory and in the file. */
static const struct {
    size_t source;
    size_t target;
} members[] = {
#define X(name) {offsetof(struct model_layer, name), offsetof(struct cpu_layer, name)},
    X(q) X(k) X(v) X(attention_output) X(gate) X(up) X(down)
#undef X
};
#define MEMBERS (sizeof members / sizeof members[0])

/* One matrix to pack. */
struct item {
    const struct model_matrix *source;
    struct cpu_matrix *target;
    size_t offset;
    uint32_t first_unit;
};

struct packing {
    const struct model *model;
    const struct cpu_weights_options *options;
    struct cpu_team *team;
    struct item *items;
    size_t count;
    uint32_t units;
    uint32_t first; /* unit of the slice that runs */
    uint8_t *memory;
};

static size_t item_count(const struct model *model)
{
    return (size_t)model->layers * MEMBERS + 1;
}

static const struct model_matrix *member_of(const struct model_layer *layer, size_t member)
{
    return (const void *)((const uint8_t *)layer + members[member].source);
}

static uint64_t packed_bytes(const struct model_matrix *matrix)
{
    return (uint64_t)cpu_pack_groups(matrix->rows) *
           cpu_pack_group_bytes(matrix->type, matrix->columns);
}

/* No sum overflows: the values lie in mapped files, which are hardly smaller. */
uint64_t cpu_weights_bytes(const struct model *model)
{
    uint64_t bytes = packed_bytes(&model->output);

    for (uint32_t i = 0; i < model->layers; i++)
        for (size_t member = 0; member < MEMBERS; member++)
            bytes += packed_bytes(member_of(&model->layer[i], member));
    return bytes;
}

static void fill_item(const struct model *model, struct cpu_weights *weights, size_t index,
                      struct item *item)
{
    const struct model_layer *source = &model->layer[index / MEMBERS];
    struct cpu_layer *target = &weights->layer[index / MEMBERS];

    if (index == (size_t)model->layers * MEMBERS) {
        *item = (struct item){.source = &model->output, .target = &weights->output};
        return;
    }
    *item = (struct item){.source = member_of(source, index % MEMBERS),
                          .target = (void *)((uint8_t *)target + members[index % MEMBERS].target)};
}

/* Where everything will lie. Pointers follow when there is memory. */
static td_status_t lay_out(const struct model *model, struct cpu_weights *weights,
                           struct packing *packing, struct td_error *error)
{
    packing->count = item_count(model);
    packing->items = calloc(packing->count, sizeof *packing->items);
    weights->layer = calloc(model->layers, sizeof *weights->layer);
    if (packing->items == NULL || weights->layer == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the list of weights");
    for (size_t i = 0; i < packing->count; i++) {
        struct item *item = &packing->items[i];
        const struct model_matrix *source;
        uint32_t groups;

        fill_item(model, weights, i, item);
        source = item->source;
        groups = cpu_pack_groups(source->rows);
        *item->target =
            (struct cpu_matrix){.type = source->type,
                                .rows = source->rows,
                                .columns = source->columns,
                                .group_bytes = cpu_pack_group_bytes(source->type, source->columns)};
        item->offset = weights->bytes;
        item->first_unit = packing->units;
        packing->units += (groups + UNIT_GROUPS - 1) / UNIT_GROUPS;
        if (!td_size_add(&weights->bytes, groups, item->target->group_bytes))
            return td_fail(error, TD_LIMIT, "the size of the packed weights overflows");
    }
    return TD_OK;
}

/* Points every matrix to its place in the content. */
static void place(const struct packing *packing, const uint8_t *content)
{
    for (size_t i = 0; i < packing->count; i++)
        packing->items[i].target->data = content + packing->items[i].offset;
}

/* ------------------------------------------------------------------ packing */

static void say(const struct packing *packing, const char *what, uint64_t done, uint64_t total)
{
    if (packing->options->progress != NULL)
        packing->options->progress(packing->options->ctx, what, done, total);
}

static void pack_unit(void *context, uint32_t index, uint32_t thread)
{
    const struct packing *packing = context;
    uint32_t unit = packing->first + index;
    size_t low = 0;
    size_t high = packing->count;
    const struct item *item;
    uint32_t groups;
    uint32_t first;

    (void)thread;
    while (high - low > 1) { /* the last item that starts at this unit or before */
        size_t middle = low + (high - low) / 2;

        if (packing->items[middle].first_unit <= unit)
            low = middle;
        else
            high = middle;
    }
    item = &packing->items[low];
    groups = cpu_pack_groups(item->source->rows);
    first = (unit - item->first_unit) * UNIT_GROUPS;
    cpu_pack_rows(item->source, first, groups - first < UNIT_GROUPS ? groups - first : UNIT_GROUPS,
                  packing->memory + item->offset);
}

static td_status_t pack_in_memory(struct cpu_weights *weights, struct packing *packing,
                                  struct td_error *error)
{
    uint32_t slice = packing->units / SLICES + 1;
    void *memory = mmap(NULL, weights->bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED)
        return td_fail(error, TD_NO_MEMORY, "cannot map %zu bytes for packed weights: %s",
                       weights->bytes, strerror(errno));
    (void)madvise(memory, weights->bytes, MADV_HUGEPAGE);
    weights->memory = memory;
    packing->memory = memory;
    for (packing->first = 0; packing->first < packing->units; packing->first += slice) {
        uint32_t left = packing->units - packing->first;

        say(packing, "packing weights", weights->bytes / packing->units * packing->first,
            weights->bytes);
        cpu_team_run(packing->team, pack_unit, packing, left < slice ? left : slice);
    }
    say(packing, "packing weights", weights->bytes, weights->bytes);
    place(packing, weights->memory);
    return TD_OK;
}

/* ------------------------------------------------------------------ the cache */

/* All that decides where which weights lie, apart from pack.h. */
static td_status_t hash_plan(const struct packing *packing, struct td_u128 *hash_out,
                             struct td_error *error)
{
    uint32_t(*plan)[3] = calloc(packing->count, sizeof *plan);

    if (plan == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the list of weights");
    for (size_t i = 0; i < packing->count; i++) {
        plan[i][0] = packing->items[i].source->type;
        plan[i][1] = packing->items[i].source->rows;
        plan[i][2] = packing->items[i].source->columns;
    }
    *hash_out = td_hash128(plan, packing->count * sizeof *plan);
    free(plan);
    return TD_OK;
}

static void say_waiting(void *ctx)
{
    say(ctx, "waiting for another process that packs these weights", 0, 0);
}

/* TD_NOT_FOUND and TD_CORRUPT: make it (again). */
static td_status_t open_entry(struct cpu_weights *weights, const struct cpu_cache_entry *entry,
                              const struct packing *packing, struct td_error *error)
{
    uint64_t start_ns = td_now_ns();
    td_status_t status = cpu_cache_open(entry, packing->team, &weights->map, error);

    if (status != TD_OK)
        return status;
    place(packing, weights->map.bytes + CPU_CACHE_HEADER_BYTES);
    td_log(TD_LOG_INFO, "weights", "packed weights from the cache bytes %zu check_ms %.0f",
           weights->bytes, td_ns_to_ms(td_now_ns() - start_ns));
    return TD_OK;
}

/*
 * Weights of a file that is being written over would lie under the digest of what was there before, and be
 * wrong for whoever has that again.
 */
static td_status_t check_unchanged(const struct packing *packing, struct td_error *error)
{
    say(packing, "reading the model again", 0, 0);
    if (model_is_unchanged(packing->model))
        return TD_OK;
    return td_fail(
        error, TD_CORRUPT,
        "the model file was changed while it was loaded; is it being downloaded? Replace "
        "model files by renaming, never in place");
}

/* With the lock. A cache that does not take the weights leaves them in memory. */
static td_status_t make_entry(struct cpu_weights *weights, const struct cpu_cache_entry *entry,
                              struct packing *packing, struct td_error *error)
{
    uint64_t bytes_max = packing->options->cache_bytes_max;
    struct td_error why = {0};
    uint8_t *memory;
    td_status_t status = open_entry(weights, entry, packing, &why);

    if (status == TD_OK) /* somebody else was faster */
        return TD_OK;
    if (status != TD_NOT_FOUND)
        td_log(TD_LOG_WARN, "weights", "an entry of the cache is made again: %s", why.text);
    status = pack_in_memory(weights, packing, error);
    if (status == TD_OK)
        status = check_unchanged(packing, error);
    if (status != TD_OK)
        return status;
    say(packing, "writing the cache of weights", 0, 0);
    if (bytes_max == 0)
        bytes_max = CPU_CACHE_BYTES_DEFAULT;
    status = cpu_cache_store(entry, weights->memory, bytes_max, packing->team, &why);
    if (status == TD_OK)
        status = open_entry(weights, entry, packing, &why);
    if (status != TD_OK) {
        td_log(TD_LOG_WARN, "weights", "packed weights stay in memory, for this process alone: %s",
               why.text);
        return TD_OK;
    }
    memory = weights->memory;
    weights->memory = NULL;
    munmap(memory, weights->bytes);
    return TD_OK;
}

static td_status_t open_cached(struct cpu_weights *weights, const struct model *model,
                               struct packing *packing, struct td_error *error)
{
    struct cpu_cache_entry entry = {.folder = packing->options->cache,
                                    .digest = model->weights_digest,
                                    .layout = CPU_PACK_VERSION,
                                    .bytes = weights->bytes,
                                    .model = model->name};
    struct td_error why = {0};
    struct cpu_cache_lock lock;
    td_status_t status = hash_plan(packing, &entry.plan, error);

    if (status != TD_OK || open_entry(weights, &entry, packing, &why) == TD_OK)
        return status;
    status = cpu_cache_lock(&entry, say_waiting, packing, &lock, &why);
    if (status != TD_OK) {
        td_log(TD_LOG_WARN, "weights", "no cache for packed weights, they are packed in memory: %s",
               why.text);
        return pack_in_memory(weights, packing, error);
    }
    status = make_entry(weights, &entry, packing, error);
    cpu_cache_unlock(&lock);
    return status;
}

/* ------------------------------------------------------------------ opening */

td_status_t cpu_weights_open(const struct model *model, const struct cpu_weights_options *options,
                             struct cpu_weights **weights_out, struct td_error *error)
{
    struct cpu_weights *weights = calloc(1, sizeof *weights);
    struct packing packing = {.model = model, .options = options};
    td_status_t status;

    if (weights == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for weights");
    status = lay_out(model, weights, &packing, error);
    if (status == TD_OK)
        status = cpu_team_open(options->threads > 0 ? options->threads : 1, &packing.team, error);
    if (status == TD_OK)
        status = options->cache != NULL && weights->bytes >= options->cache_bytes_min
                     ? open_cached(weights, model, &packing, error)
                     : pack_in_memory(weights, &packing, error);
    cpu_team_close(packing.team);
    free(packing.items);
    if (status != TD_OK) {
        cpu_weights_close(weights);
        return status;
    }
    *weights_out = weights;
    return TD_OK;
}

void cpu_weights_close(struct cpu_weights *weights)
{
    if (weights == NULL)
        return;
    model_map_close(&weights->map);
    if (weights->memory != NULL)
        munmap(weights->memory, weights->bytes);
    free(weights->layer);
    free(weights);
}
