/* model.c: opening and closing of models, whatever they are read from; see model.h. */
#include "model/model.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/hash.h"
#include "model/hf_folder.h"

static td_status_t open_folder(const char *path, struct model **model_out, struct td_error *error)
{
    struct model *model = calloc(1, sizeof *model);
    td_status_t status;

    if (model == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for a model");
    status = model_hf_folder_open(path, model, error);
    if (status != TD_OK) {
        if (error != NULL &&
            strstr(error->text, path) == NULL) /* a file in it may be named in full */
            td_fail_wrap(error, "%s", path);
        model_close(model);
        return status;
    }
    *model_out = model;
    return TD_OK;
}

/* Whether somebody named a part of a folder instead of the folder. */
static bool is_part_of_folder(const char *path)
{
    const char *end = strrchr(path, '.');

    return end != NULL && (strcmp(end, ".safetensors") == 0 || strcmp(end, ".json") == 0);
}

td_status_t model_open(const char *path, struct model **model_out, struct td_error *error)
{
    struct model_gguf *file = NULL;
    struct stat about;
    td_status_t status;

    if (stat(path, &about) == 0 && S_ISDIR(about.st_mode))
        return open_folder(path, model_out, error);
    if (is_part_of_folder(path))
        return td_fail(error, TD_INVALID,
                       "%s: this is one file of a model in Hugging Face's form; name its folder",
                       path);
    status = model_gguf_open(path, &file, error);
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
    free(model->scales);
    text_source_fini(&model->text);
    model_gguf_close(model->file);
    model_hf_folder_close(model->folder);
    free(model);
}

bool model_is_unchanged(const struct model *model)
{
    struct td_u128 digest = model->file != NULL ? model_gguf_digest(model->file)
                                                : model_hf_folder_digest(model->folder);

    return td_u128_equal(digest, model->weights_digest);
}

/* The length of text without "-00001-of-00003" at its end. */
static size_t without_part(const char *text, size_t length)
{
    static const char pattern[] = "-#####-of-#####";
    size_t size = sizeof pattern - 1;

    if (length <= size)
        return length;
    for (size_t i = 0; i < size; i++) {
        char c = text[length - size + i];

        if (pattern[i] == '#' ? c < '0' || c > '9' : c != pattern[i])
            return length;
    }
    return length - size;
}

/* What stands behind the last slash of the first length bytes; slashes at the end do not count. */
static struct td_span last_part(const char *path, size_t length)
{
    size_t start;

    while (length > 1 && path[length - 1] == '/')
        length--;
    for (start = length; start > 0 && path[start - 1] != '/'; start--)
        continue;
    return td_span_over(path + start, length - start);
}

/*
 * The cache of huggingface_hub has models in folders models--OWNER--NAME/snapshots/COMMIT. Of such a path, whose last
 * part is given, NAME; of any other the last part.
 */
static struct td_span cached_name(const char *path, struct td_span last)
{
    static const char prefix[] = "models--";
    struct td_span parent = last_part(path, (size_t)(last.bytes - path));
    struct td_span name = last_part(path, (size_t)(parent.bytes - path));
    const char *owner_end;

    if (!td_span_is(parent, "snapshots") || name.length < sizeof prefix ||
        memcmp(name.bytes, prefix, sizeof prefix - 1) != 0)
        return last;
    name = td_span_over(name.bytes + sizeof prefix - 1, name.length - (sizeof prefix - 1));
    owner_end = memmem(name.bytes, name.length, "--", 2);
    if (owner_end != NULL)
        name = td_span_over(owner_end + 2, name.length - (size_t)(owner_end + 2 - name.bytes));
    return name;
}

void model_name_of_path(const char *path, char *out, size_t size)
{
    static const char ending[] = ".gguf";
    const size_t ending_length = sizeof ending - 1;
    struct td_span name = last_part(path, strlen(path));

    if (name.length > ending_length &&
        memcmp(name.bytes + name.length - ending_length, ending, ending_length) == 0)
        name.length = without_part(name.bytes, name.length - ending_length);
    else
        name = cached_name(path, name);
    snprintf(out, size, "%.*s", (int)name.length, name.bytes);
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
