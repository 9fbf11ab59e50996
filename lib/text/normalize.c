/*
 * normalize.c: NFC by segments, see normalize.h.
 *
 * A segment begins with an inert character and goes on to the next one. Nothing outside it takes part in
 * its normalisation: it is decomposed, its marks are put in order and composed by utf8proc's tables. The
 * order is made here, because utf8proc's own sorting is quadratic.
 */
#include "lib/text/normalize.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "lib/base/utf8.h"
#include "lib/text/unicode.h"

/* No character decomposes into more: U+1F82 and its like, of 3 bytes; of those of 2 bytes none into more than 3. */
#define DECOMPOSED_MAX 4

/* Room for what `bytes` bytes decompose into: never two characters a byte; and what is behind the last one. */
#define DECOMPOSED_ROOM(bytes) (2 * (size_t)(bytes) + DECOMPOSED_MAX)

#define NORMAL_OPTIONS (UTF8PROC_COMPOSE | UTF8PROC_STABLE)

/* Blocks without marks and without characters that NFC replaces: most text, known at a glance. */
static bool is_inert_block(uint32_t c)
{
    return c < 0x300 || (c >= 0x400 && c < 0x480) || (c >= 0x1E00 && c < 0x1F00) ||
           (c >= 0x3040 && c < 0x3099) || (c >= 0x30A0 && c < 0x3100) ||
           (c >= 0x3400 && c < 0xA000) || (c >= 0xAC00 && c < 0xD7A4) ||
           (c >= 0x1F000 && c < 0x20000);
}

static bool is_jamo_inside(uint32_t c)
{
    return c >= 0x1160 && c <= 0x11FF; /* vowels and finals join the syllable before them */
}

bool text_nfc_is_inert(uint32_t character)
{
    const utf8proc_property_t *property;

    if (is_inert_block(character))
        return true;
    property = utf8proc_get_property((utf8proc_int32_t)character);
    if (property->category == UTF8PROC_CATEGORY_MN || property->category == UTF8PROC_CATEGORY_MC ||
        property->category == UTF8PROC_CATEGORY_ME || property->combining_class != 0)
        return false;
    return !is_jamo_inside(character) &&
           (property->decomp_type != 0 || property->decomp_seqindex == UINT16_MAX);
}

/*
 * The end of the inert characters from `at`, and where the last of them begins: what follows may join it.
 * Nothing joins bytes that are no character.
 */
static size_t plain_end(const uint8_t *bytes, size_t at, size_t end, size_t *last_out)
{
    size_t last = at;

    while (at < end) {
        size_t length = 1;

        if (bytes[at] >= 0x80) {
            uint32_t character = text_utf8_decode(bytes + at, end - at, &length);

            if (character >= TEXT_UNFINISHED) {
                at += length;
                last = at;
                continue;
            }
            if (!text_nfc_is_inert(character))
                break;
        }
        last = at;
        at += length;
    }
    *last_out = last;
    return at;
}

bool text_nfc_is_plain(const char *bytes, size_t start, size_t end)
{
    size_t last;

    return plain_end((const uint8_t *)bytes, start, end, &last) == end;
}

/* ------------------------------------------------------------------------------------------- */
/* One segment */

static int combining_class(utf8proc_int32_t character)
{
    return utf8proc_get_property(character)->combining_class;
}

/* Sorts a row of marks, stable: by counting, since there are 255 classes. */
static void sort_marks(utf8proc_int32_t *row, utf8proc_int32_t *scratch, size_t count)
{
    size_t starts[257] = {0};

    for (size_t i = 0; i < count; i++)
        starts[combining_class(row[i]) + 1]++;
    for (size_t class = 1; class < 257; class ++)
        starts[class] += starts[class - 1];
    for (size_t i = 0; i < count; i++)
        scratch[starts[combining_class(row[i])]++] = row[i];
    memcpy(row, scratch, count * sizeof *row);
}

static bool is_sorted(const utf8proc_int32_t *row, size_t count)
{
    for (size_t i = 1; i < count; i++)
        if (combining_class(row[i - 1]) > combining_class(row[i]))
            return false;
    return true;
}

static void order_marks(utf8proc_int32_t *characters, utf8proc_int32_t *scratch, size_t count)
{
    for (size_t at = 0, end; at < count; at = end) {
        end = at + 1;
        if (combining_class(characters[at]) == 0)
            continue;
        while (end < count && combining_class(characters[end]) != 0)
            end++;
        if (!is_sorted(characters + at, end - at))
            sort_marks(characters + at, scratch, end - at);
    }
}

/* Decodes and decomposes into DECOMPOSED_ROOM(length). */
static size_t decompose(const uint8_t *bytes, size_t length, utf8proc_int32_t *out)
{
    size_t count = 0;

    for (size_t at = 0, taken; at < length; at += taken) {
        uint32_t character = text_utf8_decode(bytes + at, length - at, &taken);
        utf8proc_ssize_t made = utf8proc_decompose_char((utf8proc_int32_t)character, out + count,
                                                        DECOMPOSED_MAX, NORMAL_OPTIONS, NULL);

        if (made < 1 || made > DECOMPOSED_MAX) { /* not with utf8proc's tables */
            out[count] = (utf8proc_int32_t)character;
            made = 1;
        }
        count += (size_t)made;
    }
    return count;
}

static void append_characters(const utf8proc_int32_t *characters, size_t count, bool trusted,
                              struct text_prompt *out)
{
    char bytes[TD_UTF8_BYTES_MAX];

    for (size_t i = 0; i < count; i++)
        text_prompt_append(out, bytes, td_utf8_encode((uint32_t)characters[i], bytes), trusted);
}

/* Segments of ordinary text fit here; a longer one is allocated. */
#define SEGMENT_BYTES 64

/* A segment is whole characters of UTF-8. */
static void append_segment(const uint8_t *bytes, size_t length, bool trusted,
                           struct text_prompt *out)
{
    utf8proc_int32_t small[2 * DECOMPOSED_ROOM(SEGMENT_BYTES)];
    utf8proc_int32_t *characters = small;
    utf8proc_ssize_t count;

    if (length > SEGMENT_BYTES)
        characters = malloc(2 * DECOMPOSED_ROOM(length) * sizeof *characters);
    if (characters == NULL) {
        out->text.status = TD_NO_MEMORY;
        return;
    }
    count = (utf8proc_ssize_t)decompose(bytes, length, characters);
    order_marks(characters, characters + DECOMPOSED_ROOM(length), (size_t)count);
    count = utf8proc_normalize_utf32(characters, count, NORMAL_OPTIONS);
    append_characters(characters, count < 0 ? 0 : (size_t)count, trusted, out);
    if (characters != small)
        free(characters);
}

/* ------------------------------------------------------------------------------------------- */
/* Texts with runs */

void text_runs_append(const char *bytes, struct text_run_place from, size_t end,
                      struct text_prompt *out)
{
    while (from.at < end) {
        size_t next = from.run_end < end ? from.run_end : end;

        text_prompt_append(out, bytes + from.at, next - from.at, from.runs[from.run].trusted);
        text_run_place_move(&from, next);
    }
}

/* Moves over a segment; whether all of it is trusted. */
static bool pass_segment(struct text_run_place *place, size_t end)
{
    bool trusted = true;

    while (place->at < end) {
        trusted = trusted && place->runs[place->run].trusted;
        text_run_place_move(place, place->run_end < end ? place->run_end : end);
    }
    return trusted;
}

/* The end of the segment whose second character is at `at`: the next that is inert, or no character. */
static size_t segment_end(const uint8_t *bytes, size_t at, size_t end)
{
    while (at < end) {
        size_t length;
        uint32_t character = text_utf8_decode(bytes + at, end - at, &length);

        if (character >= TEXT_UNFINISHED || text_nfc_is_inert(character))
            break;
        at += length;
    }
    return at;
}

void text_nfc_append(const char *bytes, struct text_run_place from, size_t end,
                     struct text_prompt *out)
{
    const uint8_t *text = (const uint8_t *)bytes;

    while (from.at < end && out->text.status == TD_OK) {
        size_t last;
        size_t stop = plain_end(text, from.at, end, &last);

        if (stop == end)
            last = end;
        text_runs_append(bytes, from, last, out);
        text_run_place_move(&from, last);
        if (last < end) {
            stop = segment_end(text, stop, end);
            append_segment(text + last, stop - last, pass_segment(&from, stop), out);
        }
    }
}
