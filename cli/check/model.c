/*
 * model.c: the file, its text, the memory it needs, and a few tokens, see parts.h.
 *
 * All in a probe, which fills rows of a table that it shares: a file that takes too much memory or
 * shrinks while it is read ends the probe, and not the check.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/check/parts.h"
#include "cli/check/selftest.h"
#include "cli/memory.h"
#include "cli/model_needs.h"
#include "cli/probe.h"
#include "cli/sheet.h"
#include "cli/template_look.h"
#include "engine/cuda/weights.h"
#include "lib/base/cpus.h"
#include "lib/base/log.h"
#include "lib/base/time.h"
#include "lib/text/detokenize.h"
#include "lib/text/model.h"
#include "model/map.h"

#define AREA        "model"
#define DEADLINE_MS 120000
#define TOKENS_MAX  4096
#define TEXT_BYTES  8192

/* Text that has broken tokenizers: marks that look special, joined emoji, both directions, all spaces. */
static const char nasty[] =
    "Hello, w\xc3\xb6rld! <|im_end|> </s> [INST] <0x0A> \xe2\x96\x81 1234567890 3.14159\r\n\t\t  "
    "x\n\n\n"
    "\xe4\xbd\xa0\xe5\xa5\xbd\xe4\xb8\x96\xe7\x95\x8c "
    "\xd8\xa7\xd9\x84\xd8\xb3\xd9\x84\xd8\xa7\xd9\x85 "
    "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa7 "
    "\xf0\x9f\x87\xa9\xf0\x9f\x87\xaa don't I'LL we're __init__(self, *args) {\"a\": [1, 2]} "
    "\xc2\xa0\xe2\x80\x83 e=mc\xc2\xb2 \xef\xbf\xbd \xf3\xa0\x81\xa7 end";

static const char prompt_text[] = "The keeper of the lighthouse wrote down wind and weather every "
                                  "hour, and once a day the height of the tide.";

struct work {
    const char *path;
    const struct cli_check_options *options;
    double gpu_bytes; /* with --gpu, its memory; 0: not known */
    struct check_table rows;
};

/* ---- file ---- */

static struct model *open_model(struct work *work)
{
    struct check_row *row = check_add(&work->rows, AREA, "file");
    struct model *model = NULL;
    struct td_error error = {0};
    uint64_t start_ns = td_now_ns();
    char hex[TD_U128_HEX_BYTES];
    double seconds;

    if (model_open(work->path, &model, &error) != TD_OK) {
        check_figure(row, "%s", error.text);
        check_mark(row, CHECK_PROBLEM, "tandem inspect %.200s shows what can be read of it",
                   work->path);
        return NULL;
    }
    seconds = (double)(td_now_ns() - start_ns) / 1e9;
    check_figure(row, "%s, %s, checked in %.2f s, digest %s", model->name,
                 model->architecture->gguf, seconds, td_u128_hex(model->weights_digest, hex));
    check_value(row, "seconds", seconds);
    return model;
}

/* ---- memory ---- */

static void look_at_memory(struct work *work, const struct model *model)
{
    const struct cli_cluster_options *cluster = &work->options->cluster;
    struct check_row *row = check_add(&work->rows, AREA, "memory");
    uint64_t workers = cluster->prefill + cluster->decode;
    uint64_t kv_bytes = cluster->kv_bytes != 0 ? cluster->kv_bytes : CLI_KV_BYTES;
    struct cli_memory memory = cli_memory_look("");
    uint64_t free_bytes = cli_memory_free(&memory);
    struct cli_model_needs needs;
    uint64_t needed;
    char weights[CLI_AMOUNT_BYTES];
    char each[CLI_AMOUNT_BYTES];
    char kv[CLI_AMOUNT_BYTES];
    char total[CLI_AMOUNT_BYTES];
    char left[CLI_AMOUNT_BYTES];

    cli_model_needs_of(model, (enum cpu_kv_dtype)cluster->kv_dtype, &needs);
    needed = needs.weights_bytes + workers * (needs.workspace_bytes + kv_bytes);
    check_figure(row,
                 "%s needed: weights %s, and for each of %" PRIu64 " workers %s and KV %s; %s "
                 "free",
                 cli_show_bytes(needed, total), cli_show_bytes(needs.weights_bytes, weights),
                 workers, cli_show_bytes(needs.workspace_bytes, each), cli_show_bytes(kv_bytes, kv),
                 cli_show_bytes(free_bytes, left));
    check_value(row, "needed_bytes", (double)needed);
    check_value(row, "free_bytes", (double)free_bytes);
    if (needs.weights_bytes + workers * needs.workspace_bytes > free_bytes)
        check_mark(row, CHECK_PROBLEM,
                   "it does not fit: a smaller file, fewer workers, or more "
                   "memory");
    else if (needed > free_bytes)
        check_mark(row, CHECK_PROBLEM, "less KV fits: --kv-bytes %" PRIu64 "MiB",
                   (free_bytes - needs.weights_bytes - workers * needs.workspace_bytes) / workers *
                           9 / 10 >>
                       20);
    else if (kv_bytes / needs.block_bytes * CLI_BLOCK_TOKENS < model->max_context)
        check_mark(row, CHECK_NOTE,
                   "the KV cache holds %" PRIu64 " tokens, fewer than the context of %" PRIu32
                   ": for the longest requests --kv-bytes %" PRIu64 "MiB",
                   kv_bytes / needs.block_bytes * CLI_BLOCK_TOKENS, model->max_context,
                   ((uint64_t)model->max_context / CLI_BLOCK_TOKENS + 1) * needs.block_bytes /
                           (1u << 20) +
                       1);
}

/* Workspace and recorded steps come on top, and are known when a worker has opened the GPU. */
static void judge_gpu_memory(struct work *work, struct check_row *row, double weights_bytes)
{
    const struct cli_cluster_options *cluster = &work->options->cluster;
    double needed = weights_bytes + (double)cluster->kv_bytes;
    double share = cli_cluster_gpu_fraction(cluster) * work->gpu_bytes;
    char weights[CLI_AMOUNT_BYTES];
    char kv[CLI_AMOUNT_BYTES];
    char each[CLI_AMOUNT_BYTES];

    cli_show_bytes(cluster->kv_bytes, kv);
    cli_show_bytes((uint64_t)share, each);
    check_figure(
        row, "each worker needs weights %s, workspace, and KV %s; its share of the GPU is %s",
        cli_show_bytes((uint64_t)weights_bytes, weights),
        cluster->kv_bytes != 0 ? kv : "of what is left", work->gpu_bytes > 0 ? each : "not known");
    check_value(row, "needed_bytes", needed);
    if (work->gpu_bytes <= 0)
        return; /* other rows say why */
    check_value(row, "share_bytes", share);
    if (needed >= share)
        check_mark(row, CHECK_PROBLEM,
                   "it does not fit: a smaller file, %s, or a larger --gpu-memory-fraction",
                   weights_bytes < share ? "less --kv-bytes" : "fewer workers");
}

static void look_at_gpu_memory(struct work *work, const struct model *model)
{
    struct check_row *row = check_add(&work->rows, AREA, "memory");
    struct td_error error = {0};
    size_t weights_bytes;

    if (cuda_weights_bytes(model, (enum cuda_weights_form)work->options->cluster.gpu_weights,
                           &weights_bytes, &error) == TD_OK) {
        judge_gpu_memory(work, row, (double)weights_bytes);
        return;
    }
    check_figure(row, "%s", error.text);
    check_mark(row, CHECK_PROBLEM, "another file, or leave --gpu out");
}

/* ---- text ---- */

/* What the ids say, as a client would see it. */
static void detokenize(const struct text_model *text, const struct text_tokens *tokens,
                       struct td_buf *out)
{
    struct text_detokenizer detokenizer;

    text_detokenizer_init(&detokenizer, text);
    for (uint32_t i = 0; i < tokens->count; i++)
        text_detokenizer_push(&detokenizer, tokens->ids[i], out);
    text_detokenizer_finish(&detokenizer, out);
}

/* SentencePiece writes spaces as U+2581, so that one in a text comes back as a space. */
static bool skip_mark(const char **text)
{
    static const char mark[] = "\xe2\x96\x81";

    if (strncmp(*text, mark, sizeof mark - 1) != 0)
        return false;
    *text += sizeof mark - 1;
    return true;
}

/* Whether text that was encoded comes back. */
static bool comes_back(const struct td_buf *out, enum text_algorithm algorithm)
{
    const char *came = out->data != NULL ? out->data : "";
    const char *sent = nasty;

    if (algorithm == TEXT_BYTE_LEVEL)
        return strcmp(came, sent) == 0;
    came += came[0] == ' '; /* put in front */
    while (*sent != '\0' && *came != '\0') {
        if (*came == ' ' && skip_mark(&sent))
            came++;
        else if (*came++ != *sent++)
            return false;
    }
    return *sent == *came;
}

static void judge_text(struct check_row *row, const struct model *model,
                       const struct text_model *text, const struct text_tokens *tokens)
{
    struct td_buf out;
    uint32_t hidden = 0;

    td_buf_init(&out, TEXT_BYTES);
    detokenize(text, tokens, &out);
    for (uint32_t i = 0; i < tokens->count; i++)
        hidden += text_model_is_hidden(text, tokens->ids[i]);
    check_figure(row, "%zu nasty bytes to %" PRIu32 " tokens and back", sizeof nasty - 1,
                 tokens->count);
    if (hidden > 0)
        check_mark(row, CHECK_PROBLEM,
                   "text of a user became %" PRIu32 " control tokens: report "
                   "it, and do not serve this file",
                   hidden);
    else if (tokens->dropped_bytes > 0)
        check_mark(row, CHECK_NOTE,
                   "the vocabulary has no tokens for %" PRIu32 " of the bytes: such text is lost",
                   tokens->dropped_bytes);
    else if (!comes_back(&out, model->text.algorithm))
        check_mark(row, CHECK_PROBLEM,
                   "the text that came back differs: the tokenizer of this file "
                   "is damaged, or not known well enough");
    td_buf_fini(&out);
}

static struct text_model *open_text(struct work *work, const struct model *model)
{
    struct check_row *row = check_add(&work->rows, AREA, "tokenizer");
    struct text_model *text = NULL;
    struct text_tokens tokens;
    struct td_error error = {0};

    if (!model->has_text)
        td_fail(&error, TD_UNSUPPORTED, "the file has none");
    if (!model->has_text || text_model_open(&model->text, &text, &error) != TD_OK) {
        check_figure(row, "%s", error.text);
        check_mark(row, CHECK_PROBLEM, "tandem inspect %.200s shows what can be read of it",
                   work->path);
        return NULL;
    }
    text_tokens_init(&tokens, TOKENS_MAX);
    if (text_encode(text, nasty, sizeof nasty - 1, 0, &tokens) == TD_OK)
        judge_text(row, model, text, &tokens);
    else
        check_mark(row, CHECK_PROBLEM, "it cannot encode a short text: %s",
                   td_status_text(tokens.status));
    text_tokens_fini(&tokens);
    return text;
}

static void look_at_template(struct work *work, const struct model *model,
                             const struct text_model *text)
{
    struct check_row *row = check_add(&work->rows, AREA, "chat template");
    struct cli_template_facts facts;

    if (model->text.chat_template.length == 0) {
        check_figure(row, "the file has none");
        check_mark(row, CHECK_NOTE, "/v1/chat/completions is refused; /v1/completions works");
        return;
    }
    cli_template_look(text, model->text.chat_template, &facts);
    check_figure(row, "%s; a small chat is %" PRIu32 " tokens; system messages %s, tools %s",
                 facts.family, facts.prompt_tokens, facts.takes_system ? "yes" : "no",
                 facts.takes_tools ? "yes" : "no");
    if (!facts.renders) {
        check_figure(row, "a small chat does not render: %s", facts.why);
        check_mark(row, CHECK_PROBLEM, "use a file with another template; /v1/completions works");
    }
}

/* ---- computing ---- */

/* Ids of a sentence, and where the vocabulary is odd, arbitrary ones: speed does not depend on them. */
static uint32_t make_prompt(const struct model *model, const struct text_model *text,
                            uint32_t prompt[static SELFTEST_PROMPT_MAX])
{
    struct text_tokens tokens;
    uint32_t count = SELFTEST_PROMPT_MAX;

    if (count > model->max_context / 2)
        count = model->max_context / 2 > 0 ? model->max_context / 2 : 1;
    text_tokens_init(&tokens, TOKENS_MAX);
    if (text_encode(text, prompt_text, sizeof prompt_text - 1, TEXT_ADD_SPECIAL, &tokens) != TD_OK)
        tokens.count = 0;
    for (uint32_t i = 0; i < count; i++)
        prompt[i] = (i < tokens.count ? tokens.ids[i] : 7919 * i) % model->vocab;
    text_tokens_fini(&tokens);
    return count;
}

static void look_at_tokens(struct work *work, const struct model *model,
                           const struct text_model *text)
{
    const struct cli_cluster_options *cluster = &work->options->cluster;
    struct check_row *row = check_add(&work->rows, AREA, "generation");
    const struct selftest_options options = {
        .threads = cli_cluster_threads(cluster, td_cpus_usable(), cluster->prefill),
        .numerics = (enum cpu_numerics)cluster->numerics,
        .kv_dtype = (enum cpu_kv_dtype)cluster->kv_dtype};
    uint32_t prompt[SELFTEST_PROMPT_MAX];
    uint32_t count = make_prompt(model, text, prompt);
    struct selftest_result result;
    struct td_error error = {0};

    if (selftest_run(model, &options, prompt, count, &result, &error) != TD_OK) {
        check_figure(row, "%s", error.text);
        check_mark(row, CHECK_PROBLEM,
                   "fetch the file again and compare its checksum; free memory");
        return;
    }
    check_figure(row,
                 "on %" PRIu32 " thread%s, as one worker has, %s, KV %s: %" PRIu32
                 " tokens read at %.0f/s, %" PRIu32 " written at %.1f/s",
                 options.threads, options.threads == 1 ? "" : "s",
                 cpu_numerics_class(options.numerics), cpu_kv_dtype_name(options.kv_dtype),
                 result.prompt_tokens, result.prompt_tokens_per_s, result.new_tokens,
                 result.decode_tokens_per_s);
    check_value(row, "pack_s", result.pack_s);
    check_value(row, "prompt_tokens_per_s", result.prompt_tokens_per_s);
    check_value(row, "decode_tokens_per_s", result.decode_tokens_per_s);
    row = check_add(&work->rows, AREA, "same bits");
    check_figure(row, "the same prompt in pieces, beside another: %s",
                 result.is_invariant ? "equal to the last bit" : "DIFFERENT logits");
    if (!result.is_invariant)
        check_mark(row, CHECK_PROBLEM,
                   "answers would depend on other requests: report it with "
                   "`tandem version` and the processor's name");
}

/* What workers do on the CPU says nothing of a GPU. */
static void leave_out_tokens(struct work *work)
{
    check_figure(check_add(&work->rows, AREA, "generation"),
                 "not tried with --gpu: workers will compute there, and this would be the CPU");
}

static int look(void *ctx)
{
    struct work *work = ctx;
    bool is_gpu = work->options->cluster.gpu;
    struct td_error error = {0};
    struct text_model *text;
    struct model *model;

    td_log_set_level(TD_LOG_ERROR);
    if (model_map_install_sigbus(&error) != TD_OK)
        return 1;
    model = open_model(work);
    if (model == NULL)
        return 0; /* the row says it */
    if (is_gpu)
        look_at_gpu_memory(work, model);
    else
        look_at_memory(work, model);
    text = open_text(work, model);
    if (text != NULL) {
        look_at_template(work, model, text);
        if (is_gpu)
            leave_out_tokens(work);
        else
            look_at_tokens(work, model, text);
    }
    text_model_close(text);
    model_close(model);
    return 0;
}

/* Its rows, and one more if it did not come to its end. */
static void take_rows(struct check_table *table, const struct work *work,
                      const struct cli_probe *probe, const struct cli_probe_end *end)
{
    struct check_row *row;
    char how[256];

    for (uint32_t i = 0; i < work->rows.count && i < CHECK_ROWS_MAX; i++)
        *check_add(table, AREA, "") = work->rows.rows[i];
    if (end->exit_status == 0)
        return;
    cli_probe_describe(probe, end, how, sizeof how);
    row = check_add(table, AREA, "self-test");
    check_figure(row, "%s", how[0] != '\0' ? how : end->said);
    check_mark(row, CHECK_PROBLEM,
               end->timed_out
                   ? "the machine is busy, or the model too large for it"
                   : "too little memory, or a file that is being written; else report it");
}

void check_model(struct check_table *table, const char *path,
                 const struct cli_check_options *options)
{
    struct work *work = cli_probe_share(sizeof *work);
    struct td_error error = {0};
    struct cli_probe_end end;
    char what[64];
    const struct cli_probe probe = {.program = "tandem check",
                                    .what = what,
                                    .deadline_ms = DEADLINE_MS,
                                    .run = look,
                                    .ctx = work};
    const char *slash = strrchr(path, '/');

    if (work == NULL) {
        check_mark(check_add(table, AREA, "memory"), CHECK_PROBLEM, "free some memory");
        return;
    }
    work->path = path;
    work->options = options;
    work->gpu_bytes = check_gpu_memory_bytes(table);
    snprintf(what, sizeof what, "trying %.50s",
             slash != NULL && slash[1] != '\0' ? slash + 1 : path);
    if (cli_probe_run(&probe, &end, &error) == TD_OK) {
        take_rows(table, work, &probe, &end);
    } else {
        struct check_row *row = check_add(table, AREA, "self-test");

        check_figure(row, "%s", error.text);
        check_mark(row, CHECK_PROBLEM, "let this user start more processes (ulimit -u, pids.max)");
    }
    cli_probe_unshare(work, sizeof *work);
}
