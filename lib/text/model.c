/* model.c: a tokenizer and its template as one object, see model.h. */
#include "lib/text/model.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/text/encode.h"

struct text_model {
    struct td_u128 id;
    struct text_encoder encoder;
    struct text_template *template; /* NULL: none */
    uint32_t bos;
    uint32_t eos;
    bool add_bos;
    bool add_eos;
    bool strip_space;
    uint32_t stop_ids[TEXT_STOP_IDS_MAX];
    uint32_t stop_id_count;
    struct text_generation generation;
};

/*
 * Special tokens that end an answer whatever the file's metadata says: many published files name
 * only one eos. The list is llama.cpp's. An ordinary token with such a text ends nothing.
 */
static const char *const stop_texts[] = {
    "<|eot_id|>",    "<|im_end|>",      "<|end|>",      "<|endoftext|>",
    "<|eom_id|>",    "<|end_of_text|>", "</s>",         "<end_of_turn>",
    "<|repo_name|>", "<|fim_pad|>",     "<|file_sep|>", "<EOT>",
};

/* ------------------------------------------------------------------------------------------- */
/* Opening */

/* Inserts an id in rising order, once. */
static td_status_t stop_id_add(struct text_model *model, uint32_t id)
{
    uint32_t place = 0;

    if (id == TEXT_TOKEN_NONE)
        return TD_OK;
    while (place < model->stop_id_count && model->stop_ids[place] < id)
        place++;
    if (place < model->stop_id_count && model->stop_ids[place] == id)
        return TD_OK;
    if (model->stop_id_count == TEXT_STOP_IDS_MAX)
        return TD_LIMIT;
    memmove(model->stop_ids + place + 1, model->stop_ids + place,
            (model->stop_id_count - place) * sizeof model->stop_ids[0]);
    model->stop_ids[place] = id;
    model->stop_id_count++;
    return TD_OK;
}

static td_status_t collect_stop_ids(struct text_model *model, const struct text_source *source,
                                    struct td_error *error)
{
    const uint32_t named[] = {source->eos, source->eot, source->eom};
    td_status_t status = TD_OK;

    for (size_t i = 0; i < sizeof named / sizeof named[0] && status == TD_OK; i++)
        status = stop_id_add(model, named[i]);
    for (uint32_t i = 0; i < source->stop_id_count && status == TD_OK; i++)
        status = stop_id_add(model, source->stop_ids[i]);
    for (size_t i = 0; i < sizeof stop_texts / sizeof stop_texts[0] && status == TD_OK; i++)
        status = stop_id_add(
            model, text_vocab_find_special(&model->encoder.vocab, td_span_of(stop_texts[i])));
    if (status != TD_OK)
        td_fail(error, status, "stop ids: more than %d", TEXT_STOP_IDS_MAX);
    return status;
}

static td_status_t compute_id(const struct text_source *source, struct td_u128 *id_out,
                              struct td_error *error)
{
    struct td_buf form;
    td_status_t status;

    td_buf_init(&form, TEXT_SOURCE_BYTES_MAX);
    status = text_source_encode(source, &form, error);
    if (status == TD_OK)
        *id_out = text_source_id(form.data, form.length);
    td_buf_fini(&form);
    return status;
}

static td_status_t open_template(struct text_model *model, const struct text_source *source,
                                 struct td_error *error)
{
    td_status_t status;

    if (source->chat_template.length == 0)
        return TD_OK;
    status = text_template_open(source->chat_template.bytes, source->chat_template.length,
                                &model->template, error);
    if (status != TD_OK)
        td_fail_wrap(error, "chat template");
    return status;
}

td_status_t text_model_open(const struct text_source *source, struct text_model **model_out,
                            struct td_error *error)
{
    struct text_model *model = calloc(1, sizeof *model);
    td_status_t status;

    if (model == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for a tokenizer");
    model->bos = source->bos;
    model->eos = source->eos;
    model->generation = source->generation;
    model->strip_space = source->strip_space;
    model->add_bos = source->add_bos && source->bos != TEXT_TOKEN_NONE;
    model->add_eos = source->add_eos && source->eos != TEXT_TOKEN_NONE;
    status = compute_id(source, &model->id, error);
    if (status == TD_OK)
        status = text_encoder_init(&model->encoder, source, error);
    if (status == TD_OK)
        status = collect_stop_ids(model, source, error);
    if (status == TD_OK)
        status = open_template(model, source, error);
    if (status != TD_OK) {
        text_model_close(model);
        return status;
    }
    *model_out = model;
    return TD_OK;
}

void text_model_close(struct text_model *model)
{
    if (model == NULL)
        return;
    text_template_close(model->template);
    text_encoder_fini(&model->encoder);
    free(model);
}

/* ------------------------------------------------------------------------------------------- */
/* Questions */

struct td_u128 text_model_id(const struct text_model *model)
{
    return model->id;
}

uint32_t text_model_token_count(const struct text_model *model)
{
    return model->encoder.vocab.count;
}

struct td_span text_model_token(const struct text_model *model, uint32_t id)
{
    if (id >= model->encoder.vocab.count)
        return td_span_over("", 0);
    return text_vocab_bytes(&model->encoder.vocab, id);
}

bool text_model_is_hidden(const struct text_model *model, uint32_t id)
{
    const struct text_vocab *vocab = &model->encoder.vocab;
    uint8_t type = id < vocab->count ? vocab->types[id] : TEXT_TOKEN_UNUSED;

    return type != TEXT_TOKEN_NORMAL && type != TEXT_TOKEN_USER_DEFINED &&
           (type != TEXT_TOKEN_BYTE || vocab->algorithm != TEXT_SENTENCEPIECE);
}

bool text_model_strips_space(const struct text_model *model)
{
    return model->strip_space;
}

uint32_t text_model_bos(const struct text_model *model)
{
    return model->bos;
}

uint32_t text_model_eos(const struct text_model *model)
{
    return model->eos;
}

const uint32_t *text_model_stop_ids(const struct text_model *model, uint32_t *count_out)
{
    *count_out = model->stop_id_count;
    return model->stop_ids;
}

const struct text_generation *text_model_generation(const struct text_model *model)
{
    return &model->generation;
}

/* ------------------------------------------------------------------------------------------- */
/* Encoding */

td_status_t text_encode(const struct text_model *model, const char *bytes, size_t length,
                        unsigned flags, struct text_tokens *tokens)
{
    struct text_run run = {(uint32_t)length, (flags & TEXT_PARSE_SPECIAL) != 0};
    bool add_special = (flags & TEXT_ADD_SPECIAL) != 0;

    if (length > TEXT_BYTES_MAX)
        return TD_LIMIT;
    if (add_special && model->add_bos)
        text_tokens_push(tokens, model->bos);
    if (text_encoder_run(&model->encoder, td_span_over(bytes, length), &run, 1, tokens) == TD_OK &&
        add_special && model->add_eos)
        text_tokens_push(tokens, model->eos);
    return tokens->status;
}

td_status_t text_encode_prompt(const struct text_model *model, const struct text_prompt *prompt,
                               struct text_tokens *tokens)
{
    struct td_span text = td_span_over(prompt->text.data, prompt->text.length);

    return text_encoder_run(&model->encoder, text, prompt->runs, prompt->run_count, tokens);
}

/* ------------------------------------------------------------------------------------------- */
/* Rendering */

static struct td_span special_text(const struct text_model *model, uint32_t id)
{
    return id == TEXT_TOKEN_NONE ? td_span_over("", 0)
                                 : text_vocab_bytes(&model->encoder.vocab, id);
}

bool text_model_names_developer(const struct text_model *model)
{
    return model->template != NULL && text_template_names_developer(model->template);
}

td_status_t text_render(const struct text_model *model, const struct text_render_input *input,
                        struct text_prompt *prompt, struct td_error *error)
{
    struct text_render_input complete = *input;

    if (model->template == NULL)
        return td_fail(error, TD_UNSUPPORTED, "the model has no chat template");
    complete.bos_token = special_text(model, model->bos);
    complete.eos_token = special_text(model, model->eos);
    return text_template_render(model->template, &complete, prompt, error);
}
