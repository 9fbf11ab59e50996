/* unicode.c: UTF-8 and character classes over utf8proc, see unicode.h. */
#include "lib/text/unicode.h"

#include <utf8proc.h>

/* Classes of ASCII, because nine characters in ten are: o other, l letter, n number, s space, r newline. */
#define o TEXT_CLASS_OTHER
#define l TEXT_CLASS_LETTER
#define n TEXT_CLASS_NUMBER
#define s TEXT_CLASS_SPACE
#define r TEXT_CLASS_NEWLINE
static const uint8_t ascii_class[128] = {
    o, o, o, o, o, o, o, o, o, s, r, s, s, r, o, o, o, o, o, o, o, o, o, o, o, o, o, o, o, o, o, o,
    s, o, o, o, o, o, o, o, o, o, o, o, o, o, o, o, n, n, n, n, n, n, n, n, n, n, o, o, o, o, o, o,
    o, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, o, o, o, o, o,
    o, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, l, o, o, o, o, o,
};
#undef o
#undef l
#undef n
#undef s
#undef r

/*
 * What a lead byte asks for: the length, and the range of the second byte (it excludes surrogates,
 * overlong forms and what lies past U+10FFFF; Unicode 15, table 3-7).
 */
struct lead {
    uint8_t length; /* 0: not a lead byte */
    uint8_t second_min;
    uint8_t second_max;
};

static struct lead lead_of(uint8_t byte)
{
    if (byte < 0xC2 || byte > 0xF4)
        return (struct lead){0, 0, 0};
    if (byte < 0xE0)
        return (struct lead){2, 0x80, 0xBF};
    if (byte < 0xF0)
        return (struct lead){3, byte == 0xE0 ? 0xA0 : 0x80, byte == 0xED ? 0x9F : 0xBF};
    return (struct lead){4, byte == 0xF0 ? 0x90 : 0x80, byte == 0xF4 ? 0x8F : 0xBF};
}

uint32_t text_utf8_decode(const uint8_t *bytes, size_t length, size_t *length_out)
{
    struct lead lead;
    uint32_t character;

    *length_out = 1;
    if (bytes[0] < 0x80)
        return bytes[0];
    lead = lead_of(bytes[0]);
    if (lead.length == 0)
        return TEXT_NOT_UTF8;
    character = bytes[0] & (0x7Fu >> lead.length);
    for (size_t i = 1; i < lead.length; i++) {
        uint8_t min = i == 1 ? lead.second_min : 0x80;
        uint8_t max = i == 1 ? lead.second_max : 0xBF;

        *length_out = i;
        if (i == length)
            return TEXT_UNFINISHED;
        if (bytes[i] < min || bytes[i] > max)
            return TEXT_NOT_UTF8;
        character = character << 6 | (bytes[i] & 0x3Fu);
    }
    *length_out = lead.length;
    return character;
}

static bool is_white_space(uint32_t character)
{
    switch (character) {
    case 0x09:
    case 0x0A:
    case 0x0B:
    case 0x0C:
    case 0x0D:
    case 0x20:
    case 0x85:
    case 0xA0:
    case 0x1680:
    case 0x2028:
    case 0x2029:
    case 0x202F:
    case 0x205F:
    case 0x3000: return true;
    default: return character >= 0x2000 && character <= 0x200A;
    }
}

static enum text_class class_of(uint32_t character)
{
    switch (utf8proc_category((utf8proc_int32_t)character)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return TEXT_CLASS_LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return TEXT_CLASS_NUMBER;
    default: return is_white_space(character) ? TEXT_CLASS_SPACE : TEXT_CLASS_OTHER;
    }
}

enum text_class text_class_at(const uint8_t *bytes, size_t length, size_t *length_out)
{
    uint32_t character;

    if (bytes[0] < 0x80) {
        *length_out = 1;
        return (enum text_class)ascii_class[bytes[0]];
    }
    character = text_utf8_decode(bytes, length, length_out);
    if (character >= TEXT_UNFINISHED) {
        *length_out = 1;
        return TEXT_CLASS_OTHER;
    }
    return class_of(character);
}

bool text_is_python_space(uint32_t character)
{
    return is_white_space(character) || (character >= 0x1C && character <= 0x1F);
}

bool text_is_printable(uint32_t character)
{
    switch (utf8proc_category((utf8proc_int32_t)character)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return false;
    case UTF8PROC_CATEGORY_ZS: return character == ' ';
    default: return true;
    }
}

/* Alphabetic, M, Nd, Pc and Join_Control (Unicode technical standard 18, annex C). */
bool text_is_word(uint32_t character)
{
    if (character >= TEXT_UNFINISHED)
        return false;
    switch (utf8proc_category((utf8proc_int32_t)character)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    case UTF8PROC_CATEGORY_SO: /* letters in circles and squares */
        return (character >= 0x24B6 && character <= 0x24E9) ||
               (character >= 0x1F130 && character <= 0x1F149) ||
               (character >= 0x1F150 && character <= 0x1F169) ||
               (character >= 0x1F170 && character <= 0x1F189);
    default: return character == 0x200C || character == 0x200D;
    }
}

uint32_t text_to_upper(uint32_t character)
{
    return (uint32_t)utf8proc_toupper((utf8proc_int32_t)character);
}

uint32_t text_to_lower(uint32_t character)
{
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)character);
}

const char *text_unicode_version(void)
{
    return utf8proc_unicode_version();
}
