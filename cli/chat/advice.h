/*
 * advice.h: what a person can do when a server refuses, fails or is not there. Pure.
 */
#ifndef TANDEM_CLI_CHAT_ADVICE_H
#define TANDEM_CLI_CHAT_ADVICE_H

#include "cli/answer.h"
#include "cli/chat/endpoint.h"

/* The next step after an answer that failed; never NULL. */
const char *chat_advice_for_answer(const struct cli_answer *answer,
                                   const struct chat_endpoint *endpoint);

/*
 * The next step when the list of models could not be had. http_status 0: no answer came, and status says why
 * as the HTTP client does.
 */
const char *chat_advice_for_models(td_status_t status, int http_status,
                                   const struct chat_endpoint *endpoint);

/* What the end of a complete answer means for the user ("length"); NULL: nothing worth saying. */
const char *chat_advice_for_finish(const char *finish);

#endif
