/*
 * fuzz_generation_config.c: any bytes are defaults within their ranges, or are refused with a reason.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "model/generation_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model_generation_config config;
    struct td_error error = {0};
    struct text_source source;
    char *copy =
        malloc(size > 0 ? size : 1); /* of exact size, so that ASan sees one byte too far */

    assert(copy != NULL);
    if (size > 0)
        memcpy(copy, data, size);
    if (model_generation_config_read(td_span_over(copy, size), &config, &error) == TD_OK) {
        assert(text_generation_check(&config.generation, &error) == TD_OK);
        text_source_init(&source);
        source.token_count = 1000;
        assert(model_generation_config_apply(&config, &source, &error) == TD_OK);
        for (uint32_t i = 0; i < source.stop_id_count; i++)
            assert(source.stop_ids[i] < 1000);
    } else {
        assert(error.text[0] != '\0');
    }
    free(copy);
    return 0;
}
