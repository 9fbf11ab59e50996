/* test_utf8.c: every code point, and every way to get it wrong. */
#include "lib/base/utf8.h"
#include "tests/support/support.h"

#include <string.h>

static bool is_scalar(uint32_t code_point)
{
    return code_point < 0xd800 || (code_point > 0xdfff && code_point <= 0x10ffff);
}

/* What the definition says, bit by bit, without a table of ranges. */
static size_t reference_character(const unsigned char *bytes, size_t length)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t wanted = bytes[0] < 0x80             ? 1
                    : (bytes[0] & 0xe0) == 0xc0 ? 2
                    : (bytes[0] & 0xf0) == 0xe0 ? 3
                    : (bytes[0] & 0xf8) == 0xf0 ? 4
                                                : 0;
    uint32_t code_point;

    if (wanted < 2 || wanted > length)
        return wanted == 1 ? 1 : 0;
    code_point = bytes[0] & (0x7fU >> wanted);
    for (size_t i = 1; i < wanted; i++) {
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
        code_point = code_point << 6 | (bytes[i] & 0x3f);
    }
    return is_scalar(code_point) && code_point >= least[wanted] ? wanted : 0;
}

static void every_code_point_goes_there_and_back(void **state)
{
    (void)state;
    for (uint32_t code_point = 0; code_point <= 0x10ffff; code_point++) {
        char bytes[TD_UTF8_BYTES_MAX];
        size_t length;

        if (!is_scalar(code_point))
            continue;
        length = td_utf8_encode(code_point, bytes);
        if (td_utf8_character(bytes, length) != length ||
            td_utf8_character(bytes, length - 1) != 0 ||
            td_utf8_valid_prefix(bytes, length) != length)
            fail_msg("U+%04X", (unsigned)code_point);
    }
}

static void every_start_of_a_character_is_judged_like_the_definition(void **state)
{
    static const unsigned char tails[] = {0x00, 0x7f, 0x80, 0x8f, 0x90,
                                          0x9f, 0xa0, 0xbf, 0xc0, 0xff};
    const size_t count = sizeof tails;

    (void)state;
    for (unsigned first = 0; first < 256; first++)
        for (unsigned second = 0; second < 256; second++)
            for (size_t i = 0; i < count * count; i++) {
                unsigned char bytes[4] = {(unsigned char)first, (unsigned char)second,
                                          tails[i / count], tails[i % count]};

                for (size_t length = 1; length <= 4; length++)
                    if (td_utf8_character((const char *)bytes, length) !=
                        reference_character(bytes, length))
                        fail_msg("%02x %02x %02x %02x of %zu", bytes[0], bytes[1], bytes[2],
                                 bytes[3], length);
            }
}

static void the_valid_prefix_ends_at_the_first_bad_byte(void **state)
{
    char text[100];

    (void)state;
    assert_int_equal(td_utf8_character("", 0), 0);
    for (size_t bad = 0; bad < sizeof text; bad++) {
        memset(text, 'a', sizeof text);
        assert_int_equal(td_utf8_valid_prefix(text, sizeof text), sizeof text);
        text[bad] = (char)0xff;
        assert_int_equal(td_utf8_valid_prefix(text, sizeof text), bad);
    }
    assert_int_equal(td_utf8_valid_prefix("aaaaaaa\xe4\xb8\xad", 9), 7); /* cut off */
    assert_int_equal(td_utf8_valid_prefix("aaaaaaa\xe4\xb8\xad", 10), 10);
    assert_int_equal(td_utf8_valid_prefix(TD_UTF8_REPLACEMENT, 3), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_goes_there_and_back),
        cmocka_unit_test(every_start_of_a_character_is_judged_like_the_definition),
        cmocka_unit_test(the_valid_prefix_ends_at_the_first_bad_byte),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
