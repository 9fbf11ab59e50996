/* block_key.c: the chain of block keys, see block_key.h. */
#include "lib/base/block_key.h"

#include "lib/base/hash.h"

struct td_u128 td_block_root(struct td_u128 content_id, struct td_u128 salt)
{
    return td_hash128_chain(content_id, &salt, sizeof salt);
}

struct td_u128 td_block_key(struct td_u128 parent, const uint32_t *tokens, uint32_t count)
{
    return td_hash128_chain(parent, tokens, (size_t)count * sizeof *tokens);
}

void td_block_keys(struct td_u128 root, const uint32_t *tokens, uint32_t token_count,
                   uint32_t block_tokens, struct td_u128 *keys_out)
{
    struct td_u128 parent = root;

    for (uint32_t done = 0; done < token_count;) {
        uint32_t left = token_count - done;
        uint32_t count = left < block_tokens ? left : block_tokens;

        parent = td_block_key(parent, tokens + done, count);
        *keys_out++ = parent;
        done += count;
    }
}
