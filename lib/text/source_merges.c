/* source_merges.c: merge rules that are written as text, see source.h. */
#include <string.h>

#include "lib/text/source.h"
#include "lib/text/token_map.h"

static td_status_t resolve_rule(const struct text_token_map *map, struct td_span rule,
                                struct text_merge *merge_out)
{
    const char *space = rule.length > 1 ? memchr(rule.bytes + 1, ' ', rule.length - 1) : NULL;
    size_t left_length;

    if (space == NULL)
        return TD_INVALID;
    left_length = (size_t)(space - rule.bytes);
    merge_out->left = text_token_map_find(map, rule.bytes, left_length);
    merge_out->right = text_token_map_find(map, space + 1, rule.length - left_length - 1);
    return merge_out->left == TEXT_TOKEN_NONE || merge_out->right == TEXT_TOKEN_NONE ? TD_INVALID
                                                                                     : TD_OK;
}

td_status_t text_source_resolve_merges(const struct text_token *tokens, uint32_t token_count,
                                       const struct td_span *rules, uint32_t count,
                                       struct text_merge *rules_out, struct td_error *error)
{
    struct text_token_map map;
    td_status_t status;

    if (token_count > TEXT_TOKENS_MAX || count > TEXT_MERGES_MAX)
        return td_fail(error, TD_LIMIT, "%u tokens and %u merges, at most %u and %u", token_count,
                       count, TEXT_TOKENS_MAX, TEXT_MERGES_MAX);
    status = text_token_map_init(&map, token_count);
    if (status != TD_OK)
        return td_fail(error, status, "no memory for the merges");
    for (uint32_t i = 0; i < token_count; i++)
        text_token_map_add(&map, (struct td_span){tokens[i].bytes, tokens[i].length}, i);
    for (uint32_t i = 0; i < count && status == TD_OK; i++) {
        status = resolve_rule(&map, rules[i], &rules_out[i]);
        if (status != TD_OK)
            td_fail(error, status, "merge %u: '%.*s' is not two tokens", i,
                    rules[i].length > 100 ? 100 : (int)rules[i].length,
                    rules[i].length > 0 ? rules[i].bytes : "");
    }
    text_token_map_fini(&map);
    return status;
}
