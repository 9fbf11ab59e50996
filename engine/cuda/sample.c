/* sample.c: see sample.h. */
#include "engine/cuda/sample.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "engine/sample.h"
#include "lib/base/log.h"

_Static_assert(CUDA_NOT_DRAWN == ENGINE_NOT_DRAWN && CUDA_DRAW_FAILED == ENGINE_DRAW_FAILED,
               "what is no token means the same to kernels and to the core");
_Static_assert(CUDA_PEAK_TILE == ENGINE_LOGITS_TILE && ENGINE_WEIGHT_BITS == 40,
               "weights are the same");
_Static_assert(sizeof(struct cuda_change) == sizeof(struct engine_bias) &&
                   sizeof(struct cuda_change) == sizeof(struct engine_tally_entry),
               "changes are copied as the core has them");
_Static_assert(CUDA_TOP_MAX == ENGINE_TOP_LOGPROBS_MAX &&
                   sizeof(struct cuda_logprobs) == sizeof(struct engine_logprobs) &&
                   offsetof(struct cuda_logprobs, top) == offsetof(struct engine_logprobs, top) &&
                   offsetof(struct engine_logprob, value) == sizeof(uint32_t),
               "log-probabilities are copied as the core has them");

#define PEAKS_IN_BLOCK 8

td_status_t cuda_draws_open(struct cuda_draws *draws, struct cuda_device *device,
                            const struct cuda_shape *shape, struct td_error *error)
{
    const size_t outputs = shape->outputs_max;
    struct {
        void *memory;
        size_t bytes;
    } arrays[] = {
        {NULL, outputs * sizeof *draws->each},
        {NULL, cuda_changes_max(shape) * sizeof *draws->changes},
        {NULL, outputs * cuda_mask_words(shape) * sizeof *draws->masks},
        {NULL, outputs * sizeof *draws->logprobs},
        {NULL, outputs * sizeof *draws->tokens},
    };
    td_status_t status = TD_OK;

    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0] && status == TD_OK; i++)
        status = cuda_device_take_host(device, arrays[i].bytes, &arrays[i].memory, error);
    *draws = (struct cuda_draws){.each = arrays[0].memory,
                                 .changes = arrays[1].memory,
                                 .masks = arrays[2].memory,
                                 .logprobs = arrays[3].memory,
                                 .tokens = arrays[4].memory};
    return status;
}

void cuda_draws_close(struct cuda_draws *draws, struct cuda_device *device)
{
    cuda_device_give_host(device, draws->each);
    cuda_device_give_host(device, draws->changes);
    cuda_device_give_host(device, draws->masks);
    cuda_device_give_host(device, draws->logprobs);
    cuda_device_give_host(device, draws->tokens);
    *draws = (struct cuda_draws){0};
}

/* Biases, and behind them what was seen; false if there is no room for them. */
static bool add_changes(struct cuda_draws *draws, const struct cuda_shape *shape,
                        const struct engine_changes *changes, struct cuda_draw *draw)
{
    struct cuda_change *to = draws->changes + draws->change_count;
    size_t count = (size_t)changes->bias_count + changes->seen_count;

    if (count > cuda_changes_max(shape) - draws->change_count)
        return false;
    if (changes->bias_count > 0)
        memcpy(to, changes->biases, changes->bias_count * sizeof *to);
    if (changes->seen_count > 0)
        memcpy(to + changes->bias_count, changes->seen, changes->seen_count * sizeof *to);
    draw->repetition = changes->repetition;
    draw->frequency = changes->frequency;
    draw->presence = changes->presence;
    draw->biases = changes->bias_count;
    draw->seen = changes->seen_count;
    draw->first_change = draws->change_count;
    draws->change_count += count;
    return true;
}

static void note_left(struct cuda_draws *draws, const struct engine_changes *changes)
{
    if (!draws->has_left)
        td_log(TD_LOG_INFO, "cuda",
               "a draw is left to the host: no room for its penalties biases %" PRIu32
               " tokens %" PRIu32,
               changes->bias_count, changes->seen_count);
    draws->has_left = true;
}

static void add_mask(struct cuda_draws *draws, const struct cuda_shape *shape,
                     const uint32_t *allowed, struct cuda_draw *draw)
{
    size_t words = cuda_mask_words(shape);

    if (allowed == NULL)
        return;
    memcpy(draws->masks + draws->mask_count * words, allowed, words * sizeof *allowed);
    draw->mask = ++draws->mask_count;
}

static void add_draw(struct cuda_draws *draws, const struct cuda_shape *shape,
                     const struct engine_draw *from, struct cuda_draw *draw)
{
    if (!add_changes(draws, shape, &from->changes, draw)) {
        note_left(draws, &from->changes);
        return;
    }
    add_mask(draws, shape, from->allowed, draw);
    draw->is_wanted = true;
    draw->is_greedy = from->is_greedy;
    draw->reach = from->reach;
    draw->random = from->random;
    draw->least_weight = from->least_weight;
    draw->temperature = from->temperature;
    draw->top_p = from->top_p;
    draw->top_k = from->top_k;
    draw->wants_logprobs = from->wants_logprobs;
    draw->top = from->top_logprobs;
    draws->with_logprobs += from->wants_logprobs;
}

bool cuda_draws_fill(struct cuda_draws *draws, const struct cuda_shape *shape,
                     const struct engine_batch *batch)
{
    draws->outputs = batch->output_count;
    draws->logits = 0;
    draws->asked = 0;
    draws->with_logprobs = 0;
    draws->mask_count = 0;
    draws->change_count = 0;
    for (uint32_t i = 0; i < batch->output_count; i++) {
        const struct engine_output *output = &batch->outputs[i];

        draws->each[i] = (struct cuda_draw){.row = draws->logits};
        if (output->want != ENGINE_WANT_LOGITS)
            continue;
        draws->logits++;
        if (output->draw == NULL)
            continue;
        draws->asked++;
        add_draw(draws, shape, output->draw, &draws->each[i]);
    }
    return draws->asked > 0;
}

static void upload(const struct cuda_draws *draws, struct cuda_device *device,
                   const struct cuda_shape *shape, const struct cuda_workspace *work)
{
    cuda_device_upload(device, work->draws, draws->each, draws->outputs * sizeof *draws->each);
    if (draws->change_count > 0)
        cuda_device_upload(device, work->changes, draws->changes,
                           draws->change_count * sizeof *draws->changes);
    if (draws->mask_count > 0)
        cuda_device_upload(device, work->masks, draws->masks,
                           (size_t)draws->mask_count * cuda_mask_words(shape) *
                               sizeof *draws->masks);
}

/* The greatest of each tile, of the logits as they are now. */
static void queue_peaks(const struct cuda_draws *draws, struct cuda_device *device,
                        const struct cuda_shape *shape, const struct cuda_workspace *work)
{
    const struct cuda_peaks_args args = {
        .logits = work->logits, .peaks = work->peaks, .vocab = shape->vocab};
    const struct cuda_grid grid = {.x = (cuda_peak_tiles(shape) + PEAKS_IN_BLOCK - 1) /
                                        PEAKS_IN_BLOCK,
                                   .y = draws->logits,
                                   .z = 1};

    cuda_device_launch(device, CUDA_KERNEL_PEAKS, grid, &args);
}

static void queue_survey(const struct cuda_draws *draws, struct cuda_device *device,
                         const struct cuda_shape *shape, const struct cuda_workspace *work)
{
    const struct cuda_survey_args args = {.logits = work->logits,
                                          .peaks = work->peaks,
                                          .draws = work->draws,
                                          .surveys = work->surveys,
                                          .logprobs = work->logprobs,
                                          .vocab = shape->vocab};

    cuda_device_launch(device, CUDA_KERNEL_SURVEY,
                       (struct cuda_grid){.x = draws->outputs, .y = 1, .z = 1}, &args);
}

static void queue_changes(const struct cuda_draws *draws, struct cuda_device *device,
                          const struct cuda_shape *shape, const struct cuda_workspace *work)
{
    const struct cuda_change_args args = {.logits = work->logits,
                                          .kept = work->kept,
                                          .draws = work->draws,
                                          .changes = work->changes,
                                          .vocab = shape->vocab};

    cuda_device_launch(device, CUDA_KERNEL_CHANGE,
                       (struct cuda_grid){.x = draws->outputs, .y = 1, .z = 1}, &args);
}

static void queue_masks(const struct cuda_draws *draws, struct cuda_device *device,
                        const struct cuda_shape *shape, const struct cuda_workspace *work)
{
    const struct cuda_mask_args args = {.logits = work->logits,
                                        .draws = work->draws,
                                        .masks = work->masks,
                                        .vocab = shape->vocab,
                                        .words = cuda_mask_words(shape)};
    const struct cuda_grid grid = {
        .x = (shape->vocab + CUDA_MASK_BLOCK - 1) / CUDA_MASK_BLOCK, .y = draws->outputs, .z = 1};

    cuda_device_launch(device, CUDA_KERNEL_MASK, grid, &args);
}

static void queue_draw(const struct cuda_draws *draws, struct cuda_device *device,
                       const struct cuda_shape *shape, const struct cuda_workspace *work)
{
    const struct cuda_draw_args args = {.logits = work->logits,
                                        .peaks = work->peaks,
                                        .draws = work->draws,
                                        .changes = work->changes,
                                        .kept = work->kept,
                                        .surveys = work->surveys,
                                        .tokens = work->tokens,
                                        .logprobs = work->logprobs,
                                        .vocab = shape->vocab};

    cuda_device_launch(device, CUDA_KERNEL_DRAW,
                       (struct cuda_grid){.x = draws->outputs, .y = 1, .z = 1}, &args);
}

void cuda_draws_queue(const struct cuda_draws *draws, struct cuda_device *device,
                      const struct cuda_shape *shape, const struct cuda_workspace *work)
{
    bool has_changes = draws->change_count > 0;
    bool has_masks = draws->mask_count > 0;
    bool has_logprobs = draws->with_logprobs > 0;

    upload(draws, device, shape, work);
    if (has_logprobs) { /* of the logits without changes */
        queue_peaks(draws, device, shape, work);
        queue_survey(draws, device, shape, work);
    }
    if (has_changes)
        queue_changes(draws, device, shape, work);
    if (has_masks)
        queue_masks(draws, device, shape, work);
    if (has_changes || has_masks || !has_logprobs)
        queue_peaks(draws, device, shape, work);
    queue_draw(draws, device, shape, work);
    cuda_device_download(device, draws->tokens, work->tokens,
                         draws->outputs * sizeof *draws->tokens);
    if (has_logprobs)
        cuda_device_download(device, draws->logprobs, work->logprobs,
                             draws->outputs * sizeof *draws->logprobs);
}
