/*
 * report.h: what an answer tells about its own making, for people and for programs.
 */
#ifndef TANDEM_CLI_REPORT_H
#define TANDEM_CLI_REPORT_H

#include "cli/question.h"

/* A table of the stages, and a line about the KV that crossed. */
void cli_report_print(const struct cli_answer *answer, struct td_buf *out);

/* One object: text, prompt_tokens, completion_tokens, kv_bytes, transport, stages_ms. */
void cli_report_write_json(const struct cli_answer *answer, struct td_buf *out);

/* Whether KV came from another worker, with nothing computed twice; else why not, in one sentence. */
bool cli_report_kv_crossed(const struct cli_answer *answer, const char **why_not_out);

/* Milliseconds from one token to the next; 0 if there was no next one. */
double cli_report_next_token_ms(const struct cli_answer *answer);

#endif
