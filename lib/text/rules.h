/*
 * rules.h: what merging two neighbours gives, from a model's merges or scores. Internal to lib/text.
 */
#ifndef TANDEM_LIB_TEXT_RULES_H
#define TANDEM_LIB_TEXT_RULES_H

#include "lib/text/characters.h"
#include "lib/text/pair_map.h"
#include "lib/text/source.h"
#include "lib/text/token_map.h"
#include "lib/text/vocab.h"

/* The ordinary tokens that merging may arrive at, by their bytes. TD_NO_MEMORY. */
td_status_t text_rules_makeable(const struct text_vocab *vocab,
                                struct text_token_map *map_out) TD_MUST_USE;

/*
 * Fills rules with text_pair(left, right) -> text_pair(rank, id). The pair of lowest rank merges first.
 * Merges that would make a control token are left out: typed text must never become one. TD_INVALID names
 * a merge that makes no token.
 */
td_status_t text_rules_from_merges(const struct text_vocab *vocab,
                                   const struct text_token_map *makeable,
                                   const struct text_source *source, struct text_pair_map *rules,
                                   struct td_error *error) TD_MUST_USE;

/*
 * The same from scores: any two neighbours that make a token merge, that of the highest score first; equal
 * scores have equal ranks. characters has the symbols of characters that are no token.
 */
td_status_t text_rules_from_scores(const struct text_characters *characters,
                                   const struct text_token_map *makeable,
                                   const struct text_source *source, struct text_pair_map *rules,
                                   struct td_error *error) TD_MUST_USE;

#endif
