/* report.c: see report.h. */
#include "cli/report.h"

#include "lib/base/json_write.h"

double cli_report_next_token_ms(const struct cli_answer *answer)
{
    if (answer->completion_tokens < 2)
        return 0.0;
    return answer->stages_ms[CLI_STAGE_decode] / (double)(answer->completion_tokens - 1);
}

bool cli_report_kv_crossed(const struct cli_answer *answer, const char **why_not_out)
{
    *why_not_out = NULL;
    if (!answer->has_trace)
        *why_not_out = "the answer says nothing about where its KV came from";
    else if (answer->fallback[0] != '\0')
        *why_not_out = answer->fallback;
    else if (answer->kv_bytes == 0)
        *why_not_out = "the decode worker computed the prompt itself";
    return *why_not_out == NULL;
}

static void print_stages(const struct cli_answer *answer, struct td_buf *out)
{
    static const struct {
        const char *label;
        const char *text;
    } stages[] = {
#define X(name, label, text) [CLI_STAGE_##name] = {label, text},
        CLI_STAGES_MAP(X)
#undef X
    };

    for (enum cli_stage stage = 0; stage < CLI_STAGE_decode; stage++)
        td_buf_printf(out, "  %-16s %9.2f ms   %s\n", stages[stage].label, answer->stages_ms[stage],
                      stages[stage].text);
    td_buf_printf(out, "  %-16s %9.2f ms   %.0f more, %.1f a second\n", "each next token",
                  cli_report_next_token_ms(answer),
                  answer->completion_tokens > 0 ? (double)answer->completion_tokens - 1 : 0.0,
                  cli_report_next_token_ms(answer) > 0 ? 1e3 / cli_report_next_token_ms(answer)
                                                       : 0.0);
}

static void print_kv(const struct cli_answer *answer, struct td_buf *out)
{
    double wire_ms = answer->stages_ms[CLI_STAGE_wire];
    const char *why_not;

    if (!cli_report_kv_crossed(answer, &why_not)) {
        td_buf_printf(out, "No KV crossed: %s.\n", why_not);
        return;
    }
    td_buf_printf(out, "KV that crossed: %llu bytes in %llu blocks by %s",
                  (unsigned long long)answer->kv_bytes, (unsigned long long)answer->remote_blocks,
                  answer->transport);
    if (wire_ms > 0)
        td_buf_printf(out, ", %.1f MB/s", (double)answer->kv_bytes / wire_ms / 1e3);
    td_buf_append_text(out, "\n");
}

void cli_report_print(const struct cli_answer *answer, struct td_buf *out)
{
    td_buf_printf(out, "%llu tokens in, %llu tokens out. Where the time went:\n",
                  (unsigned long long)answer->prompt_tokens,
                  (unsigned long long)answer->completion_tokens);
    if (answer->has_trace)
        print_stages(answer, out);
    print_kv(answer, out);
}

void cli_report_write_json(const struct cli_answer *answer, struct td_buf *out)
{
    struct td_json_writer writer = td_json_writer_to(out);

    td_json_begin_object(&writer, NULL);
    td_json_put_span(
        &writer, "text",
        td_span_over(answer->text.length > 0 ? answer->text.data : "", answer->text.length));
    td_json_put_uint(&writer, "prompt_tokens", answer->prompt_tokens);
    td_json_put_uint(&writer, "completion_tokens", answer->completion_tokens);
    td_json_put_uint(&writer, "kv_bytes", answer->kv_bytes);
    if (answer->transport[0] != '\0')
        td_json_put_text(&writer, "transport", answer->transport);
    else
        td_json_put_null(&writer, "transport");
    td_json_begin_object(&writer, "stages_ms");
    for (enum cli_stage stage = 0; stage < CLI_STAGE_COUNT; stage++)
        td_json_put_double(&writer, cli_stage_name(stage), answer->stages_ms[stage]);
    td_json_put_double(&writer, "next_token", cli_report_next_token_ms(answer));
    td_json_end(&writer);
    td_json_end(&writer);
}
