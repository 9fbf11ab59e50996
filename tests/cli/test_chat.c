/* test_chat.c: the parts of a chat that need neither server nor terminal. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/chat/advice.h"
#include "cli/chat/endpoint.h"
#include "cli/chat/history.h"
#include "cli/chat/models.h"
#include "cli/chat/words.h"
#include "cli/printable.h"
#include "tests/support/support.h"

/* ---- what is shown ---- */

static void check_printable(const char *bytes, size_t length, const char *expected)
{
    for (size_t split = 0; split <= length; split++) {
        struct cli_printable printable = {0};
        struct td_buf out;

        td_buf_init(&out, 4096);
        td_buf_append(&out, "", 0);
        cli_printable_feed(&printable, bytes, split, &out);
        cli_printable_feed(&printable, bytes + split, length - split, &out);
        cli_printable_end(&printable, &out);
        assert_string_equal(out.data, expected);
        td_buf_clear(&out);
        for (size_t i = 0; i < length; i++)
            cli_printable_feed(&printable, bytes + i, 1, &out);
        cli_printable_end(&printable, &out);
        assert_string_equal(out.data, expected);
        td_buf_fini(&out);
    }
}

static void nothing_reaches_the_terminal_that_steers_it(void **state)
{
    static const struct {
        const char *bytes;
        const char *shown;
    } cases[] = {
        {"plain \t text\n", "plain \t text\n"},
        {"Gr\xc3\xbc\xc3\x9f"
         "e \xf0\x9f\x8c\x8d",
         "Gr\xc3\xbc\xc3\x9f"
         "e \xf0\x9f\x8c\x8d"},
        {"\033[2J", "\xe2\x90\x9b[2J"},
        {"\033]0;title\a", "\xe2\x90\x9b]0;title\xe2\x90\x87"},
        {"a\rb\r\nc\r", "a\xe2\x90\x8d"
                        "b\nc\xe2\x90\x8d"},
        {"\r\r\n", "\xe2\x90\x8d\n"},
        {"\x7f\b", "\xe2\x90\xa1\xe2\x90\x88"},
        {"\xc2\x9b"
         "31m",
         "\xef\xbf\xbd"
         "31m"}, /* CSI in one character */
        {"a\xe2\x80\xae"
         "b\xe2\x81\xa6",
         "a\xef\xbf\xbd"
         "b\xef\xbf\xbd"}, /* turned-around text */
        {"\x9b"
         "31m\xff",
         "\xef\xbf\xbd"
         "31m\xef\xbf\xbd"},                      /* no UTF-8 */
        {"\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd"}, /* cut off */
        {"\xf0\x9f\x1b[m", "\xef\xbf\xbd\xef\xbf\xbd\xe2\x90\x9b[m"},
        {"", ""},
    };
    char line[8];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_printable(cases[i].bytes, strlen(cases[i].bytes), cases[i].shown);
    check_printable("\0x", 2, "\xe2\x90\x80x");
    assert_string_equal(cli_printable_line("a\nb\033\xc3\xbc\xc3\xbc", line, sizeof line),
                        "a b\xe2\x90\x9b");
}

/* ---- what is typed ---- */

static void check_line(const char *typed, enum chat_word word, const char *text)
{
    char line[128];
    struct chat_line result;

    snprintf(line, sizeof line, "%s", typed);
    result = chat_line_read(line);
    assert_int_equal(result.word, word);
    if (text != NULL)
        assert_string_equal(result.text, text);
}

static void a_line_is_a_message_or_a_command(void **state)
{
    size_t next = 0;

    (void)state;
    check_line("Why?\n", CHAT_MESSAGE, "Why?");
    check_line("  indented  \r\n", CHAT_MESSAGE, "  indented");
    check_line(" \t\n", CHAT_NOTHING, NULL);
    check_line("", CHAT_NOTHING, NULL);
    check_line("/quit\n", CHAT_QUIT, "");
    check_line("/system  Be brief. \n", CHAT_SYSTEM, "Be brief.");
    check_line("/set temperature 0.7", CHAT_SET, "temperature 0.7");
    check_line("//etc/passwd?", CHAT_MESSAGE, "/etc/passwd?");
    check_line("/etc/passwd?", CHAT_UNKNOWN, "etc/passwd?");
    check_line("/", CHAT_UNKNOWN, "");
    check_line("/Quit", CHAT_UNKNOWN, "Quit");
    assert_string_equal(chat_command_nearest("hlep"), "help");
    assert_null(chat_command_nearest("something"));
    assert_string_equal(chat_command_matching("s", 1, &next), "system");
    assert_string_equal(chat_command_matching("s", 1, &next), "set");
    assert_string_equal(chat_command_matching("s", 1, &next), "save");
    assert_string_equal(chat_command_matching("s", 1, &next), "stats");
    assert_null(chat_command_matching("s", 1, &next));
}

static void check_multi(const char *const *lines, const char *expected)
{
    struct chat_multi multi = {0};
    td_status_t status = TD_AGAIN;

    td_buf_init(&multi.text, 64);
    for (; *lines != NULL; lines++) {
        assert_int_equal(status, TD_AGAIN);
        status = chat_multi_add(&multi, *lines, strlen(*lines));
    }
    assert_int_equal(status, TD_OK);
    assert_false(multi.is_open);
    assert_string_equal(multi.text.data, expected);
    td_buf_fini(&multi.text);
}

static void a_message_may_have_several_lines(void **state)
{
    char much[80];
    struct chat_multi multi = {0};

    (void)state;
    check_multi((const char *const[]){"one", NULL}, "one");
    check_multi((const char *const[]){"\"\"\"", "a", "", "/quit", "\"\"\"", NULL}, "a\n\n/quit\n");
    check_multi((const char *const[]){"\"\"\"a", "b\"\"\"", NULL}, "a\nb");
    check_multi((const char *const[]){"\"\"\"all in one\"\"\"", NULL}, "all in one");
    check_multi((const char *const[]){"\"\"\"\"\"\"", NULL}, "");
    memset(much, 'x', sizeof much);
    td_buf_init(&multi.text, 64);
    chat_multi_open(&multi);
    assert_int_equal(chat_multi_add(&multi, much, sizeof much), TD_LIMIT);
    assert_false(multi.is_open);
    td_buf_fini(&multi.text);
}

/* ---- what is remembered ---- */

static void say(struct chat_history *history, enum chat_role role, const char *text)
{
    assert_int_equal(chat_history_add(history, role, text, strlen(text), NULL), TD_OK);
}

static void expect_json(const struct chat_history *history, const char *json)
{
    struct td_buf out;

    td_buf_init(&out, (size_t)1 << 20);
    chat_history_write(history, "m", false, &out);
    assert_string_equal(out.data, json);
    td_buf_fini(&out);
}

static void set(struct chat_history *history, const char *words, td_status_t status)
{
    struct td_error error = {0};

    assert_int_equal(chat_history_set(history, words, &error), status);
    assert_true(status == TD_OK || error.text[0] != '\0');
}

static void the_history_goes_forth_and_back(void **state)
{
    struct chat_history history;

    (void)state;
    chat_history_init(&history);
    expect_json(&history, "{\"model\":\"m\",\"messages\":[]}");
    assert_false(chat_history_undo(&history));
    assert_false(chat_history_retry(&history));
    say(&history, CHAT_USER, "lost");
    say(&history, CHAT_USER, "one"); /* the first was never answered */
    say(&history, CHAT_ASSISTANT, "1");
    say(&history, CHAT_USER, "t\"wo");
    assert_int_equal(chat_history_set_system(&history, "S", NULL), TD_OK);
    expect_json(&history, "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"S\"},"
                          "{\"role\":\"user\",\"content\":\"one\"},"
                          "{\"role\":\"assistant\",\"content\":\"1\"},"
                          "{\"role\":\"user\",\"content\":\"t\\\"wo\"}]}");
    assert_true(chat_history_undo(&history));
    assert_string_equal(chat_history_last_question(&history)->text, "one");
    assert_true(chat_history_retry(&history));
    assert_int_equal(history.count, 1);
    assert_int_equal(history.bytes, 3);
    chat_history_reset(&history);
    assert_int_equal(chat_history_set_system(&history, "", NULL), TD_OK);
    expect_json(&history, "{\"model\":\"m\",\"messages\":[]}");
    chat_history_fini(&history);
}

static void only_what_was_set_is_sent(void **state)
{
    struct chat_history history;

    (void)state;
    chat_history_init(&history);
    set(&history, "temperature 0.7", TD_OK);
    set(&history, "top_k=20", TD_OK);
    set(&history, "seed -1", TD_OK);
    set(&history, "stop a b", TD_OK);
    expect_json(&history, "{\"model\":\"m\",\"messages\":[],\"temperature\":0.7,\"top_k\":20,"
                          "\"seed\":-1,\"stop\":\"a b\"}");
    set(&history, "temperature 1", TD_OK);
    set(&history, "top_k default", TD_OK);
    set(&history, "stop default", TD_OK);
    expect_json(&history, "{\"model\":\"m\",\"messages\":[],\"temperature\":1.0,\"seed\":-1}");
    set(&history, "temperature", TD_INVALID);
    set(&history, "temperature warm", TD_INVALID);
    set(&history, "temperature 1e999", TD_INVALID);
    set(&history, "temperature \"1\"", TD_INVALID);
    set(&history, "seed 1.5", TD_INVALID);
    set(&history, "seed 1 2", TD_INVALID);
    set(&history, "warmth 1", TD_INVALID);
    set(&history, "", TD_INVALID);
    expect_json(&history, "{\"model\":\"m\",\"messages\":[],\"temperature\":1.0,\"seed\":-1}");
    chat_history_fini(&history);
}

static void a_saved_chat_is_the_same_when_it_is_loaded(void **state)
{
    char folder[] = "/tmp/tandem-chat-XXXXXX";
    char path[64];
    struct chat_history history;
    struct chat_history loaded;
    struct td_error error = {0};
    struct stat facts;

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/chat.json", folder);
    chat_history_init(&history);
    chat_history_init(&loaded);
    assert_int_equal(chat_history_set_system(&history, "S", NULL), TD_OK);
    say(&history, CHAT_USER, "a\n\033\xc3\xbc");
    say(&history, CHAT_ASSISTANT, "b");
    set(&history, "temperature 0.25", TD_OK);
    assert_int_equal(chat_history_save(&history, "m", path, false, &error), TD_OK);
    assert_int_equal(stat(path, &facts), 0);
    assert_int_equal(facts.st_mode & 0777, 0600);
    assert_int_equal(chat_history_save(&history, "m", path, false, &error), TD_STATE);
    assert_non_null(strstr(error.text, "chat.json"));
    assert_int_equal(chat_history_save(&history, "m", path, true, &error), TD_OK);
    assert_int_equal(chat_history_load(&loaded, path, &error), TD_OK);
    expect_json(&loaded, "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"S\"},"
                         "{\"role\":\"user\",\"content\":\"a\\n\\u001b\xc3\xbc\"},"
                         "{\"role\":\"assistant\",\"content\":\"b\"}],\"temperature\":0.25}");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(chat_history_load(&loaded, path, &error), TD_NOT_FOUND);
    assert_int_equal(chat_history_load(&loaded, folder, &error), TD_INVALID);
    assert_int_equal(rmdir(folder), 0); /* and no other file was left in it */
    assert_int_equal(chat_history_save(&history, "m", path, false, &error), TD_IO);
    assert_int_equal(loaded.count, 2);
    chat_history_fini(&history);
    chat_history_fini(&loaded);
}

static void what_is_no_chat_is_refused_and_changes_nothing(void **state)
{
    static const char *const texts[] = {
        "",
        "[]",
        "{}",
        "{\"messages\":5}",
        "{\"messages\":[5]}",
        "{\"messages\":[{\"role\":\"user\"}]}",
        "{\"messages\":[{\"role\":\"user\",\"content\":[]}]}",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"a\\u0000b\"}]}",
        "{\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]}",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"\"},{\"role\":\"system\"}]}",
        "{\"messages\":[],\"temperature\":\"hot\"}",
        "{\"messages\":[],\"seed\":1.5}",
        "{\"messages\":[],\"stop\":\"a\\u0000b\"}",
        "{\"messages\":[]",
    };
    struct chat_history history;

    (void)state;
    chat_history_init(&history);
    say(&history, CHAT_USER, "kept");
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct td_error error = {0};

        assert_int_equal(chat_history_read(&history, texts[i], strlen(texts[i]), &error),
                         TD_INVALID);
        assert_true(error.text[0] != '\0');
        assert_int_equal(history.count, 1);
    }
    chat_history_fini(&history);
}

static void a_chat_has_a_largest_size(void **state)
{
    struct chat_history history;
    struct td_error error = {0};
    char *text = calloc(1, CHAT_BYTES_MAX);

    (void)state;
    assert_non_null(text);
    memset(text, 'x', CHAT_BYTES_MAX);
    chat_history_init(&history);
    assert_int_equal(chat_history_add(&history, CHAT_USER, text, CHAT_BYTES_MAX, &error), TD_OK);
    assert_int_equal(chat_history_add(&history, CHAT_ASSISTANT, "y", 1, &error), TD_LIMIT);
    assert_int_equal(history.count, 1);
    chat_history_fini(&history);
    free(text);
}

/* ---- whom it talks to ---- */

static void check_url(const char *url, const char *base, bool is_local, bool is_encrypted)
{
    struct chat_endpoint endpoint;
    struct td_error error = {0};

    memset(&endpoint, 0, sizeof endpoint);
    assert_true(chat_endpoint_is_url(url));
    assert_int_equal(chat_endpoint_set(&endpoint, url, &error), TD_OK);
    assert_string_equal(endpoint.base, base);
    assert_int_equal(endpoint.is_local, is_local);
    assert_int_equal(endpoint.is_encrypted, is_encrypted);
}

static void urls_are_understood_as_people_write_them(void **state)
{
    static const char *const bad[] = {"http://",       "https:///v1",           "ftp://host",
                                      "http://a b",    "http://me:secret@host", "http://host?x=1",
                                      "http://host#x", "http://ho\033st",       ""};
    struct chat_endpoint endpoint = {0};
    struct td_error error = {0};

    (void)state;
    check_url("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1", true, false);
    check_url("http://localhost:8000/", "http://localhost:8000/v1", true, false);
    check_url("http://[::1]:8000/v1/", "http://[::1]:8000/v1", true, false);
    check_url("HTTPS://api.example.com/v1", "https://api.example.com/v1", false, true);
    check_url("https://host/openai/v2//", "https://host/openai/v2", false, true);
    check_url("node7:8000", "http://node7:8000/v1", false, false);
    check_url("http://127.evil.example", "http://127.evil.example/v1", false, false);
    check_url("http://localhost.evil.example", "http://localhost.evil.example/v1", false, false);
    assert_false(chat_endpoint_is_url("model.gguf"));
    assert_false(chat_endpoint_is_url("models/a:8"));
    assert_false(chat_endpoint_is_url("C:"));
    assert_false(chat_endpoint_is_url(":8000"));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        error.text[0] = '\0';
        assert_int_equal(chat_endpoint_set(&endpoint, bad[i], &error), TD_INVALID);
        assert_true(error.text[0] != '\0');
    }
}

static void write_file(const char *path, const char *text, size_t length)
{
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static void a_key_goes_only_where_it_was_meant_to_go(void **state)
{
    static const char *const bad[] = {"", "\n", "a b", "a\nb", "a\001"};
    struct chat_endpoint endpoint = {0};
    struct td_error error = {0};
    char path[] = "/tmp/tandem-key-XXXXXX";
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(setenv("OPENAI_API_KEY", "from-the-environment", 1), 0);
    assert_int_equal(chat_endpoint_set(&endpoint, "https://host", &error), TD_OK);
    assert_int_equal(chat_endpoint_set_key(&endpoint, NULL, &error), TD_OK);
    assert_string_equal(chat_endpoint_key(&endpoint), "from-the-environment");
    write_file(path, "from-a-file\r\n", 13);
    assert_int_equal(chat_endpoint_set_key(&endpoint, path, &error), TD_OK);
    assert_string_equal(chat_endpoint_key(&endpoint), "from-a-file");
    assert_int_equal(chat_endpoint_set(&endpoint, "http://other:80", &error), TD_OK);
    assert_int_equal(chat_endpoint_set_key(&endpoint, NULL, &error), TD_OK);
    assert_null(chat_endpoint_key(&endpoint));
    assert_int_equal(chat_endpoint_set_key(&endpoint, path, &error), TD_OK);
    assert_non_null(chat_endpoint_key(&endpoint));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        write_file(path, bad[i], strlen(bad[i]));
        assert_int_equal(chat_endpoint_set_key(&endpoint, path, &error), TD_INVALID);
        assert_null(chat_endpoint_key(&endpoint));
    }
    write_file(path, "a\0b", 3);
    assert_int_equal(chat_endpoint_set_key(&endpoint, path, &error), TD_INVALID);
    unlink(path);
    assert_int_equal(chat_endpoint_set_key(&endpoint, path, &error), TD_NOT_FOUND);
    unsetenv("OPENAI_API_KEY");
}

static void a_list_of_models_is_read(void **state)
{
    static const char good[] =
        "{\"object\":\"list\",\"data\":[{\"id\":\"a\"},{\"id\":5},7,{\"id\":\"\"},{\"id\":\"b\"}]}";
    static const char *const bad[] = {
        "", "[]", "{}", "{\"data\":5}", "{\"data\":[]}", "no", "{\"data\":[{\"id\":1}]}"};
    struct chat_models models;
    struct td_error error = {0};

    (void)state;
    assert_int_equal(chat_models_read(&models, good, strlen(good), &error), TD_OK);
    assert_int_equal(models.count, 2);
    assert_string_equal(models.names[0], "a");
    assert_string_equal(models.names[1], "b");
    chat_models_fini(&models);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_not_equal(chat_models_read(&models, bad[i], strlen(bad[i]), &error), TD_OK);
        chat_models_fini(&models);
    }
}

static void a_full_context_is_recognised_whoever_says_it(void **state)
{
    const struct chat_endpoint endpoint = {.is_local = true};
    struct cli_answer answer = {.status = 400, .code = "context_length_exceeded"};

    (void)state;
    assert_non_null(strstr(chat_advice_for_answer(&answer, &endpoint), "/reset"));
    answer = (struct cli_answer){.status = 400,
                                 .failure = "This model's maximum context length is 4096 tokens"};
    assert_non_null(strstr(chat_advice_for_answer(&answer, &endpoint), "/undo"));
    answer = (struct cli_answer){.status = 401};
    assert_non_null(strstr(chat_advice_for_answer(&answer, &endpoint), "--api-key-file"));
    for (int status = 0; status < 600; status++) {
        answer = (struct cli_answer){.status = status};
        assert_true(strlen(chat_advice_for_answer(&answer, &endpoint)) > 0);
        assert_true(strlen(chat_advice_for_models(TD_REFUSED, status, &endpoint)) > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_reaches_the_terminal_that_steers_it),
        cmocka_unit_test(a_line_is_a_message_or_a_command),
        cmocka_unit_test(a_message_may_have_several_lines),
        cmocka_unit_test(the_history_goes_forth_and_back),
        cmocka_unit_test(only_what_was_set_is_sent),
        cmocka_unit_test(a_saved_chat_is_the_same_when_it_is_loaded),
        cmocka_unit_test(what_is_no_chat_is_refused_and_changes_nothing),
        cmocka_unit_test(a_chat_has_a_largest_size),
        cmocka_unit_test(urls_are_understood_as_people_write_them),
        cmocka_unit_test(a_key_goes_only_where_it_was_meant_to_go),
        cmocka_unit_test(a_list_of_models_is_read),
        cmocka_unit_test(a_full_context_is_recognised_whoever_says_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
