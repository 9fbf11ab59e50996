/* test_sheet.c: facts as text and as JSON: amounts, folding, and what files may not do to a terminal. */
#include "cli/sheet.h"

#include <string.h>

#include "tests/support/support.h"

static void counts_and_bytes_read_well(void **state)
{
    static const struct {
        uint64_t number;
        const char *count;
        const char *bytes;
    } cases[] = {
        {0, "0", "0 bytes"},
        {999, "999", "999 bytes"},
        {1000, "1,000", "1.0 kB"},
        {999949, "999,949", "999.9 kB"},
        {999950, "999,950", "1.0 MB"},
        {93000000, "93,000,000", "93.0 MB"},
        {UINT64_MAX, "18,446,744,073,709,551,615", "18.4 EB"},
    };
    char out[CLI_AMOUNT_BYTES];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_string_equal(cli_show_count(cases[i].number, out), cases[i].count);
        assert_string_equal(cli_show_bytes(cases[i].number, out), cases[i].bytes);
    }
}

static void assert_fold(const char *text, unsigned column, const char *expected)
{
    struct td_buf out;

    td_buf_init(&out, 4096);
    cli_fold(&out, td_span_of(text), column);
    assert_string_equal(out.data, expected);
    td_buf_fini(&out);
}

static void text_folds_between_words(void **state)
{
    (void)state;
    assert_fold("", 10, "\n");
    assert_fold("one two", 10, "one two\n");
    assert_fold("one two three", 71,
                "one two\n"
                "                                                              "
                "         three\n");
    assert_fold("a_word_that_is_too_long", 70, "a_word_that_is_too_long\n"); /* never cut */
    assert_fold("two  spaces", 0, "two  spaces\n");
    assert_fold("two\nlines\tand", 0, "two lines and\n");
    assert_fold("\xc3\xa4\xc3\xa4\xc3\xa4 b", 73,
                "\xc3\xa4\xc3\xa4\xc3\xa4 b\n"); /* characters count */
}

static void nothing_in_a_text_steers_the_terminal(void **state)
{
    (void)state;
    assert_fold("\x1b[2J\x7f", 0, "\xe2\x90\x9b[2J\xe2\x90\xa1\n");
    assert_fold("\xc2\x9bm", 0, "\xef\xbf\xbdm\n");                 /* the one-character CSI */
    assert_fold("\xe2\x80\xaegpj.exe", 0, "\xef\xbf\xbdgpj.exe\n"); /* right to left */
    assert_fold("\xff\xc3", 0, "\xef\xbf\xbd\xef\xbf\xbd\n");
}

static void assert_quote(const char *bytes, size_t length, size_t most, const char *expected)
{
    struct td_buf out;

    td_buf_init(&out, 4096);
    cli_quote(&out, td_span_over(bytes, length), most);
    assert_string_equal(out.data, expected);
    td_buf_fini(&out);
}

static void texts_of_files_are_quoted(void **state)
{
    (void)state;
    assert_quote("<|im_end|>", 10, 60, "\"<|im_end|>\"");
    assert_quote("a\"\n\x1b", 4, 60, "\"a\\\"\\n\\u001b\"");
    assert_quote("abcdef", 6, 3, "\"abc\"...");
    assert_quote("a\xc3\xa4z", 4, 2, "\"a\"..."); /* no half characters */
    assert_quote("", 0, 3, "\"\"");
}

static void fill(struct cli_sheet *sheet)
{
    cli_sheet_begin(sheet, "shape", "Shape");
    cli_sheet_count(sheet, "layers", "layers", 1024);
    cli_sheet_bytes(sheet, "bytes", NULL, 5);
    cli_sheet_yes(sheet, "tied", "tied", true);
    cli_sheet_say(sheet, "", "for %s", "people");
    cli_sheet_begin_list(sheet, "list");
    if (sheet->is_json)
        td_json_put_uint(&sheet->json, NULL, 1);
    cli_sheet_end_list(sheet);
    cli_sheet_end(sheet);
}

/* What a sheet prints. */
static void print(bool is_json, char *out, size_t size)
{
    FILE *file = tmpfile();
    struct cli_sheet sheet;
    size_t length;

    assert_non_null(file);
    cli_sheet_init(&sheet, is_json);
    fill(&sheet);
    assert_true(cli_sheet_print(&sheet, file));
    cli_sheet_fini(&sheet);
    rewind(file);
    length = fread(out, 1, size - 1, file);
    out[length] = '\0';
    fclose(file);
}

static void a_sheet_is_text_or_json(void **state)
{
    char out[1024];

    (void)state;
    print(false, out, sizeof out);
    assert_string_equal(out, "Shape\n"
                             "  layers               1,024\n"
                             "  tied                 yes\n"
                             "                       for people\n");
    print(true, out, sizeof out);
    assert_string_equal(out,
                        "{\"shape\":{\"layers\":1024,\"bytes\":5,\"tied\":true,\"list\":[1]}}\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_and_bytes_read_well),
        cmocka_unit_test(text_folds_between_words),
        cmocka_unit_test(nothing_in_a_text_steers_the_terminal),
        cmocka_unit_test(texts_of_files_are_quoted),
        cmocka_unit_test(a_sheet_is_text_or_json),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
