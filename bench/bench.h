/*
 * bench.h: the measurements behind `tandem bench`.
 *
 * Each takes the words behind its name as main would and returns an exit status. With --json it writes
 * one JSON object to stdout: keys in snake_case, units last; else a table for people.
 */
#ifndef TANDEM_BENCH_BENCH_H
#define TANDEM_BENCH_BENCH_H

/* Prompt and decode speed of the CPU backend, beside what the machine could do in the same minute. */
int bench_engine(int argc, char **argv);

/* The scheduler's prefix index: changes and matches per second, beside the memory's random reads. */
int bench_index(int argc, char **argv);

/* One draw of a token from logits, by what is asked for, beside reading the logits once. */
int bench_sampling(int argc, char **argv);

/* What a step costs beside the model: how long a device stands still between two. */
int bench_steps(int argc, char **argv);

/* Text to token ids: megabytes a second of one core, beside checking the same bytes for UTF-8. */
int bench_tokenizer(int argc, char **argv);

/*
 * KV transfer between two processes over each transport, beside memcpy of the same blocks. Forks: call it
 * before the process starts a thread.
 */
int bench_transfer(int argc, char **argv);

#endif
