/* template_parser.c: statements of chat templates, see template_parser.h. */
#include "lib/text/template_parser.h"

#include <stdio.h>
#include <string.h>

#include "lib/text/string.h"
#include "lib/text/template_builtins.h"

void text_parse_fail(struct text_parser *parser, td_status_t status, const char *format, ...)
{
    char text[200];
    va_list arguments;

    if (parser->status != TD_OK)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    parser->status = td_fail(parser->error, status, "line %u, column %u: %s", parser->next->line,
                             parser->next->column, text);
    parser->next = parser->end;
}

void *text_parse_alloc(struct text_parser *parser, size_t count, size_t size)
{
    void *memory = text_builder_alloc(&parser->builder, count, size);

    if (memory == NULL)
        text_parse_fail(parser, TD_LIMIT, "the template is too large");
    return memory;
}

const struct text_string *text_parse_string(struct text_parser *parser, struct td_span bytes)
{
    const struct text_string *string = text_string_over(&parser->builder, bytes, true);

    if (parser->builder.status != TD_OK)
        text_parse_fail(parser, TD_LIMIT, "the template is too large");
    return string;
}

void text_parse_skip(struct text_parser *parser)
{
    if (parser->next != parser->end)
        parser->next++;
}

static bool at_text(const struct text_parser *parser, enum lexeme_kind kind, const char *text)
{
    return parser->next->kind == kind && td_span_is(parser->next->text, text);
}

bool text_parse_at_operator(const struct text_parser *parser, const char *text)
{
    return at_text(parser, LEXEME_OPERATOR, text);
}

bool text_parse_at_name(const struct text_parser *parser, const char *text)
{
    return at_text(parser, LEXEME_NAME, text);
}

bool text_parse_take_operator(struct text_parser *parser, const char *text)
{
    bool taken = text_parse_at_operator(parser, text);

    parser->next += taken;
    return taken;
}

bool text_parse_take_name(struct text_parser *parser, const char *text)
{
    bool taken = text_parse_at_name(parser, text);

    parser->next += taken;
    return taken;
}

void text_parse_expect_operator(struct text_parser *parser, const char *text)
{
    if (!text_parse_take_operator(parser, text))
        text_parse_fail(parser, TD_INVALID, "expected '%s'", text);
}

const struct text_string *text_parse_expect_name(struct text_parser *parser)
{
    if (parser->next->kind != LEXEME_NAME) {
        text_parse_fail(parser, TD_INVALID, "expected a name");
        return NULL;
    }
    return text_parse_string(parser, parser->next++->text);
}

bool text_parse_enter(struct text_parser *parser)
{
    if (parser->depth == TEXT_TEMPLATE_DEPTH_MAX) {
        text_parse_fail(parser, TD_LIMIT, "nested deeper than %d", TEXT_TEMPLATE_DEPTH_MAX);
        return false;
    }
    parser->depth++;
    return true;
}

void text_parse_leave(struct text_parser *parser)
{
    parser->depth--;
}

void text_parse_note_name(struct text_parser *parser, struct parsed_name **list)
{
    struct parsed_name *noted = td_arena_alloc(parser->scratch, sizeof *noted);

    if (noted == NULL) {
        text_parse_fail(parser, TD_LIMIT, "the template is too large");
        return;
    }
    *noted = (struct parsed_name){parser->next, *list};
    *list = noted;
}

/* ------------------------------------------------------------------------------------------- */

static struct text_statement *statement_new(struct text_parser *parser,
                                            enum text_statement_kind kind)
{
    struct text_statement *statement = text_parse_alloc(parser, 1, sizeof *statement);

    if (statement != NULL) {
        statement->kind = kind;
        statement->line = parser->next->line;
    }
    return statement;
}

static void expect_block_end(struct text_parser *parser)
{
    if (parser->next->kind == LEXEME_BLOCK_END)
        parser->next++;
    else
        text_parse_fail(parser, TD_INVALID, "expected the end of the tag");
}

/* Whether {% and one of the names (NULL-terminated) come next. */
static bool at_block(const struct text_parser *parser, const char *const *names)
{
    if (parser->next->kind != LEXEME_BLOCK_BEGIN)
        return false;
    for (; *names != NULL; names++)
        if (parser->next[1].kind == LEXEME_NAME && td_span_is(parser->next[1].text, *names))
            return true;
    return false;
}

static struct text_statement *parse_statements(struct text_parser *parser,
                                               const char *const *enders);

/* The statements up to a block that begins with one of enders; stands on that name then. */
static struct text_statement *parse_body(struct text_parser *parser, const char *const *enders)
{
    struct text_statement *body;

    expect_block_end(parser);
    if (!text_parse_enter(parser))
        return NULL;
    body = parse_statements(parser, enders);
    text_parse_leave(parser);
    if (at_block(parser, enders))
        parser->next++;
    else
        text_parse_fail(parser, TD_INVALID, "the template ends, but '%s' is missing", enders[0]);
    return body;
}

/* The same, for a body that has variables of its own. */
static struct text_statement *parse_scoped_body(struct text_parser *parser,
                                                const char *const *enders)
{
    struct text_statement *body;

    parser->scopes++;
    body = parse_body(parser, enders);
    parser->scopes--;
    return body;
}

static void parse_if(struct text_parser *parser, struct text_statement *statement)
{
    static const char *const enders[] = {"endif", "elif", "else", NULL};
    static const char *const last[] = {"endif", NULL};
    struct text_branch **place = &statement->branches;
    bool has_condition = true;

    do {
        struct text_branch *branch = text_parse_alloc(parser, 1, sizeof *branch);

        if (branch == NULL)
            return;
        *place = branch;
        place = &branch->next;
        if (has_condition)
            branch->condition = text_parse_expression_no_ternary(parser);
        branch->body = parse_body(parser, has_condition ? enders : last);
        has_condition = text_parse_take_name(parser, "elif");
    } while (has_condition || text_parse_take_name(parser, "else"));
    text_parse_skip(parser); /* endif */
    expect_block_end(parser);
}

/* One name, or several with commas between. */
static void parse_targets(struct text_parser *parser, struct text_statement *statement)
{
    bool bracketed = text_parse_take_operator(parser, "(");

    do {
        if (statement->target_count == TEXT_TARGETS_MAX) {
            text_parse_fail(parser, TD_UNSUPPORTED, "more than %d targets", TEXT_TARGETS_MAX);
            return;
        }
        statement->targets[statement->target_count++] = text_parse_expect_name(parser);
    } while (text_parse_take_operator(parser, ","));
    if (bracketed)
        text_parse_expect_operator(parser, ")");
}

static void parse_for(struct text_parser *parser, struct text_statement *statement)
{
    static const char *const enders[] = {"endfor", "else", NULL};
    static const char *const last[] = {"endfor", NULL};

    parse_targets(parser, statement);
    if (!text_parse_take_name(parser, "in"))
        text_parse_fail(parser, TD_INVALID, "expected 'in'");
    statement->value = text_parse_expression_no_ternary(parser);
    if (text_parse_at_operator(parser, ","))
        text_parse_fail(parser, TD_UNSUPPORTED, "a tuple without brackets is not supported here");
    if (text_parse_take_name(parser, "if"))
        statement->condition = text_parse_expression(parser);
    if (text_parse_at_name(parser, "recursive"))
        text_parse_fail(parser, TD_UNSUPPORTED, "recursive loops are not supported");
    parser->loops++;
    statement->body = parse_scoped_body(parser, enders);
    parser->loops--;
    if (text_parse_take_name(parser, "else"))
        statement->otherwise = parse_scoped_body(parser, last);
    text_parse_skip(parser); /* endfor */
    expect_block_end(parser);
}

static void parse_set(struct text_parser *parser, struct text_statement *statement)
{
    static const char *const enders[] = {"endset", NULL};

    parse_targets(parser, statement);
    if (statement->target_count == 1 && text_parse_take_operator(parser, "."))
        statement->attribute = text_parse_expect_name(parser);
    if (text_parse_take_operator(parser, "=")) {
        statement->value = text_parse_tuple(parser);
        expect_block_end(parser);
        return;
    }
    statement->kind = STATEMENT_SET_BLOCK;
    if (statement->target_count != 1)
        text_parse_fail(parser, TD_INVALID, "expected '='");
    if (text_parse_at_operator(parser, "|"))
        statement->value = text_parse_block_filters(parser);
    statement->body = parse_scoped_body(parser, enders);
    text_parse_skip(parser); /* endset */
    expect_block_end(parser);
}

/* {% filter trim | upper %}: what the body writes goes through the filters. */
static void parse_filter_block(struct text_parser *parser, struct text_statement *statement)
{
    static const char *const enders[] = {"endfilter", NULL};

    statement->value = text_parse_block_filters(parser);
    statement->body = parse_scoped_body(parser, enders);
    text_parse_skip(parser); /* endfilter */
    expect_block_end(parser);
}

/* {% generation %}, with which trainers mark what the model has to learn: its body, as it is. */
static void parse_generation(struct text_parser *parser, struct text_statement *statement)
{
    static const char *const enders[] = {"endgeneration", NULL};
    uint32_t loops = parser->loops;

    parser->loops = 0; /* Jinja makes a function of the body */
    statement->body = parse_scoped_body(parser, enders);
    parser->loops = loops;
    text_parse_skip(parser); /* endgeneration */
    expect_block_end(parser);
}

/* Whether the parameter at `place` is one of those in front of it. */
static bool has_parameter(const struct text_macro *macro, uint32_t place)
{
    for (uint32_t i = 0; i < place && macro->parameters[place] != NULL; i++)
        if (td_span_equal(text_string_span(macro->parameters[i]),
                          text_string_span(macro->parameters[place])))
            return true;
    return false;
}

/* The parameters of a macro behind "(", with their defaults. */
static void parse_parameters(struct text_parser *parser, struct text_macro *macro)
{
    while (parser->status == TD_OK && !text_parse_take_operator(parser, ")")) {
        uint32_t place = macro->parameter_count;

        if (place == TEXT_MACRO_PARAMETERS_MAX) {
            text_parse_fail(parser, TD_LIMIT, "more than %d parameters", TEXT_MACRO_PARAMETERS_MAX);
            return;
        }
        text_parse_note_name(parser, &parser->macros);
        macro->parameters[place] = text_parse_expect_name(parser);
        if (has_parameter(macro, place))
            text_parse_fail(parser, TD_INVALID, "two parameters of the same name");
        if (text_parse_take_operator(parser, "="))
            macro->defaults[place] = text_parse_expression(parser);
        else if (place > 0 && macro->defaults[place - 1] != NULL)
            text_parse_fail(parser, TD_INVALID, "a parameter without default behind one with it");
        macro->parameter_count++;
        if (!text_parse_at_operator(parser, ")"))
            text_parse_expect_operator(parser, ",");
    }
}

static void parse_macro(struct text_parser *parser, struct text_statement *statement)
{
    static const char *const enders[] = {"endmacro", NULL};
    struct text_macro *macro = text_parse_alloc(parser, 1, sizeof *macro);
    uint32_t loops = parser->loops;

    if (macro == NULL)
        return;
    if (parser->scopes > 0) /* it could outlive the variables it sees */
        text_parse_fail(parser, TD_UNSUPPORTED, "a macro inside of another block is not supported");
    if (parser->next->kind == LEXEME_NAME &&
        text_builtin_find(TEXT_FUNCTIONS, parser->next->text) != NULL)
        text_parse_fail(parser, TD_UNSUPPORTED, "a macro that is named like a function");
    text_parse_note_name(parser, &parser->macros);
    macro->name = text_parse_expect_name(parser);
    text_parse_expect_operator(parser, "(");
    parse_parameters(parser, macro);
    parser->loops = 0;
    parser->in_macro = true;
    macro->body = parse_scoped_body(parser, enders);
    parser->in_macro = false;
    parser->loops = loops;
    text_parse_skip(parser); /* endmacro */
    expect_block_end(parser);
    statement->targets[0] = macro->name;
    statement->macro = macro;
}

static void parse_loop_control(struct text_parser *parser, struct text_statement *statement)
{
    (void)statement;
    if (parser->loops == 0)
        text_parse_fail(parser, TD_INVALID, "outside a for");
    expect_block_end(parser);
}

static const struct {
    const char *name;
    enum text_statement_kind kind;
    void (*parse)(struct text_parser *parser, struct text_statement *statement);
} blocks[] = {
    {"if", STATEMENT_IF, parse_if},
    {"for", STATEMENT_FOR, parse_for},
    {"set", STATEMENT_SET, parse_set},
    {"macro", STATEMENT_MACRO, parse_macro},
    {"filter", STATEMENT_FILTER, parse_filter_block},
    {"generation", STATEMENT_SCOPE, parse_generation},
    {"break", STATEMENT_BREAK, parse_loop_control},
    {"continue", STATEMENT_CONTINUE, parse_loop_control},
};

static struct text_statement *parse_block(struct text_parser *parser)
{
    struct text_statement *statement;

    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        if (!text_parse_at_name(parser, blocks[i].name))
            continue;
        statement = statement_new(parser, blocks[i].kind);
        text_parse_skip(parser);
        if (statement != NULL)
            blocks[i].parse(parser, statement);
        return statement;
    }
    text_parse_fail(parser, TD_UNSUPPORTED, "the block '%.*s' is not known",
                    (int)(parser->next->text.length < 40 ? parser->next->text.length : 40),
                    parser->next->text.length > 0 ? parser->next->text.bytes : "");
    return NULL;
}

static struct text_statement *parse_print(struct text_parser *parser)
{
    struct text_statement *statement = statement_new(parser, STATEMENT_PRINT);

    if (statement == NULL)
        return NULL;
    statement->value = text_parse_tuple(parser);
    if (parser->next->kind == LEXEME_PRINT_END)
        parser->next++;
    else
        text_parse_fail(parser, TD_INVALID, "expected '}}'");
    return statement;
}

static struct text_statement *parse_statement(struct text_parser *parser)
{
    struct text_statement *statement;

    switch (parser->next->kind) {
    case LEXEME_PRINT_BEGIN: parser->next++; return parse_print(parser);
    case LEXEME_BLOCK_BEGIN: parser->next++; return parse_block(parser);
    default:
        statement = statement_new(parser, STATEMENT_TEXT);
        if (statement != NULL)
            statement->text = text_parse_string(parser, parser->next++->text);
        return statement;
    }
}

static struct text_statement *parse_statements(struct text_parser *parser,
                                               const char *const *enders)
{
    struct text_statement *first = NULL;
    struct text_statement **place = &first;

    while (parser->next->kind != LEXEME_END && !at_block(parser, enders)) {
        struct text_statement *statement = parse_statement(parser);

        if (parser->status != TD_OK)
            return NULL;
        *place = statement;
        place = &statement->next;
    }
    return first;
}

/* Whether what is called is a macro, or may be one that was handed to a macro. */
static void check_calls(struct text_parser *parser)
{
    for (const struct parsed_name *call = parser->calls; call != NULL; call = call->next) {
        const struct parsed_name *macro = parser->macros;
        struct td_span name = call->lexeme->text;

        while (macro != NULL && !td_span_equal(macro->lexeme->text, name))
            macro = macro->next;
        if (macro != NULL)
            continue;
        parser->next = call->lexeme;
        text_parse_fail(parser, TD_UNSUPPORTED, "the function '%.*s' is not known",
                        (int)(name.length < 40 ? name.length : 40), name.bytes);
        return;
    }
}

td_status_t text_parse(struct lexemes lexemes, struct td_arena *scratch,
                       struct text_template *template, struct td_error *error)
{
    static const char *const enders[] = {NULL};
    struct text_parser parser = {
        .template = template,
        .next = lexemes.items,
        .end = lexemes.items + lexemes.count - 1,
        .scratch = scratch,
        .builder = text_builder_in(&template->arena),
        .error = error,
    };

    template->body = parse_statements(&parser, enders);
    if (parser.status == TD_OK)
        check_calls(&parser);
    return parser.status;
}
