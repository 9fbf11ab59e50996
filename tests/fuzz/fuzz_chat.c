/*
 * fuzz_chat.c: what a chat reads from outside. The first byte chooses: an answer's body, a saved chat, text for
 * the terminal, a list of models or a typed line. Splits do not matter, what was read can be written and read
 * again, and nothing shown steers a terminal.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cli/answer.h"
#include "cli/chat/history.h"
#include "cli/chat/models.h"
#include "cli/chat/words.h"
#include "cli/printable.h"

#define OUT_BYTES_MAX ((size_t)64 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_piece(void *ctx, enum cli_piece piece, const char *text, size_t length)
{
    (void)piece;
    assert(length > 0);
    td_buf_append(ctx, text, length);
}

static void read_answer(struct cli_answer_reader *reader, const char *bytes, size_t length,
                        size_t step, struct td_buf *pieces)
{
    td_buf_init(pieces, OUT_BYTES_MAX);
    cli_answer_init(reader, on_piece, pieces);
    cli_answer_head(reader, length % 5 == 0 ? 400 : 200,
                    length % 2 == 0 ? "text/event-stream" : "application/json");
    for (size_t at = 0; at < length; at += step)
        cli_answer_body(reader, bytes + at, length - at < step ? length - at : step);
    cli_answer_end(reader, TD_OK, "");
}

static void try_answer(const char *bytes, size_t length)
{
    struct cli_answer_reader whole;
    struct cli_answer_reader parts;
    struct td_buf pieces[2];

    read_answer(&whole, bytes, length, length + 1, &pieces[0]);
    read_answer(&parts, bytes, length, 1 + length % 7, &pieces[1]);
    assert(pieces[0].length == pieces[1].length);
    assert(pieces[0].length == 0 || memcmp(pieces[0].data, pieces[1].data, pieces[0].length) == 0);
    assert(strcmp(whole.answer.failure, parts.answer.failure) == 0);
    assert(whole.answer.is_complete == parts.answer.is_complete);
    cli_answer_fini(&whole);
    cli_answer_fini(&parts);
    td_buf_fini(&pieces[0]);
    td_buf_fini(&pieces[1]);
}

static void try_history(const char *bytes, size_t length)
{
    struct chat_history history;
    struct td_error error;
    struct td_buf first;
    struct td_buf second;

    chat_history_init(&history);
    td_buf_init(&first, OUT_BYTES_MAX);
    td_buf_init(&second, OUT_BYTES_MAX);
    if (chat_history_read(&history, bytes, length, &error) == TD_OK) {
        chat_history_write(&history, "m", false, &first);
        assert(first.status == TD_OK);
        assert(chat_history_read(&history, first.data, first.length, &error) == TD_OK);
        chat_history_write(&history, "m", false, &second);
        assert(strcmp(first.data, second.data) == 0);
        chat_history_print_settings(&history, &second);
        while (chat_history_undo(&history))
            continue;
        assert(history.bytes == 0);
    } else {
        assert(error.text[0] != '\0' && history.count == 0);
    }
    td_buf_fini(&first);
    td_buf_fini(&second);
    chat_history_fini(&history);
}

static void show(const char *bytes, size_t length, size_t step, struct td_buf *out)
{
    struct cli_printable printable = {0};

    td_buf_init(out, OUT_BYTES_MAX);
    for (size_t at = 0; at < length; at += step)
        cli_printable_feed(&printable, bytes + at, length - at < step ? length - at : step, out);
    cli_printable_end(&printable, out);
    assert(out->status == TD_OK);
}

static void try_printable(const char *bytes, size_t length)
{
    struct td_buf whole;
    struct td_buf parts;

    show(bytes, length, length + 1, &whole);
    show(bytes, length, 1 + length % 3, &parts);
    assert(whole.length == parts.length);
    assert(whole.length == 0 || memcmp(whole.data, parts.data, whole.length) == 0);
    assert(td_utf8_valid_prefix(whole.data, whole.length) == whole.length);
    for (size_t i = 0; i < whole.length; i++) {
        unsigned char c = (unsigned char)whole.data[i];

        assert((c >= 0x20 && c != 0x7f) || c == '\n' || c == '\t');
        assert(c != 0xc2 || (unsigned char)whole.data[i + 1] >= 0xa0); /* C1 */
    }
    td_buf_fini(&whole);
    td_buf_fini(&parts);
}

static void try_models(const char *bytes, size_t length)
{
    struct chat_models models;
    struct td_error error = {0};

    if (chat_models_read(&models, bytes, length, &error) == TD_OK)
        assert(models.count > 0 && models.count <= CHAT_MODELS_MAX);
    else
        assert(error.text[0] != '\0');
    chat_models_fini(&models);
}

static void try_line(const char *bytes, size_t length)
{
    char *line = malloc(length + 1);
    struct chat_line result;
    struct chat_history history;
    struct td_error error;

    assert(line != NULL);
    memcpy(line, bytes, length);
    line[length] = '\0';
    result = chat_line_read(line);
    assert(result.word < CHAT_WORD_COUNT);
    assert(result.text >= line && result.text <= line + length);
    chat_history_init(&history);
    (void)!chat_history_set(&history, result.text, &error);
    (void)chat_command_nearest(result.text);
    chat_history_fini(&history);
    free(line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const tries[])(const char *, size_t) = {try_answer, try_history, try_printable,
                                                          try_models, try_line};
    const char *bytes = (const char *)data;

    if (size > 0)
        tries[data[0] % 5](bytes + 1, size - 1);
    return 0;
}
