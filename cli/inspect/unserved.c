/*
 * unserved.c: as much as can be read of what is not served, see parts.h.
 *
 * Works with the readers below model_open, which know no architectures: keys and tensors of a GGUF
 * file, the names in a folder; and where even these refuse, with the first bytes.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/inspect/parts.h"
#include "lib/base/json.h"
#include "model/show.h"

#define CONFIG_BYTES_MAX ((size_t)1 << 20)
#define NODES_MAX        65536
#define NAMES_MAX        256
#define PATH_BYTES       4096

/* ---- GGUF ---- */

/* Scalars that every reader looks at; "%s" is the architecture. */
static const char *const number_keys[] = {
    "%s.block_count",          "%s.context_length",       "%s.embedding_length",
    "%s.feed_forward_length",  "%s.attention.head_count", "%s.attention.head_count_kv",
    "%s.attention.key_length", "%s.expert_count",         "%s.attention.sliding_window",
};

static const char *const text_keys[] = {
    "general.name",         "general.architecture", "general.size_label",   "general.license",
    "tokenizer.ggml.model", "tokenizer.ggml.pre",   "%s.rope.scaling.type",
};

/* A pattern with the architecture in it. */
static const char *key_of(const char *pattern, const char *architecture, char *out, size_t size)
{
    if (strncmp(pattern, "%s", 2) == 0)
        snprintf(out, size, "%s%s", architecture, pattern + 2);
    else
        snprintf(out, size, "%s", pattern);
    return out;
}

static void put_key_text(struct cli_sheet *sheet, const char *key, struct td_span text)
{
    struct td_buf line;

    td_buf_init(&line, 4096);
    cli_quote(&line, text, 200);
    if (sheet->is_json)
        td_json_put_span(&sheet->json, key, text);
    else if (line.status == TD_OK)
        cli_sheet_say(sheet, "", "%s = %s", key, line.data);
    td_buf_fini(&line);
}

static void put_keys(struct cli_sheet *sheet, const struct model_gguf *file)
{
    struct td_span text = {0};
    char architecture[64] = "llama";
    char key[160];
    uint32_t number;

    if (model_gguf_get_text(file, "general.architecture", &text, NULL) == TD_OK)
        model_show(text, architecture, sizeof architecture);
    cli_sheet_begin(sheet, "keys", "Keys");
    for (size_t i = 0; i < sizeof text_keys / sizeof text_keys[0]; i++)
        if (model_gguf_get_text(file, key_of(text_keys[i], architecture, key, sizeof key), &text,
                                NULL) == TD_OK)
            put_key_text(sheet, key, text);
    for (size_t i = 0; i < sizeof number_keys / sizeof number_keys[0]; i++)
        if (model_gguf_get_u32(file, key_of(number_keys[i], architecture, key, sizeof key), &number,
                               NULL) == TD_OK) {
            cli_sheet_count(sheet, key, NULL, number);
            cli_sheet_say(sheet, "", "%s = %" PRIu32, key, number);
        }
    cli_sheet_end(sheet);
}

static void put_gguf(struct cli_sheet *sheet, const struct model_gguf *file, bool lists_all)
{
    static struct inspect_tallies tallies;

    tallies = (struct inspect_tallies){.count = 0};
    inspect_each_of_gguf(file, inspect_tally, &tallies);
    put_keys(sheet, file);
    inspect_put_tallies(sheet, &tallies);
    if (lists_all) {
        cli_sheet_begin_list(sheet, "list");
        inspect_each_of_gguf(file, inspect_put_tensor, sheet);
        cli_sheet_end_list(sheet);
    }
    cli_sheet_end(sheet);
}

/* ---- folders ---- */

/* A whole small file, malloc memory; NULL: it cannot be read or is too large. */
static char *read_small(const char *path, size_t *length_out)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char *text = NULL;

    if (fd < 0)
        return NULL;
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
        (size_t)status.st_size <= CONFIG_BYTES_MAX)
        text = malloc((size_t)status.st_size + 1);
    if (text != NULL && read(fd, text, (size_t)status.st_size) != status.st_size) {
        free(text);
        text = NULL;
    }
    if (text != NULL)
        *length_out = (size_t)status.st_size;
    close(fd);
    return text;
}

static void put_config_field(struct cli_sheet *sheet, const struct td_json *config, const char *key)
{
    const struct td_json *value = td_json_find(config, key);

    if (value != NULL && value->kind == TD_JSON_ARRAY)
        value = value->items.first;
    if (value != NULL && value->kind == TD_JSON_STRING)
        put_key_text(sheet, key, value->string);
    else if (value != NULL && value->kind == TD_JSON_INTEGER) {
        if (sheet->is_json)
            td_json_put_int(&sheet->json, key, value->integer);
        cli_sheet_say(sheet, "", "%s = %" PRIi64, key, value->integer);
    }
}

static void put_config(struct cli_sheet *sheet, const char *folder)
{
    static const char *const keys[] = {"architectures",       "model_type",
                                       "torch_dtype",         "num_hidden_layers",
                                       "hidden_size",         "intermediate_size",
                                       "num_attention_heads", "num_key_value_heads",
                                       "vocab_size",          "max_position_embeddings"};
    const struct td_json_limits limits = {CONFIG_BYTES_MAX, NODES_MAX, TD_JSON_DEPTH_MAX};
    const struct td_json *config = NULL;
    struct td_arena arena;
    char path[PATH_BYTES];
    size_t length = 0;
    char *text;

    snprintf(path, sizeof path, "%s/config.json", folder);
    text = read_small(path, &length);
    td_arena_init(&arena, td_json_arena_bytes(&limits));
    cli_sheet_begin(sheet, "keys", "config.json");
    if (text == NULL)
        cli_sheet_say(sheet, "", "cannot be read; a model's folder has one");
    else if (td_json_parse(&arena, td_span_over(text, length), &limits, &config, NULL) != TD_OK ||
             config->kind != TD_JSON_OBJECT)
        cli_sheet_say(sheet, "", "is no JSON object");
    else
        for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
            put_config_field(sheet, config, keys[i]);
    cli_sheet_end(sheet);
    td_arena_fini(&arena);
    free(text);
}

static void put_entry(struct cli_sheet *sheet, const char *folder, const char *name)
{
    char path[PATH_BYTES];
    char bytes[CLI_AMOUNT_BYTES];
    struct stat status;

    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path ||
        stat(path, &status) != 0)
        return;
    if (sheet->is_json) {
        td_json_begin_object(&sheet->json, NULL);
        td_json_put_text(&sheet->json, "name", name);
        td_json_put_uint(&sheet->json, "bytes", (uint64_t)status.st_size);
        td_json_end(&sheet->json);
    }
    cli_sheet_say(sheet, "", "%.60s  %s", name,
                  S_ISDIR(status.st_mode) ? "(folder)"
                                          : cli_show_bytes((uint64_t)status.st_size, bytes));
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Names of a folder in order; at most NAMES_MAX, and none that begins with a dot. */
static size_t read_names(const char *path, char names[NAMES_MAX][NAME_MAX + 1])
{
    DIR *folder = opendir(path);
    const struct dirent *entry;
    size_t count = 0;

    while (folder != NULL && count < NAMES_MAX && (entry = readdir(folder)) != NULL)
        if (entry->d_name[0] != '.')
            snprintf(names[count++], NAME_MAX + 1, "%s", entry->d_name);
    if (folder != NULL)
        closedir(folder);
    qsort(names, count, sizeof names[0], compare_names);
    return count;
}

static void put_folder(struct cli_sheet *sheet, const char *path)
{
    static char names[NAMES_MAX][NAME_MAX + 1];
    size_t count = read_names(path, names);

    put_config(sheet, path);
    cli_sheet_begin(sheet, "folder", "Files");
    cli_sheet_begin_list(sheet, "files");
    for (size_t i = 0; i < count; i++)
        put_entry(sheet, path, names[i]);
    cli_sheet_end_list(sheet);
    cli_sheet_end(sheet);
}

/* ---- anything else ---- */

/* What the first bytes look like, and what to do; NULL: nothing that is known. */
static const char *guess(const char *bytes, size_t length)
{
    static const struct {
        const char *start;
        size_t at;
        const char *text;
    } guesses[] = {
        {"GGUF", 0, "a GGUF file that is cut off or damaged: fetch it again, compare its checksum"},
        {"ggjt", 0, "a GGML file from before GGUF: convert the model anew with llama.cpp"},
        {"version https://git-lfs", 0, "a pointer of git-lfs, not the file: run `git lfs pull`"},
        {"<!DOCTYPE", 0, "a web page: the address was that of a page about the file"},
        {"<html", 0, "a web page: the address was that of a page about the file"},
        {"PK\003\004", 0, "a ZIP file (PyTorch writes such): fetch safetensors or GGUF instead"},
        {"{\"", 8, "a safetensors file: name the folder that it lies in, with its config.json"},
        {"\037\213", 0, "a gzip file: unpack it"},
    };

    for (size_t i = 0; i < sizeof guesses / sizeof guesses[0]; i++) {
        size_t size = strlen(guesses[i].start);

        if (guesses[i].at + size <= length &&
            memcmp(bytes + guesses[i].at, guesses[i].start, size) == 0)
            return guesses[i].text;
    }
    return NULL;
}

static void put_bytes(struct cli_sheet *sheet, const char *path)
{
    char bytes[64];
    struct td_buf shown;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t length = fd >= 0 ? read(fd, bytes, sizeof bytes) : -1;
    const char *looks;

    if (fd >= 0)
        close(fd);
    if (length < 0)
        return;
    looks = guess(bytes, (size_t)length);
    td_buf_init(&shown, 4096);
    cli_quote(&shown, td_span_over(bytes, (size_t)length), 24);
    cli_sheet_begin(sheet, "bytes", "First bytes");
    cli_sheet_span(sheet, "start", "the file begins", td_span_over(shown.data, shown.length));
    if (looks != NULL)
        cli_sheet_text(sheet, "looks_like", "it looks like", looks);
    cli_sheet_end(sheet);
    td_buf_fini(&shown);
}

static void put_head(struct cli_sheet *sheet, const char *path, const char *why,
                     const struct stat *status)
{
    cli_sheet_begin(sheet, "model", "Model");
    cli_sheet_text(sheet, "path", "file", path);
    if (S_ISREG(status->st_mode))
        cli_sheet_bytes(sheet, "bytes", "size", (uint64_t)status->st_size);
    cli_sheet_yes(sheet, "is_served", NULL, false);
    cli_sheet_text(sheet, "why", "NOT SERVED", why);
    cli_sheet_end(sheet);
}

void inspect_put_unserved(struct cli_sheet *sheet, const char *path, const char *why,
                          const struct cli_inspect_options *options)
{
    struct model_gguf *file = NULL;
    struct stat status = {.st_mode = 0};

    if (stat(path, &status) != 0)
        status.st_mode = 0;
    put_head(sheet, path, why, &status);
    if (S_ISDIR(status.st_mode)) {
        put_folder(sheet, path);
    } else if (S_ISREG(status.st_mode) && model_gguf_open(path, &file, NULL) == TD_OK) {
        put_gguf(sheet, file, options->tensors);
        model_gguf_close(file);
    } else if (S_ISREG(status.st_mode)) {
        put_bytes(sheet, path);
    }
}
