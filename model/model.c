/* model.c: opening and closing of models, whatever they are read from; see model.h. */
#include "model/model.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/base/hash.h"

td_status_t model_open(const char *path, struct model **model_out, struct td_error *error)
{
    struct model_gguf *file = NULL;
    td_status_t status = model_gguf_open(path, &file, error);

    if (status != TD_OK)
        return status;
    status = model_from_gguf(file, model_out, error);
    if (status != TD_OK) {
        td_fail_wrap(error, "%s", path);
        model_gguf_close(file);
    }
    return status;
}

void model_close(struct model *model)
{
    if (model == NULL)
        return;
    free(model->layer);
    free(model->vectors);
    text_source_fini(&model->text);
    model_gguf_close(model->file);
    free(model);
}

struct td_u128 model_content_id(struct td_u128 weights_digest, const char *rope,
                                const char *kv_dtype, const char *numerics)
{
    char text[512];
    char digest[TD_U128_HEX_BYTES];
    int length =
        snprintf(text, sizeof text, "weights %s\nrope %s\nkv_dtype %s\nnumerics %s\nadapter \n",
                 td_u128_hex(weights_digest, digest), rope, kv_dtype, numerics);

    assert(length > 0 && (size_t)length < sizeof text); /* the parts are ours and short */
    return td_hash128(text, (size_t)length);
}
