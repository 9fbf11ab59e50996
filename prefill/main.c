/*
 * tandem-prefill: a worker that reads prompts for others. It serves asks: computes a prompt's KV and
 * sends it while it is being computed. It also answers whole requests when it is the only one there.
 */
#include "worker/main.h"

int main(int argc, char **argv)
{
    static const struct worker_role role = {
        .program = "tandem-prefill",
        .name = "prefill",
        .summary = "Reads prompts for decode workers and sends them the KV cache.",
        .examples =
            "  tandem-prefill model.gguf --scheduler 127.0.0.1:7100\n"
            "  tandem-prefill model.gguf --scheduler 10.0.0.5:7100 --listen 0.0.0.0:7201 \\\n"
            "      --advertise 10.0.0.7:7201 --certs /etc/tandem/prefill\n",
        .purpose = "reads prompts and sends their KV cache to decode workers",
        .about =
            "Blocks of the KV cache leave while later ones are still being computed. What it has "
            "computed stays in its prefix cache for the next prompt that begins alike.\n\n"
            "MODEL is a GGUF file, or a folder with config.json and safetensors; all workers of a "
            "cluster want the same one.",
        .see_also = "tandem(1), tandem-serve(1), tandem-decode(1), tandem-inspect(1)",
        .listen = "127.0.0.1:7201",
        .http_listen = "127.0.0.1:7281",
        .policy = {.role = TD__ROLE__ROLE_PREFILL, .exports = true, .imports = false},
    };

    return worker_main(&role, argc, argv);
}
