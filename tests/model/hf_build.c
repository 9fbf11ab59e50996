/* hf_build.c: see hf_build.h. */
#include "tests/model/hf_build.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES_MAX ((size_t)64 << 20)

void hf_build_init(struct hf_build *build)
{
    const char *parent = getenv("TMPDIR");

    snprintf(build->path, sizeof build->path, "%s/tandem-hf-XXXXXX",
             parent != NULL ? parent : "/tmp");
    assert_non_null(mkdtemp(build->path));
}

static void path_of(const struct hf_build *build, const char *name, char out[512])
{
    assert_in_range(snprintf(out, 512, "%s/%s", build->path, name), 1, 511);
}

void hf_build_fini(struct hf_build *build)
{
    DIR *folder = opendir(build->path);
    const struct dirent *entry;

    assert_non_null(folder);
    while ((entry = readdir(folder)) != NULL)
        if (entry->d_name[0] != '.')
            hf_build_remove(build, entry->d_name);
    closedir(folder);
    assert_int_equal(rmdir(build->path), 0);
}

void hf_build_put(const struct hf_build *build, const char *name, const void *bytes, size_t length)
{
    char path[512];
    FILE *file;

    path_of(build, name, path);
    file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

void hf_build_put_text(const struct hf_build *build, const char *name, const char *text)
{
    hf_build_put(build, name, text, strlen(text));
}

void hf_build_remove(const struct hf_build *build, const char *name)
{
    char path[512];

    path_of(build, name, path);
    assert_int_equal(unlink(path), 0);
}

void hf_build_copy(const struct hf_build *build, const char *model, const char *name)
{
    char source[256];
    size_t length;
    char *bytes;

    snprintf(source, sizeof source, "%s/%s", model, name);
    bytes = test_read_file(test_data_path(source), &length);
    hf_build_put(build, name, bytes, length);
    free(bytes);
}

void hf_build_copy_all(const struct hf_build *build, const char *model)
{
    DIR *folder = opendir(test_data_path(model));
    const struct dirent *entry;

    assert_non_null(folder);
    while ((entry = readdir(folder)) != NULL)
        if (entry->d_name[0] != '.' && strncmp(entry->d_name, "golden", 6) != 0 &&
            strcmp(entry->d_name, "model.gguf") != 0)
            hf_build_copy(build, model, entry->d_name);
    closedir(folder);
}

void hf_build_replace(const struct hf_build *build, const char *name, const char *before,
                      const char *after)
{
    struct td_buf changed;
    char path[512];
    size_t length;
    char *text;
    char *at;

    path_of(build, name, path);
    text = test_read_file(path, &length);
    at = strstr(text, before);
    if (at == NULL || strstr(at + 1, before) != NULL)
        fail_msg("%s does not stand once in %s", before, name);
    td_buf_init(&changed, FILE_BYTES_MAX);
    td_buf_append(&changed, text, (size_t)(at - text));
    td_buf_append(&changed, after, strlen(after));
    td_buf_append(&changed, at + strlen(before), strlen(at + strlen(before)));
    assert_int_equal(changed.status, TD_OK);
    hf_build_put(build, name, changed.data, changed.length);
    td_buf_fini(&changed);
    free(text);
}

/* ---- weights ---- */

void hf_weights_init(struct hf_weights *weights)
{
    td_buf_init(&weights->header, FILE_BYTES_MAX);
    td_buf_init(&weights->data, FILE_BYTES_MAX);
    weights->count = 0;
}

static void add(struct hf_weights *weights, const char *name, const char *dtype, const char *shape,
                const void *data, size_t bytes)
{
    char text[512];
    int length = snprintf(text, sizeof text,
                          "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                          weights->count > 0 ? "," : "{", name, dtype, shape, weights->data.length,
                          weights->data.length + bytes);

    assert_in_range(length, 1, sizeof text - 1);
    td_buf_append(&weights->header, text, (size_t)length);
    td_buf_append(&weights->data, data, bytes);
    weights->count++;
}

void hf_weights_add(struct hf_weights *weights, const char *name, const char *dtype, uint64_t rows,
                    uint64_t columns, const void *data, size_t bytes)
{
    char shape[64];

    if (rows > 0)
        snprintf(shape, sizeof shape, "%llu,%llu", (unsigned long long)rows,
                 (unsigned long long)columns);
    else
        snprintf(shape, sizeof shape, "%llu", (unsigned long long)columns);
    add(weights, name, dtype, shape, data, bytes);
}

void hf_weights_add_copy(struct hf_weights *weights, const char *name,
                         const struct model_safetensors_tensor *tensor)
{
    assert_in_range(tensor->rank, 1, 2);
    hf_weights_add(weights, name, tensor->dtype, tensor->rank == 2 ? tensor->dims[0] : 0,
                   tensor->dims[tensor->rank - 1], tensor->data, tensor->bytes);
}

void hf_weights_finish(struct hf_weights *weights, const struct hf_build *build, const char *name,
                       size_t misalignment)
{
    struct td_buf file;
    uint64_t length;

    td_buf_append(&weights->header, weights->count > 0 ? "}" : "{}", weights->count > 0 ? 1 : 2);
    while ((8 + weights->header.length) % 64 != misalignment)
        td_buf_append(&weights->header, " ", 1);
    length = weights->header.length;
    td_buf_init(&file, FILE_BYTES_MAX);
    td_buf_append(&file, &length, sizeof length);
    td_buf_append(&file, weights->header.data, weights->header.length);
    td_buf_append(&file, weights->data.data, weights->data.length);
    assert_int_equal(file.status, TD_OK);
    hf_build_put(build, name, file.data, file.length);
    td_buf_fini(&file);
    td_buf_fini(&weights->header);
    td_buf_fini(&weights->data);
}
