/*
 * tandem-decode: a worker that writes answers. It owns each request from its first to its last token,
 * and has long prompts read by prefill workers, whose KV it imports.
 */
#include "worker/main.h"

int main(int argc, char **argv)
{
    static const struct worker_role role = {
        .program = "tandem-decode",
        .name = "decode",
        .summary = "Writes answers; has long prompts read by prefill workers.",
        .examples =
            "  tandem-decode model.gguf --scheduler 127.0.0.1:7100\n"
            "  tandem-decode model.gguf --scheduler 10.0.0.5:7100 --listen 0.0.0.0:7202 \\\n"
            "      --advertise 10.0.0.8:7202 --certs /etc/tandem/decode\n",
        .purpose = "writes answers, token by token",
        .about =
            "It owns a request from its first to its last token. A prompt that is long enough is "
            "read by a prefill worker, whose KV lands in this process's memory and is checked "
            "before it is used; if that fails, this worker reads the prompt itself, and the answer "
            "is the same.\n\n"
            "MODEL is a GGUF file, or a folder with config.json and safetensors; all workers of a "
            "cluster want the same one.",
        .see_also = "tandem(1), tandem-serve(1), tandem-prefill(1), tandem-inspect(1)",
        .listen = "127.0.0.1:7202",
        .http_listen = "127.0.0.1:7282",
        .policy = {.role = TD__ROLE__ROLE_DECODE, .exports = false, .imports = true},
    };

    return worker_main(&role, argc, argv);
}
