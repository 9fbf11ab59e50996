/* support.c: finding and reading test data. */
#include "tests/support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char path_text[1024];

static const char *path_if_readable(void)
{
    return access(path_text, R_OK) == 0 ? path_text : NULL;
}

const char *test_data_path(const char *name)
{
    snprintf(path_text, sizeof path_text, "tests/data/%s", name);
    return path_text;
}

const char *test_shared_path(const char *name)
{
    const char *folder = getenv("TANDEM_SHARED");

    snprintf(path_text, sizeof path_text, "%s/%s", folder != NULL ? folder : "../shared", name);
    return path_if_readable();
}

const char *test_cached_path(const char *name)
{
    const char *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");

    if (cache != NULL && cache[0] != '\0')
        snprintf(path_text, sizeof path_text, "%s/tandem/%s", cache, name);
    else
        snprintf(path_text, sizeof path_text, "%s/.cache/tandem/%s", home != NULL ? home : "/root",
                 name);
    return path_if_readable();
}

/* A file of the download cache, unless a variable of the environment names another. */
static const char *cached_model(const char *variable, const char *name)
{
    const char *file = getenv(variable);

    if (file == NULL)
        return test_cached_path(name);
    snprintf(path_text, sizeof path_text, "%s", file);
    return path_if_readable();
}

const char *test_demo_model(void)
{
    return cached_model("TANDEM_DEMO_MODEL", "models/SmolLM2-135M-Instruct.Q4_1.gguf");
}

const char *test_golden_model(void)
{
    return cached_model("TANDEM_GOLDEN_MODEL", "models/Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf");
}

char *test_read_file(const char *path, size_t *length_out)
{
    FILE *file = fopen(path, "rb");
    char *data = NULL;
    long length = -1;

    if (file == NULL)
        fail_msg("cannot open %s", path);
    if (fseek(file, 0, SEEK_END) != 0 || (length = ftell(file)) < 0)
        fail_msg("cannot measure %s", path);
    rewind(file);
    data = malloc((size_t)length + 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, (size_t)length, file), length);
    data[length] = '\0';
    fclose(file);
    *length_out = (size_t)length;
    return data;
}
