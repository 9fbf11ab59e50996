/* topics.c: what `tandem help` explains beside the commands. Lines at most 90 wide. */
#include "cli/command.h"

static const char start[] =
    "1. Get a model: a GGUF file, or a folder from Hugging Face with config.json, safetensors and\n"
    "   tokenizer.json. In the source tree, scripts/setup --model fetches a small one (98 MB).\n"
    "2. See whether it will work here, and what to do if not:\n"
    "       tandem check model.gguf\n"
    "3. Talk with it:\n"
    "       tandem chat model.gguf\n"
    "4. Serve it to others, with the API that OpenAI clients speak:\n"
    "       tandem serve model.gguf --port 8000\n"
    "       curl http://127.0.0.1:8000/v1/models\n"
    "       tandem chat http://127.0.0.1:8000\n"
    "5. See prefill and decode at work, with the time that each stage takes:\n"
    "       tandem demo model.gguf\n";

static const char processes[] =
    "A request is split between two kinds of work: prefill reads the prompt (bound by\n"
    "arithmetic), decode writes the answer (bound by memory). They are separate processes, and\n"
    "the KV cache travels from one to the other.\n\n"
    "  tandem-router      speaks the OpenAI API, and knows tokenizers and chat templates\n"
    "  tandem-scheduler   knows who has what in its cache, and says who serves a request\n"
    "  tandem-prefill     computes the KV of prompts and sends it to decode\n"
    "  tandem-decode      writes answers; short or cached prompts it reads itself\n\n"
    "`tandem serve` starts one of each on this host; --prefill and --decode say how many workers.\n"
    "With --prefill 0 decode workers do everything, and answers are the same.\n";

static const char hosts[] =
    "Each process is a program of its own. They may start in any order, and find each other\n"
    "through the scheduler. Certificates say who is who; without them RPC stays on one host.\n\n"
    "  tandem certs /etc/tandem/certs\n"
    "  tandem-scheduler --listen 10.0.0.1:7100 --certs /etc/tandem/certs/scheduler\n"
    "  tandem-prefill model.gguf --listen 10.0.0.2:7201 --scheduler 10.0.0.1:7100 \\\n"
    "      --certs /etc/tandem/certs/prefill\n"
    "  tandem-decode model.gguf --listen 10.0.0.3:7202 --scheduler 10.0.0.1:7100 \\\n"
    "      --certs /etc/tandem/certs/decode\n"
    "  tandem-router --listen 0.0.0.0:8000 --scheduler 10.0.0.1:7100 \\\n"
    "      --certs /etc/tandem/certs/router\n\n"
    "Give each host only its own role's folder, and keep ca.key offline. The router's HTTP port\n"
    "has no TLS of its own: put it behind whatever ends TLS for you. The KV data plane (UCX,\n"
    "NCCL) is not encrypted: give it a network of its own with --ucx-interface, and NCCL with\n"
    "its own settings.\n";

static const char environment[] =
    "Every flag of every program is also a variable: --log-level is TANDEM_LOG_LEVEL. An empty\n"
    "variable counts as absent; a flag on the command line wins. `tandem serve` hands its\n"
    "environment on, so flags of the processes that it starts can be set this way:\n\n"
    "  TANDEM_REMOTE_TOKENS_MIN=256 tandem serve model.gguf\n\n"
    "Others that are looked at:\n\n"
    "  OPENAI_BASE_URL    whom `tandem chat` talks to if it is not told\n"
    "  OPENAI_API_KEY     the key for that; not sent unencrypted to another host\n"
    "  NO_COLOR, TERM     no dimmed text if NO_COLOR is set, or TERM is dumb\n"
    "  XDG_RUNTIME_DIR    where `tandem serve` makes its private folder for sockets; else /tmp\n"
    "  XDG_CACHE_HOME     packed weights are kept below it, see `tandem cache`; else ~/.cache\n"
    "  TANDEM_CPU         forces kernels: reference, avx2 and so on, see `tandem check`\n";

static const char trouble[] =
    "It does not start\n"
    "    tandem check MODEL says what is wrong with machine, ports, transports and the file, and\n"
    "    what to do about each. tandem inspect MODEL shows what is in the file.\n"
    "A port is in use\n"
    "    --port 0 takes any that is free; `ss -ltnp` shows who has it.\n"
    "Requests are answered with 429\n"
    "    More requests than capacity: start more workers, or give each more --kv-bytes.\n"
    "Answers are slow\n"
    "    The header x-tandem-trace: 1 makes an answer say where its time went; in a chat, /stats.\n"
    "    tandem bench engine MODEL compares with what the machine's memory could do.\n"
    "No KV crosses\n"
    "    Short and cached prompts stay on decode (--remote-tokens-min). The trace's kv.fallback\n"
    "    says why prefill was not used. tandem bench transfer tries each transport.\n"
    "A worker is lost\n"
    "    It is started again by `tandem serve`; its own last lines on stderr say why. The\n"
    "    page docs/operations.md has a table of what can fail, and how it looks.\n"
    "More lines\n"
    "    --log-level debug, on `tandem serve` or on a single process.\n";

const struct cli_topic cli_topics[] = {
    {"start", "the first steps, from a file to answers", start},
    {"processes", "which programs there are, and what each does", processes},
    {"hosts", "a cluster on several hosts", hosts},
    {"environment", "variables that are looked at", environment},
    {"trouble", "what to do when something goes wrong", trouble},
};

const size_t cli_topic_count = sizeof cli_topics / sizeof cli_topics[0];
