/* trace.c: see trace.h. */
#include "front/trace.h"

#include "lib/base/json_write.h"

static void put_ms(struct td_json_writer *w, const char *key, uint32_t us)
{
    td_json_put_double(w, key, us / 1e3);
}

static void put_stages(struct td_json_writer *w, const struct front_stages *stages)
{
    td_json_begin_object(w, "stages_ms");
    put_ms(w, "queue", stages->queue_us);
    put_ms(w, "tokenize", stages->tokenize_us);
    put_ms(w, "place", stages->place_us);
    put_ms(w, "wait", stages->wait_us);
    put_ms(w, "ask", stages->ask_us);
    put_ms(w, "prefill", stages->prefill_us);
    put_ms(w, "wire", stages->wire_us);
    put_ms(w, "land", stages->land_us);
    put_ms(w, "first_token", stages->first_token_us);
    put_ms(w, "decode", stages->decode_us);
    td_json_end(w);
}

static void put_text_or_null(struct td_json_writer *w, const char *key, const char *text)
{
    if (text[0] == '\0')
        td_json_put_null(w, key);
    else
        td_json_put_text(w, key, text);
}

static void put_kv(struct td_json_writer *w, const struct front_kv *kv)
{
    td_json_begin_object(w, "kv");
    td_json_put_uint(w, "bytes", kv->bytes);
    put_text_or_null(w, "transport", kv->transport);
    td_json_put_uint(w, "remote_blocks", kv->remote_blocks);
    td_json_put_uint(w, "cached_blocks", kv->cached_blocks);
    put_text_or_null(w, "fallback", kv->fallback);
    td_json_end(w);
}

void front_trace_write(const struct front_result *result, struct td_buf *out)
{
    struct td_json_writer w = td_json_writer_to(out);

    td_json_begin_object(&w, NULL);
    put_stages(&w, &result->stages);
    put_kv(&w, &result->kv);
    td_json_end(&w);
}
