/*
 * template_look.h: what a model's chat template can do, found out by rendering small chats with it.
 */
#ifndef TANDEM_CLI_TEMPLATE_LOOK_H
#define TANDEM_CLI_TEMPLATE_LOOK_H

#include <stdbool.h>

#include "lib/base/span.h"
#include "lib/base/status.h"
#include "lib/text/model.h"

struct cli_template_facts {
    const char *family; /* by the marks that it writes: "ChatML", "Llama 3"; "unknown" */
    bool renders;       /* a user's message becomes a prompt */
    bool takes_system;  /* and a system message is part of it */
    bool takes_tools;   /* and the tools of a request are */
    bool has_reasoning; /* enable_thinking changes the prompt, or there is a mark for thoughts */
    uint32_t prompt_tokens; /* of the small chat */
    char why[256];          /* it does not render */
};

/* source: the template's text, for the marks in it. What does not render is a fact, no error. */
void cli_template_look(const struct text_model *model, struct td_span source,
                       struct cli_template_facts *facts_out);

#endif
