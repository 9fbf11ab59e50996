/* choice.c: see choice.h. */
#include "engine/cuda/choice.h"

#include <stdlib.h>
#include <string.h>

#include "engine/cuda/cuda.h"

#define INDEX_DIGITS_MAX 4 /* more GPUs than any machine has */

td_status_t cuda_fraction_parse(const char *text, double *fraction_out, struct td_error *error)
{
    size_t length = strspn(text, "0123456789.");
    char *end = NULL;
    double fraction = strtod(text, &end);

    if (length == 0 || text[length] != '\0' || end != text + length || !(fraction > 0.0) ||
        fraction > 1.0)
        return td_fail(error, TD_INVALID,
                       "--gpu-memory-fraction '%.40s': a share of the GPU's memory is wanted, "
                       "above 0 and at most 1, such as 0.45",
                       text);
    *fraction_out = fraction;
    return TD_OK;
}

/* What follows "gpu" or "cuda": nothing, or ":N". */
static bool parse_index(const char *text, uint32_t *index_out)
{
    size_t digits;

    if (text[0] == '\0') {
        *index_out = 0;
        return true;
    }
    digits = text[0] == ':' ? strspn(text + 1, "0123456789") : 0;
    if (digits == 0 || digits > INDEX_DIGITS_MAX || text[1 + digits] != '\0')
        return false;
    *index_out = (uint32_t)strtoul(text + 1, NULL, 10);
    return true;
}

td_status_t cuda_choice_parse(const char *device, const char *fraction,
                              struct cuda_choice *choice_out, struct td_error *error)
{
    struct cuda_choice choice = {.fraction = CUDA_FRACTION_DEFAULT};
    size_t word = strncmp(device, "gpu", 3) == 0 ? 3 : strncmp(device, "cuda", 4) == 0 ? 4 : 0;

    choice.is_gpu = word > 0 && parse_index(device + word, &choice.index);
    if (!choice.is_gpu && strcmp(device, "cpu") != 0)
        return td_fail(error, TD_INVALID,
                       "--device '%.40s': cpu, gpu or gpu:N is wanted, where N counts from 0 what "
                       "CUDA_VISIBLE_DEVICES shows",
                       device);
    if (fraction != NULL && !choice.is_gpu)
        return td_fail(error, TD_INVALID, "--gpu-memory-fraction is for --device gpu");
    if (fraction != NULL) {
        td_status_t status = cuda_fraction_parse(fraction, &choice.fraction, error);

        if (status != TD_OK)
            return status;
    }
    *choice_out = choice;
    return TD_OK;
}
