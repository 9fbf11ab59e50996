/*
 * stream.c: events of a stream, see response.h.
 *
 * An event is written in pieces around the text: head, opening, escaped text, closing. The head
 * ends inside "choices", so it is text that a JSON writer would not give; the tests parse every event.
 */
#include "lib/api/render.h"

#define HEAD_BYTES_MAX 8192 /* a model's name of 512 bytes takes at most 3 KiB when escaped */

/* How one choice is written on each surface. */
struct words {
    const char *object;
    const char *opening; /* up to the text */
    const char *closing; /* from the text to the end of the event */
    const char *last;    /* the choice that ends the stream, up to finish_reason's value */
};

static const struct words chat_words = {
    .object = "chat.completion.chunk",
    .opening = "{\"index\":0,\"delta\":{\"content\":\"",
    .closing = "\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n",
    .last = "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"",
};
static const struct words completion_words = {
    .object = "text_completion",
    .opening = "{\"index\":0,\"text\":\"",
    .closing = "\",\"logprobs\":null,\"finish_reason\":null}]}\n\n",
    .last = "{\"index\":0,\"text\":\"\",\"logprobs\":null,\"finish_reason\":\"",
};

static const struct words *words_of(enum api_surface surface)
{
    return surface == API_CHAT ? &chat_words : &completion_words;
}

static void append_head(const struct api_stream *stream, struct td_buf *out)
{
    td_buf_append(out, stream->head.data, stream->head.length);
}

td_status_t api_stream_init(struct api_stream *stream, const struct api_answer *answer,
                            bool include_usage)
{
    struct td_buf head;
    struct td_json_writer w;
    size_t common_length;

    td_buf_init(&head, HEAD_BYTES_MAX);
    td_buf_append_text(&head, "data: ");
    w = td_json_writer_to(&head);
    td_json_begin_object(&w, NULL);
    api_render_head(&w, answer, words_of(answer->surface)->object);
    common_length = head.length;
    if (include_usage)
        td_json_put_null(&w, "usage"); /* the specification wants it in all events but the last */
    td_json_begin_array(&w, "choices");
    if (head.status != TD_OK) {
        td_status_t status = head.status;

        td_buf_fini(&head);
        return status;
    }
    *stream = (struct api_stream){.surface = answer->surface,
                                  .include_usage = include_usage,
                                  .head = head,
                                  .common_length = common_length};
    return TD_OK;
}

void api_stream_fini(struct api_stream *stream)
{
    td_buf_fini(&stream->head);
}

void api_stream_begin(const struct api_stream *stream, struct td_buf *out)
{
    if (stream->surface != API_CHAT)
        return;
    append_head(stream, out);
    td_buf_append_text(out, "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
                            "\"logprobs\":null,\"finish_reason\":null}]}\n\n");
}

void api_stream_delta(const struct api_stream *stream, struct td_span text, struct td_buf *out)
{
    const struct words *words = words_of(stream->surface);

    append_head(stream, out);
    td_buf_append_text(out, words->opening);
    td_json_write_escaped(out, text);
    td_buf_append_text(out, words->closing);
}

static void append_tandem(const struct api_end *end, struct td_buf *out)
{
    if (end->tandem.length == 0)
        return;
    td_buf_append_text(out, ",\"tandem\":");
    td_buf_append(out, end->tandem.bytes, end->tandem.length);
}

/* The event without choices. */
static void append_usage(const struct api_stream *stream, const struct api_end *end,
                         struct td_buf *out)
{
    struct td_json_writer w = td_json_writer_to(out);

    td_buf_append(out, stream->head.data, stream->common_length);
    td_buf_append_text(out, ",\"choices\":[],\"usage\":");
    api_render_usage(&w, NULL, &end->usage);
    append_tandem(end, out);
    td_buf_append_text(out, "}\n\n");
}

void api_stream_end(const struct api_stream *stream, const struct api_end *end, struct td_buf *out)
{
    append_head(stream, out);
    td_buf_append_text(out, words_of(stream->surface)->last);
    td_buf_append_text(out, api_finish_text(end->finish));
    td_buf_append_text(out, "\"}]");
    if (!stream->include_usage)
        append_tandem(end, out);
    td_buf_append_text(out, "}\n\n");
    if (stream->include_usage)
        append_usage(stream, end, out);
    td_buf_append_text(out, "data: [DONE]\n\n");
}

void api_sse_ping(struct td_buf *out)
{
    td_buf_append_text(out, ": ping\n\n");
}

void api_sse_error(const struct api_error *error, struct td_buf *out)
{
    td_buf_append_text(out, "data: ");
    api_error_write(error, out);
    td_buf_append_text(out, "\n\n");
}
