/* hf_folder.c: the files of a folder put together, and what else a folder may be; see hf_folder.h. */
#include "model/hf_folder.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/hash.h"
#include "model/generation_config.h"
#include "model/hf_config.h"
#include "model/hf_weights.h"
#include "model/map.h"
#include "model/model.h"
#include "model/show.h"
#include "model/tokenizer_json.h"

#define CONFIG     "config.json"
#define GENERATION "generation_config.json"
#define NAME_BYTES 128              /* of files that are named in messages */
#define HEAD       "lm_head.weight" /* as in architecture.c */

struct model_hf_folder {
    struct model_hf_weights *weights;
    struct model_tokenizer_json *tokenizer; /* NULL: weights only */
    struct td_u128 config_digest;
};

/* What opening a folder passes around. */
struct opening {
    const char *path;
    struct model *model;
    struct model_hf_config config;
    struct td_error *error;
};

void model_hf_folder_close(struct model_hf_folder *folder)
{
    if (folder == NULL)
        return;
    model_hf_weights_close(folder->weights);
    model_tokenizer_json_close(folder->tokenizer);
    free(folder);
}

struct td_u128 model_hf_folder_digest(const struct model_hf_folder *folder)
{
    return model_hf_weights_digest(folder->weights, folder->config_digest);
}

/* ------------------------------------------------------------------ what a folder is instead */

static bool ends_with(const char *name, const char *suffix)
{
    size_t length = strlen(name);
    size_t suffix_length = strlen(suffix);

    return length > suffix_length && strcmp(name + length - suffix_length, suffix) == 0;
}

/* The first name in alphabetical order that ends so; the order of a folder is no order. */
static bool find_file(const char *path, const char *suffix, char *name_out, size_t size)
{
    DIR *folder = opendir(path);
    const struct dirent *entry;
    bool is_found = false;

    if (folder == NULL)
        return false;
    while ((entry = readdir(folder)) != NULL) {
        if (!ends_with(entry->d_name, suffix) || strlen(entry->d_name) >= size)
            continue;
        if (!is_found || strcmp(entry->d_name, name_out) < 0)
            memcpy(name_out, entry->d_name, strlen(entry->d_name) + 1);
        is_found = true;
    }
    closedir(folder);
    return is_found;
}

/* Says what lies there instead of `missing`, and what to do with it. */
static td_status_t explain(const struct opening *opening, const char *missing)
{
    static const struct {
        const char *suffix;
        const char *advice;
    } others[] = {
        {".gguf", "name that file itself (of a split model any part)"},
        {".safetensors", "the original download has config.json and " MODEL_HF_SINGLE
                         " or " MODEL_HF_INDEX " beside each other"},
        {".bin", "weights in PyTorch's format are not read; convert them to safetensors or GGUF"},
        {".pth", "weights in PyTorch's format are not read; convert them to safetensors or GGUF"},
    };
    char name[NAME_BYTES];
    char shown[NAME_BYTES];

    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (find_file(opening->path, others[i].suffix, name, sizeof name))
            return td_fail(opening->error, TD_INVALID, "the folder has no %s, but %s: %s", missing,
                           model_show(td_span_of(name), shown, sizeof shown), others[i].advice);
    return td_fail(opening->error, TD_INVALID,
                   "the folder has no %s; a model is a .gguf file, or a folder with config.json, "
                   "tokenizer.json and *.safetensors",
                   missing);
}

/* ------------------------------------------------------------------ config.json */

static td_status_t read_config(struct opening *opening)
{
    char path[MODEL_HF_PATH_BYTES];
    struct model_map map = {0};
    td_status_t status = model_hf_path(opening->path, CONFIG, path, opening->error);

    if (status != TD_OK)
        return status;
    if (access(path, F_OK) != 0)
        return explain(opening, CONFIG);
    status = model_map_open(path, &map, opening->error);
    if (status != TD_OK)
        return status;
    status = model_hf_config_read(td_span_over((const char *)map.bytes, map.length),
                                  &opening->config, opening->error);
    if (status == TD_OK) /* its length is within a limit, then */
        opening->model->folder->config_digest = td_hash128(map.bytes, map.length);
    else
        td_fail_wrap(opening->error, CONFIG);
    model_map_close(&map);
    return status;
}

static td_status_t use_config(const struct opening *opening)
{
    const struct model_hf_config *config = &opening->config;
    struct model *model = opening->model;
    td_status_t status;

    model->architecture = config->architecture;
    model->vocab = config->vocab;
    model->hidden = config->hidden;
    model->ffn = config->ffn;
    model->layers = config->layers;
    model->heads = config->heads;
    model->kv_heads = config->kv_heads;
    model->head_dim = config->head_dim;
    model->max_context = config->max_context;
    model->rms_epsilon = config->rms_epsilon;
    status = model_check_numbers(model, opening->error);
    if (status == TD_OK)
        status = model_rope_init(&config->rope, &model->rope, opening->error);
    if (status != TD_OK)
        td_fail_wrap(opening->error, CONFIG);
    return status;
}

/* ------------------------------------------------------------------ weights */

/* Where the embedding is the LM head, a copy of it in the file is not looked at. */
static bool find_tensor(void *context, const char *name, struct model_tensor *tensor_out)
{
    const struct opening *opening = context;
    struct model_hf_weights *weights = opening->model->folder->weights;

    return model_hf_weights_find(weights, name, tensor_out) &&
           !(opening->config.is_tied && strcmp(name, HEAD) == 0);
}

/* The two ways to say where the LM head is must agree. */
static td_status_t check_head(const struct opening *opening)
{
    const struct model *model = opening->model;
    const struct model_matrix *embedding = &model->embedding;
    struct model_tensor head = {0};
    bool has_head = model_hf_weights_find(model->folder->weights, HEAD, &head);

    if (!has_head && !opening->config.is_tied)
        return td_fail(opening->error, TD_INVALID,
                       "tensor " HEAD
                       " is missing, and 'tie_word_embeddings' of config.json is not true");
    if (!has_head || !opening->config.is_tied)
        return TD_OK;
    if (head.type != (uint32_t)embedding->type || head.dims[0] != embedding->columns ||
        head.dims[1] != embedding->rows || head.dims[2] != 1 || head.dims[3] != 1 ||
        memcmp(head.data, embedding->data, embedding->rows * embedding->row_bytes) != 0)
        return td_fail(opening->error, TD_INVALID,
                       "tensor " HEAD
                       " differs from the embedding, though 'tie_word_embeddings' of config.json "
                       "is true; which one holds?");
    return TD_OK;
}

static td_status_t read_weights(struct opening *opening)
{
    struct model *model = opening->model;
    const struct model_tensors tensors = {.has_hf_names = true,
                                          .find = find_tensor,
                                          .context = opening,
                                          .quantization = &opening->config.quantization};
    td_status_t status =
        model_hf_weights_open(opening->path, &model->folder->weights, opening->error);

    if (status == TD_NOT_FOUND)
        return explain(opening, "weights (" MODEL_HF_SINGLE " or " MODEL_HF_INDEX ")");
    if (status == TD_OK)
        status = model_take_tensors(model, &tensors, opening->error);
    if (status == TD_OK)
        status = check_head(opening);
    if (status == TD_OK)
        status = model_hf_weights_check_all_used(model->folder->weights, model->architecture,
                                                 opening->error);
    return status;
}

/* ------------------------------------------------------------------ text */

static bool may_be_cut(const struct text_token *token)
{
    return token->type == TEXT_TOKEN_CONTROL || token->type == TEXT_TOKEN_USER_DEFINED ||
           token->type == TEXT_TOKEN_UNUSED;
}

/*
 * Some tokenizers name tokens that were added without a row in the embedding (padding, mostly). The
 * model can neither read nor write these: they are left out, unless ordinary text is made of them.
 */
static td_status_t cut_tokens(struct model *model, struct td_error *error)
{
    struct text_source *text = &model->text;
    uint32_t *const specials[] = {&text->bos, &text->eos, &text->eot, &text->eom, &text->unknown};

    if (text->token_count <= model->vocab)
        return TD_OK;
    for (uint32_t id = model->vocab; id < text->token_count; id++)
        if (!may_be_cut(&text->tokens[id]))
            return td_fail(error, TD_INVALID,
                           "tokenizer.json: token %" PRIu32 " where 'vocab_size' is %" PRIu32, id,
                           model->vocab);
    text->token_count = model->vocab;
    for (size_t i = 0; i < sizeof specials / sizeof specials[0]; i++)
        if (*specials[i] != TEXT_TOKEN_NONE && *specials[i] >= model->vocab)
            *specials[i] = TEXT_TOKEN_NONE;
    return text_source_check(text, error);
}

static td_status_t read_generation(struct opening *opening)
{
    struct model_generation_config config = {0};
    char path[MODEL_HF_PATH_BYTES];
    struct model_map map = {0};
    td_status_t status = model_hf_path(opening->path, GENERATION, path, opening->error);

    if (status != TD_OK || access(path, F_OK) != 0)
        return status;
    status = model_map_open(path, &map, opening->error);
    if (status != TD_OK)
        return status;
    status = model_generation_config_read(td_span_over((const char *)map.bytes, map.length),
                                          &config, opening->error);
    if (status == TD_OK)
        status = model_generation_config_apply(&config, &opening->model->text, opening->error);
    if (status != TD_OK)
        td_fail_wrap(opening->error, GENERATION);
    model_map_close(&map);
    return status;
}

static td_status_t read_text(struct opening *opening)
{
    struct model *model = opening->model;
    td_status_t status =
        model_tokenizer_json_open(opening->path, &model->folder->tokenizer, opening->error);

    if (status == TD_NOT_FOUND)
        return TD_OK; /* weights only: for measurements and tests */
    if (status != TD_OK)
        return status;
    model->text = *model_tokenizer_json_source(model->folder->tokenizer);
    model->text.memory = NULL; /* stays the tokenizer's */
    status = cut_tokens(model, opening->error);
    if (status == TD_OK)
        status = model_add_stop_ids(&model->text, opening->config.end_ids,
                                    opening->config.end_id_count, opening->error);
    if (status == TD_OK)
        status = read_generation(opening);
    model->has_text = status == TD_OK;
    return status;
}

/* ------------------------------------------------------------------ the whole */

/* For people. A folder whose name cannot be found out is no reason to refuse a model. */
static void read_name(const char *path, struct model *model)
{
    char *real = realpath(path, NULL); /* "." has a name as well */
    char name[NAME_BYTES];

    model_name_of_path(real != NULL ? real : path, name, sizeof name);
    model_show(td_span_of(name), model->name, sizeof model->name);
    free(real);
}

static td_status_t read_all(struct opening *opening)
{
    struct model *model = opening->model;
    td_status_t status = read_config(opening);

    if (status == TD_OK)
        status = use_config(opening);
    if (status == TD_OK)
        status = read_weights(opening);
    if (status == TD_OK)
        status = read_text(opening);
    if (status == TD_OK)
        model->weights_digest = model_hf_folder_digest(model->folder);
    return status;
}

td_status_t model_hf_folder_open(const char *path, struct model *model, struct td_error *error)
{
    struct opening opening = {.path = path, .model = model, .error = error};

    model->folder = calloc(1, sizeof *model->folder);
    if (model->folder == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for a model");
    text_source_init(&model->text);
    read_name(path, model);
    return read_all(&opening);
}
