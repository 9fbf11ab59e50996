/*
 * keys.c: the chain of block keys, see engine.h.
 *
 * key(block) = XXH3-128(key(block before), token ids), ids as little-endian u32 as they lie in memory.
 * The idea of chaining is vLLM's prefix cache; the root covers what makes KV interchangeable.
 */
#include "engine/engine.h"
#include "lib/base/hash.h"

struct td_u128 engine_root_key(struct td_u128 content_id, struct td_u128 salt)
{
    return td_hash128_chain(content_id, &salt, sizeof salt);
}

struct td_u128 engine_block_key(struct td_u128 parent, const uint32_t *tokens, uint32_t count)
{
    return td_hash128_chain(parent, tokens, (size_t)count * sizeof *tokens);
}

void engine_block_keys(struct td_u128 root, const uint32_t *tokens, uint32_t token_count,
                       uint32_t block_tokens, struct td_u128 *keys_out)
{
    struct td_u128 parent = root;

    for (uint32_t done = 0; done < token_count;) {
        uint32_t left = token_count - done;
        uint32_t count = left < block_tokens ? left : block_tokens;

        parent = engine_block_key(parent, tokens + done, count);
        *keys_out++ = parent;
        done += count;
    }
}
