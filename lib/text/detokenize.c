/* detokenize.c: ids to whole characters, see detokenize.h. */
#include "lib/text/detokenize.h"

#include <assert.h>
#include <string.h>

#include "lib/base/utf8.h"
#include "lib/text/unicode.h"

void text_detokenizer_init(struct text_detokenizer *detokenizer, const struct text_model *model)
{
    *detokenizer =
        (struct text_detokenizer){.model = model, .strip_space = text_model_strips_space(model)};
}

void text_detokenizer_continue(struct text_detokenizer *detokenizer)
{
    detokenizer->strip_space = false;
}

/* Appends the whole characters of bytes; what is unfinished at the end is held back instead. */
static void give_characters(struct text_detokenizer *detokenizer, const uint8_t *bytes,
                            size_t length, struct td_buf *out)
{
    size_t given = 0; /* bytes before this are in out */
    size_t taken;

    for (size_t at = 0; at < length; at += taken) {
        uint32_t character = text_utf8_decode(bytes + at, length - at, &taken);

        if (character < TEXT_UNFINISHED)
            continue;
        td_buf_append(out, bytes + given, at - given);
        given = at + taken;
        if (character == TEXT_NOT_UTF8) {
            td_buf_append_text(out, TD_UTF8_REPLACEMENT);
        } else {
            assert(taken < sizeof detokenizer->held);
            memcpy(detokenizer->held, bytes + at, taken);
            detokenizer->held_count = (uint8_t)taken;
        }
    }
    td_buf_append(out, bytes + given, length - given);
}

/*
 * Gives bytes one by one to the unfinished character until it is decided; returns how many of them
 * it took. A byte that cannot continue it is not taken.
 */
static size_t finish_held(struct text_detokenizer *detokenizer, const uint8_t *bytes, size_t length,
                          struct td_buf *out)
{
    uint8_t *held = detokenizer->held;
    size_t at = 0;

    while (detokenizer->held_count > 0 && at < length) {
        size_t taken;
        uint32_t character;

        held[detokenizer->held_count] = bytes[at];
        character = text_utf8_decode(held, (size_t)detokenizer->held_count + 1, &taken);
        if (character == TEXT_NOT_UTF8) {
            td_buf_append_text(out, TD_UTF8_REPLACEMENT);
            detokenizer->held_count = 0;
            break;
        }
        at++;
        detokenizer->held_count++;
        if (character != TEXT_UNFINISHED) {
            td_buf_append(out, held, detokenizer->held_count);
            detokenizer->held_count = 0;
        }
    }
    return at;
}

void text_detokenizer_push(struct text_detokenizer *detokenizer, uint32_t id, struct td_buf *out)
{
    struct td_span token;
    const uint8_t *bytes;
    size_t taken;

    if (text_model_is_hidden(detokenizer->model, id))
        return;
    token = text_model_token(detokenizer->model, id);
    if (detokenizer->strip_space && token.length > 0) {
        detokenizer->strip_space = false;
        if (token.bytes[0] == ' ')
            token = td_span_over(token.bytes + 1, token.length - 1);
    }
    bytes = (const uint8_t *)token.bytes;
    taken = finish_held(detokenizer, bytes, token.length, out);
    give_characters(detokenizer, bytes + taken, token.length - taken, out);
}

void text_detokenizer_finish(struct text_detokenizer *detokenizer, struct td_buf *out)
{
    if (detokenizer->held_count > 0)
        td_buf_append_text(out, TD_UTF8_REPLACEMENT);
    detokenizer->held_count = 0;
}
