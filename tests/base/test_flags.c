/* test_flags.c: precedence, values, errors, help and documentation of flags. */
#include "lib/base/flags.h"
#include "lib/base/roff.h"
#include "tests/support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum transport { TRANSPORT_UCX, TRANSPORT_MAP, TRANSPORT_AUTO };

struct options {
    uint32_t port;
    int64_t seed;
    uint64_t body_bytes;
    uint64_t idle_ms;
    const char *model;
    struct td_flag_list schedulers;
    enum transport transport;
    bool insecure;
    bool cache;
};

static const char *const transports[] = {"ucx", "map", "auto", NULL};

static const struct td_flag serving[] = {
    {TD_FLAG_AS_UINT32(struct options, port), .name = "port", .value = "PORT", .fallback = "8000",
     .min = 1, .max = 65535, .help = "Port of the API."},
    {TD_FLAG_AS_BYTES(struct options, body_bytes), .name = "body-max", .fallback = "8MiB",
     .min = 1024, .max = 1 << 30, .help = "Largest body."},
    {TD_FLAG_AS_DURATION(struct options, idle_ms), .name = "idle-timeout", .fallback = "75s",
     .min = 1000, .max = 3600000, .help = "Idle connections are closed after this."},
    {TD_FLAG_AS_TEXT(struct options, model), .name = "model", .value = "PATH",
     .help = "Model file to serve."},
};
static const struct td_flag cluster[] = {
    {TD_FLAG_AS_LIST(struct options, schedulers), .name = "scheduler", .fallback = "a:1",
     .help = "Schedulers to use, with a help text that is long enough to need a second line in the "
             "terminal."},
    {TD_FLAG_AS_CHOICE(struct options, transport), .name = "kv-transport-of-this-worker",
     .fallback = "auto", .choices = transports, .help = "How KV travels."},
    {TD_FLAG_AS_BOOL(struct options, insecure), .name = "insecure", .help = "Allow plaintext."},
    {TD_FLAG_AS_BOOL(struct options, cache), .name = "cache", .fallback = "true",
     .help = "Use the cache."},
    {TD_FLAG_AS_INT64(struct options, seed), .name = "seed", .help = "Seed."},
};

static struct options options;
static const struct td_flag_table tables[] = {
    {"Serving", serving, sizeof serving / sizeof serving[0], &options},
    {"Cluster", cluster, sizeof cluster / sizeof cluster[0], &options},
};
static const struct td_flags flags = {
    .program = "tandem-test",
    .summary = "Tests flags.",
    .usage = "[flags] FILE",
    .examples = "  tandem-test --port 1\n",
    .tables = tables,
    .table_count = 2,
};

static struct td_arena arena;
static struct td_flags_result result;
static struct td_error error;

static int prepare(void **state)
{
    (void)state;
    td_arena_init(&arena, 1 << 16);
    return 0;
}

static int release(void **state)
{
    (void)state;
    td_arena_fini(&arena);
    return 0;
}

/* Parses up to four words. */
static td_status_t parse(const char *a, const char *b, const char *c, const char *d)
{
    static char copies[4][128];
    static char *words[4];
    const char *given[] = {a, b, c, d};
    size_t count = 0;

    for (; count < 4 && given[count] != NULL; count++) {
        snprintf(copies[count], sizeof copies[count], "%s", given[count]);
        words[count] = copies[count];
    }
    memset(&options, 0xee, sizeof options); /* every option must be set */
    memset(&error, 0, sizeof error);
    return td_flags_parse(&flags, &arena, (struct td_flag_list){words, count}, &result, &error);
}

static void assert_refused(const char *a, const char *b, const char *expected)
{
    assert_int_equal(parse(a, b, NULL, NULL), TD_INVALID);
    assert_string_equal(error.text, expected);
}

static void defaults_come_from_the_table(void **state)
{
    (void)state;
    assert_int_equal(parse(NULL, NULL, NULL, NULL), TD_OK);
    assert_int_equal(options.port, 8000);
    assert_int_equal(options.body_bytes, 8 << 20);
    assert_int_equal(options.idle_ms, 75000);
    assert_null(options.model);
    assert_int_equal(options.schedulers.count, 1);
    assert_string_equal(options.schedulers.items[0], "a:1");
    assert_int_equal(options.transport, TRANSPORT_AUTO);
    assert_false(options.insecure);
    assert_true(options.cache);
    assert_int_equal(options.seed, 0);
    assert_int_equal(result.positionals.count, 0);
}

static void both_forms_of_a_flag_and_positionals_work_in_any_order(void **state)
{
    (void)state;
    assert_int_equal(parse("--port", "1", "file", "--seed=-5"), TD_OK);
    assert_int_equal(options.port, 1);
    assert_int_equal(options.seed, -5);
    assert_int_equal(result.positionals.count, 1);
    assert_string_equal(result.positionals.items[0], "file");
    assert_int_equal(parse("--seed", "-7", "--port=65535", "-"), TD_OK);
    assert_int_equal(options.seed, -7);
    assert_string_equal(result.positionals.items[0], "-");
    assert_int_equal(parse("--", "--port", "-x", NULL), TD_OK);
    assert_int_equal(result.positionals.count, 2);
    assert_string_equal(result.positionals.items[0], "--port");
    assert_int_equal(options.port, 8000);
    assert_int_equal(parse("--port=1", "--port=2", NULL, NULL), TD_OK); /* the last one wins */
    assert_int_equal(options.port, 2);
    assert_int_equal(parse("--model=", NULL, NULL, NULL), TD_OK);
    assert_string_equal(options.model, "");
}

static void switches_turn_on_and_off(void **state)
{
    (void)state;
    assert_int_equal(parse("--insecure", "--no-cache", NULL, NULL), TD_OK);
    assert_true(options.insecure);
    assert_false(options.cache);
    assert_int_equal(parse("--insecure=yes", "--cache=off", NULL, NULL), TD_OK);
    assert_true(options.insecure);
    assert_false(options.cache);
    assert_refused("--cache=maybe", NULL, "--cache: 'maybe' is not true or false");
    assert_refused("--no-cache=true", NULL, "--no-cache takes no value");
    assert_refused("--no-port", NULL, "unknown flag --no-port; 'tandem-test --help' lists all");
}

static void lists_grow_by_commas_and_repetition(void **state)
{
    (void)state;
    assert_int_equal(parse("--scheduler", "b:1,,c:2", "--scheduler=d:3", NULL), TD_OK);
    assert_int_equal(options.schedulers.count, 3);
    assert_string_equal(options.schedulers.items[0], "b:1");
    assert_string_equal(options.schedulers.items[1], "c:2");
    assert_string_equal(options.schedulers.items[2], "d:3");
    assert_int_equal(parse("--scheduler=", NULL, NULL, NULL), TD_OK);
    assert_int_equal(options.schedulers.count, 0);
}

static void sizes_and_durations_have_units(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } sizes[] = {{"1024", 1024},
                 {"64KiB", 65536},
                 {"64kib", 65536},
                 {"2Mi", 2 << 20},
                 {"1GiB", 1 << 30},
                 {"8MB", 8000000},
                 {"2048B", 2048},
                 {"1023", 0},
                 {"1073741825", 0},
                 {"1KiBs", 0},
                 {"-1KiB", 0},
                 {"1.5MiB", 0},
                 {"9223372036854775808", 0},
                 {"9999999999TiB", 0},
                 {" 2048", 0}};
    static const struct {
        const char *text;
        uint64_t ms;
    } times[] = {{"1s", 1000}, {"1000ms", 1000}, {"2m", 120000}, {"1h", 3600000}, {"999ms", 0},
                 {"61m", 0},   {"30", 0},        {"s", 0},       {"", 0},         {"0", 0}};

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_int_equal(parse("--body-max", sizes[i].text, NULL, NULL),
                         sizes[i].bytes != 0 ? TD_OK : TD_INVALID);
        if (sizes[i].bytes != 0)
            assert_int_equal(options.body_bytes, sizes[i].bytes);
    }
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        assert_int_equal(parse("--idle-timeout", times[i].text, NULL, NULL),
                         times[i].ms != 0 ? TD_OK : TD_INVALID);
        if (times[i].ms != 0)
            assert_int_equal(options.idle_ms, times[i].ms);
    }
}

static void bad_values_name_flag_and_range(void **state)
{
    (void)state;
    assert_refused("--port", "0", "--port: '0' is not an integer from 1 to 65535");
    assert_refused("--port", "65536", "--port: '65536' is not an integer from 1 to 65535");
    assert_refused("--port=8o", NULL, "--port: '8o' is not an integer from 1 to 65535");
    assert_refused("--port=", NULL, "--port: '' is not an integer from 1 to 65535");
    assert_refused("--port", NULL, "--port needs a value: --port PORT");
    assert_refused("--port", "--insecure", "--port needs a value: --port PORT");
    assert_refused("--body-max=1", NULL,
                   "--body-max: '1' is not a size from 1KiB to 1GiB (for example 64KiB or 2GiB)");
    assert_refused("--idle-timeout=5", NULL,
                   "--idle-timeout: '5' is not a duration from 1s to 1h (for example 250ms, 30s "
                   "or 5m)");
    assert_refused("--kv-transport-of-this-worker=tcp", NULL,
                   "--kv-transport-of-this-worker: 'tcp' is not one of ucx, map or auto");
    assert_refused("--seed=9223372036854775808", NULL,
                   "--seed: '9223372036854775808' is not an integer");
}

static void unknown_flags_suggest_the_nearest(void **state)
{
    (void)state;
    assert_refused("--prot=1", NULL, "unknown flag --prot; did you mean --port?");
    assert_refused("--schedulers", "x", "unknown flag --schedulers; did you mean --scheduler?");
    assert_refused("--zzz", NULL, "unknown flag --zzz; 'tandem-test --help' lists all");
    assert_refused("-p", NULL, "unknown flag -p; 'tandem-test --help' lists all");
    assert_refused("--=5", NULL, "unknown flag --; 'tandem-test --help' lists all");
    assert_refused("--a-name-that-is-much-longer-than-any-flag-of-any-program-could-ever-be=1",
                   NULL,
                   "unknown flag --a-name-that-is-much-longer-than-any-flag-of-any-program-coul; "
                   "'tandem-test --help' lists all");
}

static void a_flag_wins_over_the_environment_which_wins_over_the_default(void **state)
{
    (void)state;
    setenv("TANDEM_PORT", "1234", 1);
    setenv("TANDEM_IDLE_TIMEOUT", "2s", 1);
    setenv("TANDEM_SCHEDULER", "x:1,y:2", 1);
    setenv("TANDEM_CACHE", "0", 1);
    setenv("TANDEM_MODEL", "", 1); /* empty: as if it were not there */
    assert_int_equal(parse("--idle-timeout=3s", NULL, NULL, NULL), TD_OK);
    assert_int_equal(options.port, 1234);
    assert_int_equal(options.idle_ms, 3000);
    assert_int_equal(options.schedulers.count, 2);
    assert_string_equal(options.schedulers.items[1], "y:2");
    assert_false(options.cache);
    assert_null(options.model);
    assert_int_equal(parse("--scheduler=z:3", NULL, NULL, NULL), TD_OK);
    assert_int_equal(options.schedulers.count, 1); /* replaced, not appended */
    setenv("TANDEM_PORT", "99999", 1);
    assert_refused("--port=1", NULL, "TANDEM_PORT: '99999' is not an integer from 1 to 65535");
    unsetenv("TANDEM_PORT");
    unsetenv("TANDEM_IDLE_TIMEOUT");
    unsetenv("TANDEM_SCHEDULER");
    unsetenv("TANDEM_CACHE");
    unsetenv("TANDEM_MODEL");
}

static void help_and_version_end_the_parsing(void **state)
{
    (void)state;
    assert_int_equal(parse("--help", "--nonsense", NULL, NULL), TD_OK);
    assert_true(result.help);
    assert_int_equal(parse("--port=1", "-h", NULL, NULL), TD_OK);
    assert_true(result.help);
    assert_int_equal(parse("--version", NULL, NULL, NULL), TD_OK);
    assert_true(result.version);
    assert_false(result.help);
}

static void help_shows_groups_defaults_and_ranges(void **state)
{
    struct td_buf out;

    (void)state;
    td_buf_init(&out, 1 << 16);
    td_flags_print_help(&flags, &out);
    assert_int_equal(out.status, TD_OK);
    assert_non_null(strstr(out.data, "Usage: tandem-test [flags] FILE\n\nTests flags.\n\nServing:\n"
                                     "  --port PORT               Port of the API. (default 8000; "
                                     "1 to 65535)\n"));
    assert_non_null(strstr(out.data, "(default 75s; 1s to 1h)"));
    assert_non_null(strstr(out.data, "\nCluster:\n  --scheduler A,B,..."));
    assert_non_null(strstr(out.data, "  --kv-transport-of-this-worker WORD\n"
                                     "                            How KV travels. (default auto; "
                                     "ucx, map or auto)\n"));
    assert_non_null(strstr(out.data, "\nExamples:\n  tandem-test --port 1\n"));
    for (const char *line = out.data; line != NULL; line = strchr(line + 1, '\n'))
        assert_true(strcspn(line + 1, "\n") <= 96);
    td_buf_fini(&out);
}

static void a_program_without_words_and_flags_explains_none(void **state)
{
    const struct td_flags bare = {.program = "tandem version", .summary = "Says it.", .usage = ""};
    struct td_buf out;

    (void)state;
    td_buf_init(&out, 1 << 16);
    td_flags_print_help(&bare, &out);
    assert_non_null(strstr(out.data, "Usage: tandem version\n\nSays it.\n"));
    assert_null(strstr(out.data, "Values:"));
    td_buf_clear(&out);
    td_flags_print_man(&bare, "1", &out);
    assert_null(strstr(out.data, "OPTIONS"));
    assert_null(strstr(out.data, "VALUES"));
    td_buf_fini(&out);
}

static void expect_completion(const char *const *words, const char *expected)
{
    struct td_flag_list list = {(char *const *)(uintptr_t)words, 0};
    struct td_buf out;

    while (words[list.count] != NULL)
        list.count++;
    td_buf_init(&out, 1 << 16);
    assert_true(td_flags_answer(&flags, list, "1", &out));
    assert_string_equal(out.data, expected);
    td_buf_fini(&out);
}

#define COMPLETE(...) ((const char *const[]){"--complete", __VA_ARGS__, NULL})

static void a_half_typed_line_is_completed(void **state)
{
    struct td_buf out;

    (void)state;
    expect_completion(COMPLETE("--po"), "--port\tPort of the API\n:\n");
    expect_completion(COMPLETE("--no"), "--no-cache\tUse the cache\n:\n");
    expect_completion(COMPLETE("--kv-transport-of-this-worker", "m"), "map\t\n:\n");
    expect_completion(COMPLETE("--kv-transport-of-this-worker=m"),
                      "--kv-transport-of-this-worker=map\t\n:\n");
    expect_completion(COMPLETE("--kv-transport-of-this-worker", "=", "m"), "map\t\n:\n");
    expect_completion(COMPLETE("--insecure", "=", ""), "true\t\nfalse\t\n:\n");
    expect_completion(COMPLETE("--insecure="), "--insecure=true\t\n--insecure=false\t\n:\n");
    expect_completion(COMPLETE("--model", "x"), ":files\n");
    expect_completion(COMPLETE("--port", ""), ":\n");
    expect_completion(COMPLETE("--port=1", "--po"), ":\n"); /* was given */
    expect_completion(
        COMPLETE("--scheduler", "a", "--sc"),
        "--scheduler\tSchedulers to use, with a help text that is long enough to need a "
        "second\n:\n");
    expect_completion(COMPLETE("--", "--po"), ":files\n");
    expect_completion(COMPLETE("--unknown", ""), ":files\n");
    expect_completion(COMPLETE("--unknown=5"), ":\n");
    expect_completion(COMPLETE("file", ""), ":\n");
    expect_completion(COMPLETE("="), ":files\n");
    expect_completion((const char *const[]){"--complete", NULL}, ":files\n");
    td_buf_init(&out, 1 << 16);
    assert_false(td_flags_answer(&flags, (struct td_flag_list){0}, "1", &out));
    assert_int_equal(out.length, 0);
    td_buf_fini(&out);
}

static void a_man_page_is_escaped(void **state)
{
    struct td_buf out;

    (void)state;
    td_buf_init(&out, 1 << 16);
    td_flags_print_man(&flags, "1.2", &out);
    assert_int_equal(strncmp(out.data, ".TH TANDEM\\-TEST 1 \"\" \"Tandem 1.2\"", 34), 0);
    assert_non_null(strstr(out.data,
                           "\n.SH \"OPTIONS\"\n.SS \"Serving\"\n.TP\n.BI \"\\-\\-port\" \" PORT\"\n"
                           "Port of the API. Default: 8000. Allowed: 1 to 65535. "
                           "Environment: TANDEM_PORT.\n"));
    assert_non_null(
        strstr(out.data, "\n.SH \"EXAMPLES\"\n.nf\n  tandem\\-test \\-\\-port 1\n.fi\n"));
    td_buf_clear(&out);
    td_roff_text("a\\b `bold`\n.c\n\n'd", &out);
    assert_string_equal(out.data, "a\\eb \\fBbold\\fR .c\n.PP\n\\&'d\n");
    td_buf_clear(&out);
    td_roff_lines(".x\n'y\n", &out);
    assert_string_equal(out.data, ".nf\n\\&.x\n\\&'y\n.fi\n");
    td_buf_clear(&out);
    td_roff_section(1, "say \"x\"", &out);
    assert_string_equal(out.data, ".SH \"say \"\"x\"\"\"\n");
    td_buf_fini(&out);
}

static void documentation_is_a_table(void **state)
{
    struct td_buf out;

    (void)state;
    td_buf_init(&out, 1 << 16);
    td_flags_print_markdown(&tables[0], &out);
    assert_non_null(strstr(out.data,
                           "### Serving\n\n| flag | environment | default | range | meaning "
                           "|\n|---|---|---|---|---|\n| `--port` | `TANDEM_PORT` | `8000` "
                           "| 1 to 65535 | Port of the API. |\n"));
    assert_non_null(
        strstr(out.data, "| `--model` | `TANDEM_MODEL` |  |  | Model file to serve. |\n"));
    td_buf_fini(&out);
}

static void defaults_of_one_table_can_be_set_alone(void **state)
{
    (void)state;
    memset(&options, 0xee, sizeof options);
    td_flags_defaults(&tables[0]);
    assert_int_equal(options.port, 8000);
    assert_int_equal(options.body_bytes, 8 << 20);
    assert_null(options.model);
}

static void an_arena_without_room_is_an_error(void **state)
{
    struct td_arena small;

    (void)state;
    for (size_t bytes = 0; bytes <= 64; bytes += 16) { /* two tables, a list of one word */
        td_arena_init(&small, bytes);
        assert_int_equal(
            td_flags_parse(&flags, &small, (struct td_flag_list){NULL, 0}, &result, &error),
            bytes < 64 ? TD_LIMIT : TD_OK);
        td_arena_fini(&small);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_come_from_the_table),
        cmocka_unit_test(both_forms_of_a_flag_and_positionals_work_in_any_order),
        cmocka_unit_test(switches_turn_on_and_off),
        cmocka_unit_test(lists_grow_by_commas_and_repetition),
        cmocka_unit_test(sizes_and_durations_have_units),
        cmocka_unit_test(bad_values_name_flag_and_range),
        cmocka_unit_test(unknown_flags_suggest_the_nearest),
        cmocka_unit_test(a_flag_wins_over_the_environment_which_wins_over_the_default),
        cmocka_unit_test(help_and_version_end_the_parsing),
        cmocka_unit_test(help_shows_groups_defaults_and_ranges),
        cmocka_unit_test(a_program_without_words_and_flags_explains_none),
        cmocka_unit_test(a_half_typed_line_is_completed),
        cmocka_unit_test(a_man_page_is_escaped),
        cmocka_unit_test(documentation_is_a_table),
        cmocka_unit_test(defaults_of_one_table_can_be_set_alone),
        cmocka_unit_test(an_arena_without_room_is_an_error),
    };

    return cmocka_run_group_tests(tests, prepare, release);
}
