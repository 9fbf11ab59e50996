/*
 * block_key.h: the keys of KV blocks: what a router sends, a scheduler indexes and an engine matches.
 *
 * key(block) = XXH3-128(key of the block before, its token ids), ids as little-endian u32; the root
 * covers what makes KV interchangeable (content_id) and keeps tenants apart (salt). The idea of chaining
 * is vLLM's prefix cache.
 */
#ifndef TANDEM_LIB_BASE_BLOCK_KEY_H
#define TANDEM_LIB_BASE_BLOCK_KEY_H

#include "lib/base/u128.h"

/* The root of a tenant's block keys. Two workers of one content_id and salt compute equal keys. */
struct td_u128 td_block_root(struct td_u128 content_id, struct td_u128 salt);

/* The key of a block: full blocks and, with a smaller count, the tail of a prompt. */
struct td_u128 td_block_key(struct td_u128 parent, const uint32_t *tokens, uint32_t count);

/*
 * td_block_keys: the keys of all blocks of a prompt, tail included.
 * keys_out has room for (token_count + block_tokens - 1) / block_tokens keys; block_tokens > 0.
 */
void td_block_keys(struct td_u128 root, const uint32_t *tokens, uint32_t token_count,
                   uint32_t block_tokens, struct td_u128 *keys_out);

#endif
