/* test_answer.c: token ids to text to bytes: the text depends on the ids alone, not on their division. */
#include <stdlib.h>
#include <string.h>

#include "front/answer.h"
#include "lib/base/random.h"
#include "tests/front/front_support.h"

struct rig {
    struct text_model *text;
    struct td_span stops[TEXT_STOPS_MAX];
    struct api_options options;
};

static int setup(void **state)
{
    struct rig *rig = calloc(1, sizeof *rig);

    rig->text = test_byte_model_open();
    rig->options.stops = rig->stops;
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;

    text_model_close(rig->text);
    free(rig);
    return 0;
}

static void open_answer(struct rig *rig, struct front_answer *answer, size_t backlog_bytes)
{
    const struct front_answer_config config = {.surface = API_CHAT,
                                               .id = {1, 2},
                                               .model = TEST_MODEL,
                                               .text = rig->text,
                                               .options = &rig->options,
                                               .created = 5,
                                               .backlog_bytes = backlog_bytes};

    assert_int_equal(front_answer_init(answer, &config), TD_OK);
}

/* The text of a whole answer to bytes, given in random pieces. */
static void check_whole(struct rig *rig, struct td_rng *rng, const char *bytes, const char *wanted,
                        uint32_t wanted_tokens)
{
    struct api_end end = {.finish = API_FINISH_STOP};
    struct front_answer answer;
    size_t length = strlen(bytes);
    uint32_t tokens[64];

    for (size_t i = 0; i < length; i++)
        tokens[i] = (unsigned char)bytes[i];
    open_answer(rig, &answer, 65536);
    for (size_t at = 0; at < length;) {
        size_t piece = 1 + td_rng_below(rng, length - at);

        front_answer_take(&answer, tokens + at, (uint32_t)piece);
        at += piece;
    }
    front_answer_finish(&answer, &end);
    assert_int_equal(front_answer_status(&answer), TD_OK);
    if (!td_span_is(td_span_over(answer.text.data, answer.text.length), wanted))
        fail_msg("expected \"%s\", got \"%.*s\"", wanted, (int)answer.text.length,
                 answer.text.data);
    assert_int_equal(answer.token_count, wanted_tokens);
    front_answer_fini(&answer);
}

static void the_division_into_calls_does_not_matter(void **state)
{
    static const struct {
        const char *bytes;
        const char *text;
        uint32_t tokens;
    } cases[] = {
        {"plain text", "plain text", 10},
        {"\xf0\x9f\x98\x80 and \xe2\x82\xac", "\xf0\x9f\x98\x80 and \xe2\x82\xac", 12},
        {"broken \xf0\x9f", "broken \xef\xbf\xbd", 9},
        {"before STOP behind", "before ", 11},
        {"STSTOP", "ST", 6},
        {"a \xc3\xa4!", "a ", 5},
        {"ends with STO", "ends with STO", 13},
        {"ends with \xc3", "ends with \xef\xbf\xbd", 11},
    };
    struct rig *rig = *state;
    struct td_rng rng;

    rig->stops[0] = td_span_of("STOP");
    rig->stops[1] = td_span_of("\xc3\xa4!");
    rig->options.stop_count = 2;
    td_rng_init(&rng, 7);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int round = 0; round < 200; round++)
            check_whole(rig, &rng, cases[i].bytes, cases[i].text, cases[i].tokens);
}

static void a_replacement_character_may_complete_a_stop_string(void **state)
{
    struct rig *rig = *state;
    struct td_rng rng;

    rig->stops[0] = td_span_of("\xef\xbf\xbd");
    rig->options.stop_count = 1;
    td_rng_init(&rng, 7);
    check_whole(rig, &rng, "cut \xc3", "cut ", 5);
}

static void a_stream_that_is_not_taken_stays_within_its_limit(void **state)
{
    struct rig *rig = *state;
    struct front_answer answer;
    uint32_t token = 'a';

    rig->options.stream = true;
    open_answer(rig, &answer, 10000);
    for (int i = 0; i < 100000 && front_answer_status(&answer) == TD_OK; i++)
        front_answer_take(&answer, &token, 1);
    assert_int_equal(front_answer_status(&answer), TD_LIMIT);
    assert_true(answer.out.length <= 10000 + 65536);
    front_answer_fini(&answer);
}

static void more_stop_strings_than_there_may_be_are_refused(void **state)
{
    struct rig *rig = *state;
    const struct td_span stops[TEXT_STOPS_MAX + 1] = {
        {"a", 1}, {"a", 1}, {"a", 1}, {"a", 1}, {"a", 1}};
    const struct api_options options = {.stops = stops, .stop_count = TEXT_STOPS_MAX + 1};
    const struct front_answer_config config = {
        .surface = API_CHAT, .model = TEST_MODEL, .text = rig->text, .options = &options};
    struct front_answer answer;

    assert_int_equal(front_answer_init(&answer, &config), TD_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_division_into_calls_does_not_matter, setup, teardown),
        cmocka_unit_test_setup_teardown(a_replacement_character_may_complete_a_stop_string, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_stream_that_is_not_taken_stays_within_its_limit, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(more_stop_strings_than_there_may_be_are_refused, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
