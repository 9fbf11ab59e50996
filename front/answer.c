/* answer.c: see answer.h. */
#include "front/answer.h"

#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES_LIMIT ((size_t)64 << 20) /* of one answer; no model's context holds as much */
#define BODY_BYTES_LIMIT ((size_t)6 * TEXT_BYTES_LIMIT + 65536) /* every byte escaped */
#define LAST_BYTES       65536 /* the last events of a stream, which must not be lost to the limit */

static td_status_t init_stream(struct front_answer *answer, const struct api_options *options)
{
    answer->streams = options->stream;
    return options->stream ? api_stream_init(&answer->stream, &answer->api, options->include_usage)
                           : TD_OK;
}

td_status_t front_answer_init(struct front_answer *answer, const struct front_answer_config *config)
{
    const struct api_options *options = config->options;
    td_status_t status;

    *answer = (struct front_answer){.token_count = 0};
    status = text_stop_init(&answer->stop, options->stops, options->stop_count, NULL);
    if (status != TD_OK)
        return status;
    answer->model = strdup(config->model);
    if (answer->model == NULL)
        return TD_NO_MEMORY;
    answer->api = api_answer_of(config->surface, config->id, config->content_id,
                                td_span_of(answer->model), config->created);
    status = init_stream(answer, options);
    if (status != TD_OK) {
        free(answer->model);
        return status;
    }
    text_detokenizer_init(&answer->detokenizer, config->text);
    if (config->surface == API_COMPLETIONS)
        text_detokenizer_continue(&answer->detokenizer); /* the client puts it behind its prompt */
    td_buf_init(&answer->piece, TEXT_BYTES_LIMIT);
    td_buf_init(&answer->text, TEXT_BYTES_LIMIT);
    td_buf_init(&answer->out,
                options->stream ? config->backlog_bytes + LAST_BYTES : BODY_BYTES_LIMIT);
    return TD_OK;
}

void front_answer_fini(struct front_answer *answer)
{
    if (answer->streams)
        api_stream_fini(&answer->stream);
    td_buf_fini(&answer->piece);
    td_buf_fini(&answer->text);
    td_buf_fini(&answer->out);
    free(answer->model);
}

td_status_t front_answer_status(const struct front_answer *answer)
{
    if (answer->piece.status != TD_OK)
        return answer->piece.status;
    return answer->text.status != TD_OK ? answer->text.status : answer->out.status;
}

/* What is in piece goes on to text, up to a stop string. */
static bool pass_on(struct front_answer *answer)
{
    bool found =
        text_stop_push(&answer->stop, answer->piece.data, answer->piece.length, &answer->text);

    td_buf_clear(&answer->piece);
    return found;
}

static void begin_events(struct front_answer *answer)
{
    if (answer->begun)
        return;
    answer->begun = true;
    api_stream_begin(&answer->stream, &answer->out);
}

/* A stream's text leaves as an event; that of a whole answer stays. */
static void send_text(struct front_answer *answer)
{
    if (!answer->streams)
        return;
    begin_events(answer);
    if (answer->text.length > 0)
        api_stream_delta(&answer->stream, td_span_over(answer->text.data, answer->text.length),
                         &answer->out);
    if (answer->text.status == TD_OK)
        td_buf_clear(&answer->text);
}

bool front_answer_take(struct front_answer *answer, const uint32_t *tokens, uint32_t count)
{
    bool found = answer->stop.found;

    for (uint32_t i = 0; i < count && !found && front_answer_status(answer) == TD_OK; i++) {
        text_detokenizer_push(&answer->detokenizer, tokens[i], &answer->piece);
        answer->token_count++;
        if (answer->piece.length > 0 && answer->piece.status == TD_OK)
            found = pass_on(answer);
    }
    send_text(answer);
    return found;
}

void front_answer_finish(struct front_answer *answer, const struct api_end *end)
{
    if (!answer->stop.found) {
        text_detokenizer_finish(&answer->detokenizer, &answer->piece);
        if (answer->piece.length == 0 || !pass_on(answer))
            text_stop_finish(&answer->stop, &answer->text);
    }
    send_text(answer);
    if (answer->streams)
        api_stream_end(&answer->stream, end, &answer->out);
    else
        api_answer_write(&answer->api, td_span_over(answer->text.data, answer->text.length), end,
                         &answer->out);
}

void front_answer_break(struct front_answer *answer, const struct api_error *error)
{
    api_sse_error(error, &answer->out);
}
