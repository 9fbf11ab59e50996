/* tokenizer_pipeline.c: see tokenizer_pipeline.h. */
#include "model/tokenizer_pipeline.h"

#include <inttypes.h>
#include <stdio.h>

#define STEPS_MAX   16
#define PLACE_BYTES 96
#define SPACE_MARK  "\xE2\x96\x81" /* U+2581 */

/* One step, taken out of its sequences. */
struct step {
    const struct td_json *json;
    struct td_span type;
    char place[PLACE_BYTES]; /* "pre_tokenizer.pretokenizers[1]" */
};

struct steps {
    struct step items[STEPS_MAX];
    uint32_t count;
};

/* ------------------------------------------------------------------------------------------- */
/* Fields. Absent and null mean the same. */

static td_status_t refuse(const struct step *step, const char *what, struct td_error *error)
{
    return td_fail(error, TD_UNSUPPORTED, "%s: %.*s%s%s is not known here", step->place,
                   (int)(step->type.length < 40 ? step->type.length : 40), step->type.bytes,
                   what[0] == '\0' ? "" : " ", what);
}

static struct td_span text_field(const struct td_json *object, const char *name)
{
    const struct td_json *field = td_json_find(object, name);

    return field != NULL && field->kind == TD_JSON_STRING ? field->string : td_span_over("", 0);
}

static bool flag_field(const struct td_json *object, const char *name, bool fallback)
{
    const struct td_json *field = td_json_find(object, name);

    return field != NULL && field->kind == TD_JSON_BOOL ? field->boolean : fallback;
}

static const struct td_json *object_field(const struct td_json *object, const char *name)
{
    const struct td_json *field = td_json_find(object, name);

    return field != NULL && field->kind == TD_JSON_OBJECT ? field : NULL;
}

/* ------------------------------------------------------------------------------------------- */
/* Flattening sequences */

/* A sequence keeps its parts under a name that depends on what it is a sequence of. */
struct kind {
    const char *field;
    const char *parts;
};

static const struct kind normalizer = {"normalizer", "normalizers"};
static const struct kind pre_tokenizer = {"pre_tokenizer", "pretokenizers"};
static const struct kind post_processor = {"post_processor", "processors"};
static const struct kind decoder = {"decoder", "decoders"};

static td_status_t add_step(struct steps *steps, const struct td_json *json, const char *place,
                            struct td_error *error)
{
    struct step *step = &steps->items[steps->count];

    if (steps->count == STEPS_MAX)
        return td_fail(error, TD_LIMIT, "%s: more than %d steps", place, STEPS_MAX);
    if (json->kind != TD_JSON_OBJECT)
        return td_fail(error, TD_INVALID, "%s: %s, must be an object", place,
                       td_json_kind_text(json->kind));
    *step = (struct step){.json = json, .type = text_field(json, "type")};
    snprintf(step->place, sizeof step->place, "%s", place);
    if (step->type.length == 0)
        return td_fail(error, TD_INVALID, "%s: no type", place);
    steps->count++;
    return TD_OK;
}

/* A sequence in a sequence is not in any published file: it stays a step of its own, which nobody knows. */
static td_status_t flatten(const struct td_json *root, const struct kind *kind, struct steps *steps,
                           struct td_error *error)
{
    const struct td_json *json = td_json_find(root, kind->field);
    const struct td_json *parts;
    char place[PLACE_BYTES];
    unsigned number = 0;
    td_status_t status = TD_OK;

    steps->count = 0;
    if (json == NULL || json->kind == TD_JSON_NULL)
        return TD_OK;
    if (json->kind != TD_JSON_OBJECT || !td_span_is(text_field(json, "type"), "Sequence"))
        return add_step(steps, json, kind->field, error);
    parts = td_json_find(json, kind->parts);
    if (parts == NULL || parts->kind != TD_JSON_ARRAY)
        return td_fail(error, TD_INVALID, "%s.%s: must be an array", kind->field, kind->parts);
    td_json_for_each(part, parts)
    {
        snprintf(place, sizeof place, "%s.%s[%u]", kind->field, kind->parts, number++);
        status = add_step(steps, part, place, error);
        if (status != TD_OK)
            break;
    }
    return status;
}

static bool is_step(const struct steps *steps, uint32_t index, const char *type)
{
    return index < steps->count && td_span_is(steps->items[index].type, type);
}

/* ------------------------------------------------------------------------------------------- */
/* Pre-tokenizers */

/* The expressions of pretokenize.c as they stand in published files. */
#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define REST         "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
static const struct {
    const char *expression;
    const char *name;
} expressions[] = {
    {CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" REST, "qwen2"},
    {CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}" REST, "llama-bpe"},
    {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", "gpt-2"},
};

/* A Split by an expression that we have a matcher for. */
static td_status_t read_split(const struct step *step, const char **name_out,
                              struct td_error *error)
{
    const struct td_json *pattern = object_field(step->json, "pattern");
    struct td_span expression =
        pattern == NULL ? td_span_over("", 0) : text_field(pattern, "Regex");

    if (!td_span_is(text_field(step->json, "behavior"), "Isolated") ||
        flag_field(step->json, "invert", false))
        return refuse(step, "that does not isolate its matches", error);
    for (size_t i = 0; i < sizeof expressions / sizeof expressions[0]; i++) {
        if (td_span_is(expression, expressions[i].expression)) {
            *name_out = expressions[i].name;
            return TD_OK;
        }
    }
    return td_fail(error, TD_UNSUPPORTED, "%s: Split by '%.*s' is not known here", step->place,
                   (int)(expression.length < 120 ? expression.length : 120), expression.bytes);
}

/* The ByteLevel that ends every byte-level pipeline. */
static td_status_t check_byte_level(const struct step *step, bool *has_regex_out,
                                    struct td_error *error)
{
    if (flag_field(step->json, "add_prefix_space", true))
        return refuse(step, "with add_prefix_space", error);
    *has_regex_out = flag_field(step->json, "use_regex", true);
    return TD_OK;
}

/* All steps but the last, which is ByteLevel: none, Digits, or Split. */
static td_status_t read_byte_level(const struct steps *steps,
                                   struct model_tokenizer_pipeline *pipeline,
                                   struct td_error *error)
{
    const struct step *first = &steps->items[0];
    const struct step *last = &steps->items[steps->count - 1];
    bool has_regex = false;
    td_status_t status = check_byte_level(last, &has_regex, error);

    if (status != TD_OK)
        return status;
    if (steps->count > 2)
        return refuse(&steps->items[1], "in this place", error);
    if (steps->count == 1 && has_regex) {
        pipeline->pretokenizer = "gpt-2";
        return TD_OK;
    }
    if (steps->count == 2 && has_regex && is_step(steps, 0, "Digits") &&
        flag_field(first->json, "individual_digits", false)) {
        pipeline->pretokenizer = "smollm";
        return TD_OK;
    }
    if (steps->count == 2 && !has_regex && is_step(steps, 0, "Split"))
        return read_split(first, &pipeline->pretokenizer, error);
    return refuse(first, "before this ByteLevel", error);
}

static td_status_t read_metaspace(const struct step *step,
                                  struct model_tokenizer_pipeline *pipeline, struct td_error *error)
{
    struct td_span scheme = text_field(step->json, "prepend_scheme");

    if (!td_span_is(text_field(step->json, "replacement"), SPACE_MARK))
        return refuse(step, "with this replacement", error);
    if (flag_field(step->json, "split", true))
        return refuse(step, "with split", error);
    if (td_span_is(scheme, "first"))
        pipeline->prefix = TEXT_PREFIX_FIRST;
    else if (td_span_is(scheme, "always"))
        pipeline->prefix = TEXT_PREFIX_UNLESS_SPACE;
    else if (td_span_is(scheme, "never"))
        pipeline->prefix = TEXT_PREFIX_NONE;
    else
        return refuse(step, "with this prepend_scheme", error);
    return TD_OK;
}

static td_status_t read_pre_tokenizer(const struct td_json *root,
                                      struct model_tokenizer_pipeline *pipeline,
                                      bool *has_metaspace_out, struct td_error *error)
{
    struct steps steps;
    td_status_t status = flatten(root, &pre_tokenizer, &steps, error);

    *has_metaspace_out = false;
    pipeline->algorithm = TEXT_SENTENCEPIECE;
    pipeline->pretokenizer = "";
    if (status != TD_OK || steps.count == 0)
        return status;
    if (is_step(&steps, steps.count - 1, "ByteLevel")) {
        pipeline->algorithm = TEXT_BYTE_LEVEL;
        return read_byte_level(&steps, pipeline, error);
    }
    if (steps.count > 1 || !is_step(&steps, 0, "Metaspace"))
        return refuse(&steps.items[0], "", error);
    *has_metaspace_out = true;
    return read_metaspace(&steps.items[0], pipeline, error);
}

/* ------------------------------------------------------------------------------------------- */
/* Normalizers */

/* Replace " " by U+2581, or the reverse. */
static bool replaces(const struct step *step, const char *from, const char *to)
{
    const struct td_json *pattern = object_field(step->json, "pattern");

    return td_span_is(step->type, "Replace") && pattern != NULL &&
           td_span_is(text_field(pattern, "String"), from) &&
           td_span_is(text_field(step->json, "content"), to);
}

/* Spaces become U+2581 exactly once: in the normalizer, or in a Metaspace. */
static td_status_t read_space_normalizer(const struct steps *steps, bool has_metaspace,
                                         struct model_tokenizer_pipeline *pipeline,
                                         struct td_error *error)
{
    uint32_t at = 0;

    if (is_step(steps, at, "Prepend") && !has_metaspace) {
        if (!td_span_is(text_field(steps->items[at].json, "prepend"), SPACE_MARK))
            return refuse(&steps->items[at], "of this text", error);
        pipeline->prefix = TEXT_PREFIX_ALWAYS;
        at++;
    }
    if (at < steps->count && !has_metaspace && replaces(&steps->items[at], " ", SPACE_MARK))
        at++;
    else if (!has_metaspace)
        return td_fail(error, TD_UNSUPPORTED,
                       "normalizer, pre_tokenizer: neither ByteLevel nor spaces as U+2581: such a "
                       "tokenizer is not known here");
    return at < steps->count ? refuse(&steps->items[at], "in this place", error) : TD_OK;
}

static td_status_t read_normalizer(const struct td_json *root, bool has_metaspace,
                                   struct model_tokenizer_pipeline *pipeline,
                                   struct td_error *error)
{
    struct steps steps;
    td_status_t status = flatten(root, &normalizer, &steps, error);

    if (status != TD_OK)
        return status;
    if (pipeline->algorithm == TEXT_SENTENCEPIECE)
        return read_space_normalizer(&steps, has_metaspace, pipeline, error);
    pipeline->normalize_nfc = is_step(&steps, 0, "NFC");
    if (steps.count > (pipeline->normalize_nfc ? 1 : 0))
        return refuse(&steps.items[pipeline->normalize_nfc ? 1 : 0], "in this place", error);
    return TD_OK;
}

/* ------------------------------------------------------------------------------------------- */
/* Post-processors */

static td_status_t template_token(const struct step *step, const struct td_json *name,
                                  uint32_t *id_out, struct td_error *error)
{
    const struct td_json *tokens = object_field(step->json, "special_tokens");
    struct td_span id = text_field(name, "id");
    const struct td_json *ids = NULL;

    if (*id_out != TEXT_TOKEN_NONE)
        return refuse(step, "with two tokens in a row", error);
    if (tokens != NULL)
        td_json_for_each(token, tokens)
        {
            if (td_span_equal(token->key, id) && token->kind == TD_JSON_OBJECT)
                ids = td_json_find(token, "ids");
        }
    if (ids == NULL || ids->kind != TD_JSON_ARRAY || ids->items.count != 1 ||
        ids->items.first->kind != TD_JSON_INTEGER || ids->items.first->integer < 0 ||
        ids->items.first->integer >= TEXT_TOKENS_MAX)
        return td_fail(error, TD_INVALID, "%s.special_tokens: no single id for '%.*s'", step->place,
                       (int)(id.length < 64 ? id.length : 64), id.bytes);
    *id_out = (uint32_t)ids->items.first->integer;
    return TD_OK;
}

/* [token] the text [token] */
static td_status_t read_template(const struct step *step, struct model_tokenizer_pipeline *pipeline,
                                 struct td_error *error)
{
    const struct td_json *single = td_json_find(step->json, "single");
    bool seen_text = false;

    if (single == NULL || single->kind != TD_JSON_ARRAY)
        return td_fail(error, TD_INVALID, "%s.single: must be an array", step->place);
    td_json_for_each(item, single)
    {
        const struct td_json *token =
            item->kind == TD_JSON_OBJECT ? object_field(item, "SpecialToken") : NULL;
        td_status_t status;

        if (token == NULL) {
            if (seen_text || item->kind != TD_JSON_OBJECT || object_field(item, "Sequence") == NULL)
                return refuse(step, "of this form", error);
            seen_text = true;
            continue;
        }
        status = template_token(step, token, seen_text ? &pipeline->last : &pipeline->first, error);
        if (status != TD_OK)
            return status;
    }
    return seen_text ? TD_OK : refuse(step, "without the text", error);
}

static td_status_t read_post_processor(const struct td_json *root,
                                       struct model_tokenizer_pipeline *pipeline,
                                       struct td_error *error)
{
    struct steps steps;
    td_status_t status = flatten(root, &post_processor, &steps, error);

    for (uint32_t i = 0; i < steps.count && status == TD_OK; i++) {
        if (is_step(&steps, i, "TemplateProcessing"))
            status = read_template(&steps.items[i], pipeline, error);
        else if (!is_step(&steps, i, "ByteLevel")) /* that one only moves offsets */
            status = refuse(&steps.items[i], "", error);
    }
    return status;
}

/* ------------------------------------------------------------------------------------------- */
/* Decoders */

static td_status_t read_decoder_step(const struct step *step,
                                     struct model_tokenizer_pipeline *pipeline,
                                     struct td_error *error)
{
    const struct td_json *start = td_json_find(step->json, "start");
    const struct td_json *stop = td_json_find(step->json, "stop");

    if (td_span_is(step->type, "ByteFallback") || td_span_is(step->type, "Fuse") ||
        replaces(step, SPACE_MARK, " "))
        return TD_OK;
    if (td_span_is(step->type, "Metaspace")) {
        pipeline->strip_space = !td_span_is(text_field(step->json, "prepend_scheme"), "never");
        return TD_OK;
    }
    if (td_span_is(step->type, "Strip") && td_span_is(text_field(step->json, "content"), " ") &&
        start != NULL && start->kind == TD_JSON_INTEGER && start->integer == 1 && stop != NULL &&
        stop->kind == TD_JSON_INTEGER && stop->integer == 0) {
        pipeline->strip_space = true;
        return TD_OK;
    }
    return refuse(step, "in this place", error);
}

static td_status_t read_decoder(const struct td_json *root,
                                struct model_tokenizer_pipeline *pipeline, struct td_error *error)
{
    struct steps steps;
    td_status_t status = flatten(root, &decoder, &steps, error);

    for (uint32_t i = 0; i < steps.count && status == TD_OK; i++) {
        if (pipeline->algorithm == TEXT_SENTENCEPIECE)
            status = read_decoder_step(&steps.items[i], pipeline, error);
        else if (!is_step(&steps, i, "ByteLevel"))
            status = refuse(&steps.items[i], "", error);
    }
    return status;
}

td_status_t model_tokenizer_pipeline_read(const struct td_json *root,
                                          struct model_tokenizer_pipeline *pipeline_out,
                                          struct td_error *error)
{
    struct model_tokenizer_pipeline pipeline = {.first = TEXT_TOKEN_NONE, .last = TEXT_TOKEN_NONE};
    bool has_metaspace;
    td_status_t status = read_pre_tokenizer(root, &pipeline, &has_metaspace, error);

    if (status == TD_OK)
        status = read_normalizer(root, has_metaspace, &pipeline, error);
    if (status == TD_OK)
        status = read_post_processor(root, &pipeline, error);
    if (status == TD_OK)
        status = read_decoder(root, &pipeline, error);
    if (status == TD_OK)
        *pipeline_out = pipeline;
    return status;
}
