/* weights.c: see weights.h. */
#include "engine/cpu/weights.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/cpu/team.h"
#include "lib/base/bytes.h"

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

static void fill_item(const struct model *model, struct cpu_weights *weights, size_t index,
                      struct item *item)
{
    const struct model_layer *source = &model->layer[index / MEMBERS];
    struct cpu_layer *target = &weights->layer[index / MEMBERS];

    if (index == (size_t)model->layers * MEMBERS) {
        *item = (struct item){.source = &model->output, .target = &weights->output};
        return;
    }
    *item = (struct item){
        .source = (const void *)((const uint8_t *)source + members[index % MEMBERS].source),
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

static void place(struct cpu_weights *weights, const struct packing *packing)
{
    for (size_t i = 0; i < packing->count; i++)
        packing->items[i].target->data = weights->memory + packing->items[i].offset;
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

static td_status_t pack_all(struct packing *packing, size_t bytes,
                            const struct cpu_weights_options *options, struct td_error *error)
{
    uint32_t slice = packing->units / SLICES + 1;
    struct cpu_team *team = NULL;
    td_status_t status = cpu_team_open(options->threads > 0 ? options->threads : 1, &team, error);

    if (status != TD_OK)
        return status;
    for (packing->first = 0; packing->first < packing->units; packing->first += slice) {
        uint32_t left = packing->units - packing->first;

        if (options->progress != NULL)
            options->progress(options->ctx, "packing weights",
                              bytes / packing->units * packing->first, bytes);
        cpu_team_run(team, pack_unit, packing, left < slice ? left : slice);
    }
    cpu_team_close(team);
    return TD_OK;
}

static td_status_t pack_in_memory(struct cpu_weights *weights, struct packing *packing,
                                  const struct cpu_weights_options *options, struct td_error *error)
{
    void *memory = mmap(NULL, weights->bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED)
        return td_fail(error, TD_NO_MEMORY, "cannot map %zu bytes for packed weights: %s",
                       weights->bytes, strerror(errno));
    weights->memory = memory;
    packing->memory = memory;
    return pack_all(packing, weights->bytes, options, error);
}

td_status_t cpu_weights_open(const struct model *model, const struct cpu_weights_options *options,
                             struct cpu_weights **weights_out, struct td_error *error)
{
    struct cpu_weights *weights = calloc(1, sizeof *weights);
    struct packing packing = {0};
    td_status_t status;

    if (weights == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for weights");
    status = lay_out(model, weights, &packing, error);
    if (status == TD_OK)
        status = pack_in_memory(weights, &packing, options, error);
    if (status == TD_OK)
        place(weights, &packing);
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
    if (weights->memory != NULL)
        munmap(weights->memory, weights->bytes);
    free(weights->layer);
    free(weights);
}
