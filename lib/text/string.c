/* string.c: strings with provenance, see string.h. */
#include "lib/text/string.h"

#include <assert.h>
#include <string.h>

#include "lib/text/unicode.h"

static const struct text_string empty_string = {.bytes = ""};

const struct text_string *text_string_over(struct text_builder *builder, struct td_span bytes,
                                           bool trusted)
{
    struct text_run *run;
    struct text_string *string;

    if (bytes.length == 0)
        return &empty_string;
    if (bytes.length > TEXT_BYTES_MAX) {
        builder->status = TD_LIMIT;
        return &empty_string;
    }
    run = text_builder_alloc(builder, 1, sizeof *run);
    string = text_builder_alloc(builder, 1, sizeof *string);
    if (string == NULL)
        return &empty_string;
    *run = (struct text_run){(uint32_t)bytes.length, trusted};
    *string = (struct text_string){bytes.bytes, (uint32_t)bytes.length, 1, run};
    return string;
}

const struct text_string *text_string_copy(struct text_builder *builder, struct td_span bytes,
                                           bool trusted)
{
    char *copy = text_builder_alloc(builder, bytes.length, 1);

    if (copy == NULL)
        return &empty_string;
    if (bytes.length > 0)
        memcpy(copy, bytes.bytes, bytes.length);
    return text_string_over(builder, td_span_over(copy, bytes.length), trusted);
}

bool text_string_is_trusted(const struct text_string *string)
{
    return string->run_count == 0 || (string->run_count == 1 && string->runs[0].trusted);
}

const struct text_string *text_string_slice(struct text_builder *builder,
                                            const struct text_string *string, uint32_t start,
                                            uint32_t end)
{
    struct text_string *slice;
    struct text_run *runs;
    uint32_t count = 0;
    uint32_t at = 0;

    assert(start <= end && end <= string->length);
    if (start == end)
        return &empty_string;
    if (start == 0 && end == string->length)
        return string;
    slice = text_builder_alloc(builder, 1, sizeof *slice);
    runs = text_builder_alloc(builder, string->run_count, sizeof *runs);
    if (runs == NULL)
        return &empty_string;
    for (uint32_t i = 0; i < string->run_count; i++) {
        uint32_t run_end = at + string->runs[i].length;
        uint32_t from = at > start ? at : start;
        uint32_t to = run_end < end ? run_end : end;

        if (from < to)
            runs[count++] = (struct text_run){to - from, string->runs[i].trusted};
        at = run_end;
    }
    *slice = (struct text_string){string->bytes + start, end - start, count, runs};
    return slice;
}

/* Appends the runs of part behind runs[0..count), of which the last may grow; the new count. */
static uint32_t append_runs(struct text_run *runs, uint32_t count, const struct text_string *part)
{
    for (uint32_t i = 0; i < part->run_count; i++) {
        if (count > 0 && runs[count - 1].trusted == part->runs[i].trusted)
            runs[count - 1].length += part->runs[i].length;
        else
            runs[count++] = part->runs[i];
    }
    return count;
}

const struct text_string *text_string_join(struct text_builder *builder,
                                           const struct text_string *const *parts, uint32_t count)
{
    struct text_string *joined;
    struct text_run *runs;
    size_t length = 0;
    size_t run_count = 0;
    char *bytes;

    for (uint32_t i = 0; i < count; i++) {
        length += parts[i]->length; /* cannot overflow: 2^32 parts of 2^25 bytes */
        run_count += parts[i]->run_count;
    }
    if (length == 0)
        return &empty_string;
    if (length > TEXT_BYTES_MAX) {
        builder->status = TD_LIMIT;
        return &empty_string;
    }
    joined = text_builder_alloc(builder, 1, sizeof *joined);
    runs = text_builder_alloc(builder, run_count, sizeof *runs);
    bytes = text_builder_alloc(builder, length, 1);
    if (bytes == NULL)
        return &empty_string;
    *joined = (struct text_string){.bytes = bytes, .runs = runs};
    for (uint32_t i = 0; i < count; i++) {
        if (parts[i]->length > 0)
            memcpy(bytes + joined->length, parts[i]->bytes, parts[i]->length);
        joined->length += parts[i]->length;
        joined->run_count = append_runs(runs, joined->run_count, parts[i]);
    }
    return joined;
}

/* ------------------------------------------------------------------------------------------- */

uint32_t text_string_character_end(const struct text_string *string, uint32_t at)
{
    size_t taken;
    uint32_t character =
        text_utf8_decode((const uint8_t *)string->bytes + at, string->length - at, &taken);

    return at + (character < TEXT_UNFINISHED ? (uint32_t)taken : 1);
}

uint32_t text_string_characters(const struct text_string *string)
{
    uint32_t count = 0;

    for (uint32_t at = 0; at < string->length; at = text_string_character_end(string, at))
        count++;
    return count;
}

/* Where the last character of bytes [0, end) begins; end > 0. */
static uint32_t last_character(const struct text_string *string, uint32_t end)
{
    uint32_t at = end - 1;

    while (at > 0 && end - at < 4 && ((uint8_t)string->bytes[at] & 0xC0) == 0x80)
        at--;
    return text_string_character_end(string, at) == end ? at : end - 1;
}

uint32_t text_string_find(const struct text_string *string, struct td_span needle, uint32_t from)
{
    const char *found;

    if (needle.length == 0)
        return from;
    if (from >= string->length)
        return UINT32_MAX;
    found = memmem(string->bytes + from, string->length - from, needle.bytes, needle.length);
    return found == NULL ? UINT32_MAX : (uint32_t)(found - string->bytes);
}

/* Whether strip takes away the character at bytes [at, end). */
static bool is_stripped(const struct text_string *string, uint32_t at, uint32_t end,
                        const struct text_string *chars)
{
    size_t taken;
    uint32_t next;

    if (chars == NULL)
        return text_is_python_space(
            text_utf8_decode((const uint8_t *)string->bytes + at, end - at, &taken));
    for (uint32_t i = 0; i < chars->length; i = next) {
        next = text_string_character_end(chars, i);
        if (next - i == end - at && memcmp(chars->bytes + i, string->bytes + at, end - at) == 0)
            return true;
    }
    return false;
}

const struct text_string *text_string_strip(struct text_builder *builder,
                                            const struct text_string *string,
                                            const struct text_string *chars, bool left, bool right)
{
    uint32_t start = 0;
    uint32_t end = string->length;

    while (left && start < end) {
        uint32_t next = text_string_character_end(string, start);

        if (!is_stripped(string, start, next, chars))
            break;
        start = next;
    }
    while (right && end > start) {
        uint32_t last = last_character(string, end);

        if (!is_stripped(string, last, end, chars))
            break;
        end = last;
    }
    return text_string_slice(builder, string, start, end);
}
