/*
 * fuzz_hf_index.c: any bytes are the index of a folder or are refused with a reason; what was accepted names
 * files of the folder itself.
 */
#include <assert.h>
#include <string.h>

#include "model/hf_index.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_files(const struct model_hf_index *index)
{
    assert(index->file_count >= 1 && index->file_count <= MODEL_HF_FILES_MAX);
    for (uint32_t i = 0; i < index->file_count; i++) {
        const char *name = index->files[i];

        assert(strlen(name) > 0 && strlen(name) <= MODEL_HF_FILE_BYTES_MAX);
        assert(name[0] != '.' && strchr(name, '/') == NULL && strchr(name, '\\') == NULL);
        for (uint32_t j = 0; j < i; j++)
            assert(strcmp(name, index->files[j]) != 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model_hf_index index;
    struct td_error error = {0};

    if (model_hf_index_read(td_span_over((const char *)data, size), &index, &error) != TD_OK) {
        assert(error.text[0] != '\0');
        return 0;
    }
    check_files(&index);
    assert(index.place_count >= 1);
    for (size_t i = 0; i < index.place_count; i++)
        assert(index.places[i].file < index.file_count && strlen(index.places[i].tensor) < size);
    model_hf_index_fini(&index);
    return 0;
}
