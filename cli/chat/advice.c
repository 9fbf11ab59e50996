/* advice.c: see advice.h. */
#include "cli/chat/advice.h"

#include <string.h>

static const char again[] = "/retry asks again.";

static const char full[] =
    "The chat no longer fits into the model's context, and nothing was dropped to make room: /undo "
    "takes back the last message, /save FILE keeps the chat, /reset begins a new one.";

static bool is_about_context(const struct cli_answer *answer)
{
    return strcmp(answer->code, "context_length_exceeded") == 0 ||
           strstr(answer->failure, "context length") != NULL ||
           strstr(answer->failure, "context window") != NULL ||
           strstr(answer->failure, "context size") != NULL;
}

static const char *about_key(const struct chat_endpoint *endpoint)
{
    if (endpoint->key[0] != '\0')
        return "The server does not take this API key: look at --api-key-file or OPENAI_API_KEY.";
    if (!endpoint->is_local && !endpoint->is_encrypted)
        return "The server wants an API key. OPENAI_API_KEY is not sent over plain http to another "
               "host; --api-key-file FILE is.";
    return "The server wants an API key: --api-key-file FILE, or set OPENAI_API_KEY.";
}

const char *chat_advice_for_answer(const struct cli_answer *answer,
                                   const struct chat_endpoint *endpoint)
{
    if (is_about_context(answer))
        return full;
    switch (answer->status) {
    case 0: return "Is the server still running? /retry asks again.";
    case 400:
    case 422: return "/set lists the settings that are sent, /undo takes the message back.";
    case 401:
    case 403: return about_key(endpoint);
    case 404: return "/model lists the models that the server has.";
    case 413: return full;
    case 429: return "The server is busy, or a quota is used up: /retry in a moment.";
    default: return again;
    }
}

const char *chat_advice_for_models(td_status_t status, int http_status,
                                   const struct chat_endpoint *endpoint)
{
    if (http_status == 0 && status == TD_REFUSED)
        return "This host does not trust the server's certificate: put its authority into "
               "/usr/local/share/ca-certificates and run update-ca-certificates, or ask whoever "
               "runs "
               "the server.";
    switch (http_status) {
    case 0:
        return endpoint->is_local
                   ? "Start a server with 'tandem serve MODEL.gguf', or chat with a file at once: "
                     "'tandem chat MODEL.gguf'; another server: 'tandem chat http://HOST:PORT'."
                   : "Check the URL, and that the server runs and can be reached from here.";
    case 401:
    case 403: return about_key(endpoint);
    case 404:
        return "Is this the URL of an OpenAI API (often it ends in /v1)? A server without a list "
               "of "
               "models wants --model-name NAME.";
    default: return "--model-name NAME goes on without a list of models.";
    }
}

const char *chat_advice_for_finish(const char *finish)
{
    if (strcmp(finish, "length") == 0)
        return "The answer was cut off: it reached max_tokens (/set max_tokens 4096 allows more) "
               "or "
               "the end of the context.";
    if (strcmp(finish, "content_filter") == 0)
        return "The server's filter has cut the answer off.";
    return NULL;
}
