/* response.c: whole answers and the list of models, see response.h. */
#include "lib/api/response.h"

#include <stdio.h>

#include "lib/api/render.h"
#include "lib/base/json_write.h"

#define MODEL_OWNER "tandem"

struct api_answer api_answer_of(enum api_surface surface, struct td_u128 request,
                                struct td_u128 content_id, struct td_span model, int64_t created)
{
    struct api_answer answer = {.surface = surface, .created = created, .model = model};
    char hex[TD_U128_HEX_BYTES];

    snprintf(answer.id, sizeof answer.id, "%s-%s", surface == API_CHAT ? "chatcmpl" : "cmpl",
             td_u128_hex(request, hex));
    snprintf(answer.fingerprint, sizeof answer.fingerprint, "fp_%.16s",
             td_u128_hex(content_id, hex));
    return answer;
}

const char *api_finish_text(enum api_finish finish)
{
    return finish == API_FINISH_LENGTH ? "length" : "stop";
}

void api_render_head(struct td_json_writer *w, const struct api_answer *answer, const char *object)
{
    td_json_put_text(w, "id", answer->id);
    td_json_put_text(w, "object", object);
    td_json_put_int(w, "created", answer->created);
    td_json_put_span(w, "model", answer->model);
    td_json_put_text(w, "system_fingerprint", answer->fingerprint);
}

void api_render_usage(struct td_json_writer *w, const char *key, const struct api_usage *usage)
{
    td_json_begin_object(w, key);
    td_json_put_uint(w, "prompt_tokens", usage->prompt_tokens);
    td_json_put_uint(w, "completion_tokens", usage->completion_tokens);
    td_json_put_uint(w, "total_tokens", (uint64_t)usage->prompt_tokens + usage->completion_tokens);
    td_json_begin_object(w, "prompt_tokens_details");
    td_json_put_uint(w, "cached_tokens", usage->cached_tokens);
    td_json_end(w);
    td_json_end(w);
}

static void render_content(struct td_json_writer *w, enum api_surface surface, struct td_span text)
{
    if (surface == API_COMPLETIONS) {
        td_json_put_span(w, "text", text);
        return;
    }
    td_json_begin_object(w, "message");
    td_json_put_text(w, "role", "assistant");
    td_json_put_span(w, "content", text);
    td_json_put_null(w, "refusal");
    td_json_end(w);
}

void api_answer_write(const struct api_answer *answer, struct td_span text,
                      const struct api_end *end, struct td_buf *out)
{
    struct td_json_writer w = td_json_writer_to(out);

    td_json_begin_object(&w, NULL);
    api_render_head(&w, answer,
                    answer->surface == API_CHAT ? "chat.completion" : "text_completion");
    td_json_begin_array(&w, "choices");
    td_json_begin_object(&w, NULL);
    td_json_put_int(&w, "index", 0);
    render_content(&w, answer->surface, text);
    td_json_put_null(&w, "logprobs");
    td_json_put_text(&w, "finish_reason", api_finish_text(end->finish));
    td_json_end(&w);
    td_json_end(&w);
    api_render_usage(&w, "usage", &end->usage);
    if (end->tandem.length > 0)
        td_json_put_raw(&w, "tandem", end->tandem);
    td_json_end(&w);
}

static void put_model(struct td_json_writer *w, const struct api_model *model)
{
    td_json_begin_object(w, NULL);
    td_json_put_text(w, "id", model->id);
    td_json_put_text(w, "object", "model");
    td_json_put_int(w, "created", model->created);
    td_json_put_text(w, "owned_by", MODEL_OWNER);
    td_json_put_uint(w, "max_model_len", model->max_context);
    td_json_end(w);
}

void api_model_write(const struct api_model *model, struct td_buf *out)
{
    struct td_json_writer w = td_json_writer_to(out);

    put_model(&w, model);
}

void api_models_write(const struct api_model *models, size_t count, struct td_buf *out)
{
    struct td_json_writer w = td_json_writer_to(out);

    td_json_begin_object(&w, NULL);
    td_json_put_text(&w, "object", "list");
    td_json_begin_array(&w, "data");
    for (size_t i = 0; i < count; i++)
        put_model(&w, &models[i]);
    td_json_end(&w);
    td_json_end(&w);
}
