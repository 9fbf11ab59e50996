/* sample.c: see sample.h. */
#include "engine/cuda/sample.h"

#include "engine/sample.h"

_Static_assert(CUDA_NOT_DRAWN == ENGINE_NOT_DRAWN && CUDA_DRAW_FAILED == ENGINE_DRAW_FAILED,
               "what is no token means the same to kernels and to the core");
_Static_assert(CUDA_PEAK_TILE == ENGINE_LOGITS_TILE && ENGINE_WEIGHT_BITS == 40,
               "weights are the same");

#define PEAKS_IN_BLOCK 8

bool cuda_sample_wanted(const struct engine_output *output)
{
    return output->want == ENGINE_WANT_LOGITS && output->draw != NULL;
}

bool cuda_sample_fill(const struct engine_batch *batch, struct cuda_draw *draws)
{
    bool is_any = false;
    uint32_t row = 0;

    for (uint32_t i = 0; i < batch->output_count; i++) {
        const struct engine_output *output = &batch->outputs[i];
        const struct engine_draw *draw = output->draw;

        draws[i] = (struct cuda_draw){.row = row};
        row += output->want == ENGINE_WANT_LOGITS;
        if (!cuda_sample_wanted(output))
            continue;
        is_any = true;
        draws[i].is_wanted = true;
        draws[i].is_greedy = draw->is_greedy;
        draws[i].reach = draw->reach;
        draws[i].random = draw->random;
        draws[i].least_weight = draw->least_weight;
        draws[i].temperature = draw->temperature;
        draws[i].top_p = draw->top_p;
        draws[i].top_k = draw->top_k;
    }
    return is_any;
}

void cuda_sample_queue(struct cuda_device *device, const struct cuda_shape *shape,
                       const struct cuda_workspace *work, uint32_t rows, uint32_t outputs)
{
    const struct cuda_peaks_args peaks = {
        .logits = work->logits, .peaks = work->peaks, .vocab = shape->vocab};
    const struct cuda_draw_args draw = {.logits = work->logits,
                                        .peaks = work->peaks,
                                        .draws = work->draws,
                                        .tokens = work->tokens,
                                        .vocab = shape->vocab};
    uint32_t tiles = cuda_peak_tiles(shape);

    cuda_device_launch(
        device, CUDA_KERNEL_PEAKS,
        (struct cuda_grid){.x = (tiles + PEAKS_IN_BLOCK - 1) / PEAKS_IN_BLOCK, .y = rows, .z = 1},
        &peaks);
    cuda_device_launch(device, CUDA_KERNEL_DRAW, (struct cuda_grid){.x = outputs, .y = 1, .z = 1},
                       &draw);
}
