/* template_eval.c: running a template: statements, variables, limits; see template_eval.h. */
#include "lib/text/template_eval.h"

#include <stdio.h>
#include <stdlib.h>

#include "lib/text/source.h"
#include "lib/text/template_builtins.h"
#include "lib/text/template_lexer.h"
#include "lib/text/template_parser.h"

/*
 * Limits. A template of 256 KiB makes at most 2^18 tokens and nodes; the largest in use have 20 KiB. Rendering:
 * a statement or node costs 1, each 64 bytes that an operation looks at cost 1; the largest templates over
 * the longest prompts need some 100,000. Memory is proportional to what the caller lets the prompt take: a
 * template that joins everything in the pieces that are usual makes four copies.
 */
#define KEEP_BYTES_MAX     ((size_t)64 << 20)
#define SCRATCH_BYTES_MAX  ((size_t)128 << 20)
#define RENDER_WORK_MAX    4000000
#define RENDER_BYTES_MIN   ((size_t)4 << 20)
#define RENDER_BYTES_RATIO 16
#define WORK_BYTES         64

/* Of nodes inside each other, over all macros that are running; a level takes some 300 bytes of stack. */
#define EVAL_DEPTH_MAX 1000

td_status_t text_template_open(const char *source, size_t length,
                               struct text_template **template_out, struct td_error *error)
{
    struct text_template *template;
    struct td_arena scratch;
    struct lexemes lexemes;
    td_status_t status;

    if (length > TEXT_TEMPLATE_BYTES_MAX)
        return td_fail(error, TD_LIMIT, "%zu bytes, at most %zu", length, TEXT_TEMPLATE_BYTES_MAX);
    template = calloc(1, sizeof *template);
    if (template == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for a template");
    td_arena_init(&template->arena, KEEP_BYTES_MAX);
    td_arena_init(&scratch, SCRATCH_BYTES_MAX);
    status = text_lex(td_span_over(source, length), &template->arena, &scratch, &lexemes, error);
    if (status == TD_OK)
        status = text_parse(lexemes, &scratch, template, error);
    td_arena_fini(&scratch);
    if (status != TD_OK) {
        text_template_close(template);
        return status;
    }
    *template_out = template;
    return TD_OK;
}

void text_template_close(struct text_template *template)
{
    if (template == NULL)
        return;
    td_arena_fini(&template->arena);
    free(template);
}

/* ------------------------------------------------------------------------------------------- */

void text_eval_fail(struct text_eval *eval, uint32_t line, td_status_t status, const char *format,
                    ...)
{
    char text[220];
    va_list arguments;

    if (eval->status != TD_OK)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    eval->status = td_fail(eval->error, status, "line %u: %s", line, text);
}

bool text_eval_work(struct text_eval *eval, uint32_t line, uint64_t amount)
{
    uint64_t cost = 1 + amount / WORK_BYTES;

    if (eval->builder.status != TD_OK)
        text_eval_fail(eval, line, TD_LIMIT, "the request needs too much memory");
    if (cost > eval->work_left)
        text_eval_fail(eval, line, TD_LIMIT, "the request needs too many steps");
    if (eval->status != TD_OK)
        return false;
    eval->work_left -= cost;
    return true;
}

bool text_eval_enter(struct text_eval *eval, uint32_t line)
{
    if (eval->depth == EVAL_DEPTH_MAX) {
        text_eval_fail(eval, line, TD_LIMIT, "the request is nested too deep");
        return false;
    }
    eval->depth++;
    return true;
}

void text_eval_leave(struct text_eval *eval)
{
    eval->depth--;
}

/* ------------------------------------------------------------------------------------------- */
/* Variables */

/* Makes scope the innermost, empty; names that are not in it are looked up in parent. */
static void scope_open(struct text_eval *eval, struct text_scope *scope,
                       const struct text_scope *parent)
{
    if (eval->scope != NULL)
        eval->scope->end = eval->variable_count;
    *scope =
        (struct text_scope){.outer = eval->scope, .parent = parent, .first = eval->variable_count};
    eval->scope = scope;
}

static void scope_close(struct text_eval *eval)
{
    eval->variable_count = eval->scope->first;
    eval->scope = eval->scope->outer;
}

/* Sets a variable of the innermost scope. */
static void variable_set(struct text_eval *eval, uint32_t line, const struct text_string *name,
                         struct text_value value)
{
    struct td_span wanted = text_string_span(name);

    for (uint32_t i = eval->scope->first; i < eval->variable_count; i++)
        if (td_span_equal(text_string_span(eval->variables[i].name), wanted)) {
            eval->variables[i].value = value;
            return;
        }
    if (eval->variable_count == TEXT_VARIABLES_MAX)
        text_eval_fail(eval, line, TD_LIMIT, "more than %d variables", TEXT_VARIABLES_MAX);
    else
        eval->variables[eval->variable_count++] = (struct text_variable){name, value};
}

/* The variables a request brings; bos and eos are trusted: they are the model's own. */
static struct text_value input_variable(struct text_eval *eval, const struct text_string *name)
{
    const struct text_render_input *input = eval->input;
    struct td_span wanted = text_string_span(name);
    const struct text_builtin *function = text_builtin_find(TEXT_FUNCTIONS, wanted);
    struct text_entry *entry = NULL;

    if (function != NULL || td_span_is(wanted, "namespace") || td_span_is(wanted, "dict"))
        return (struct text_value){.kind = TEXT_FUNCTION, .function = function};
    if (td_span_is(wanted, "messages"))
        return input->messages;
    if (td_span_is(wanted, "tools"))
        return input->tools;
    if (td_span_is(wanted, "add_generation_prompt"))
        return text_value_bool(input->add_generation_prompt);
    if (td_span_is(wanted, "bos_token") && input->bos_token.length > 0)
        return text_value_of(text_string_over(&eval->builder, input->bos_token, true));
    if (td_span_is(wanted, "eos_token") && input->eos_token.length > 0)
        return text_value_of(text_string_over(&eval->builder, input->eos_token, true));
    if (input->extra.kind == TEXT_DICT)
        entry = text_dict_find(input->extra.dict, wanted);
    return entry != NULL ? entry->value
                         : (struct text_value){.kind = TEXT_UNDEFINED, .string = name};
}

struct text_value text_eval_name(struct text_eval *eval, const struct text_string *name)
{
    struct td_span wanted = text_string_span(name);

    for (const struct text_scope *scope = eval->scope; scope != NULL; scope = scope->parent) {
        uint32_t end = scope == eval->scope ? eval->variable_count : scope->end;

        for (uint32_t i = end; i > scope->first; i--)
            if (td_span_equal(text_string_span(eval->variables[i - 1].name), wanted))
                return eval->variables[i - 1].value;
    }
    return input_variable(eval, name);
}

/* ------------------------------------------------------------------------------------------- */
/* Statements */

enum flow {
    FLOW_ON,
    FLOW_BREAK,
    FLOW_CONTINUE,
};

static enum flow run(struct text_eval *eval, const struct text_statement *statement);

static void write_string(struct text_eval *eval, uint32_t line, const struct text_string *string)
{
    const char *bytes = string->bytes;

    if (!text_eval_work(eval, line, string->length))
        return;
    if (eval->capture != NULL) {
        text_list_append(&eval->builder,
                         (struct text_value){.kind = TEXT_LIST, .list = eval->capture},
                         text_value_of(string));
        return;
    }
    for (uint32_t i = 0; i < string->run_count; i++) {
        text_prompt_append(eval->prompt, bytes, string->runs[i].length, string->runs[i].trusted);
        bytes += string->runs[i].length;
    }
    if (eval->prompt->text.status != TD_OK)
        text_eval_fail(eval, line, eval->prompt->text.status, "the prompt is too long");
}

static enum flow run_if(struct text_eval *eval, const struct text_statement *statement)
{
    for (const struct text_branch *branch = statement->branches; branch != NULL;
         branch = branch->next)
        if (branch->condition == NULL ||
            text_eval_truth(text_eval_expression(eval, branch->condition)))
            return run(eval, branch->body);
    return FLOW_ON;
}

static enum flow run_scoped(struct text_eval *eval, const struct text_statement *body)
{
    struct text_scope scope;
    enum flow flow;

    scope_open(eval, &scope, eval->scope);
    flow = run(eval, body);
    scope_close(eval);
    return flow;
}

/* Gives an item to the target, or its parts to several targets. */
static void bind_targets(struct text_eval *eval, const struct text_statement *statement,
                         struct text_value item)
{
    if (statement->target_count == 1) {
        variable_set(eval, statement->line, statement->targets[0], item);
        return;
    }
    if (item.kind != TEXT_LIST || item.list->count != statement->target_count) {
        text_eval_fail(eval, statement->line, TD_INVALID, "%s cannot be taken apart into %u",
                       text_kind_name(item.kind), statement->target_count);
        return;
    }
    for (uint32_t i = 0; i < statement->target_count; i++)
        variable_set(eval, statement->line, statement->targets[i], item.list->items[i]);
}

/* The items for which the condition of a for holds. */
static const struct text_list *filter_items(struct text_eval *eval,
                                            const struct text_statement *statement,
                                            const struct text_list *items)
{
    struct text_value kept = text_value_list(&eval->builder);

    for (uint32_t i = 0; i < items->count; i++) {
        struct text_scope scope;

        if (!text_eval_work(eval, statement->line, 0))
            break;
        scope_open(eval, &scope, eval->scope);
        bind_targets(eval, statement, items->items[i]);
        if (text_eval_truth(text_eval_expression(eval, statement->condition)))
            text_list_append(&eval->builder, kept, items->items[i]);
        scope_close(eval);
    }
    return kept.kind == TEXT_LIST ? kept.list : items;
}

static enum flow run_for(struct text_eval *eval, const struct text_statement *statement)
{
    static const struct text_run loop_run = {4, true};
    static const struct text_string loop_name = {"loop", 4, 1, &loop_run};
    const struct text_list *items =
        text_eval_iterate(eval, statement->line, text_eval_expression(eval, statement->value));
    struct text_loop *loop = text_builder_alloc(&eval->builder, 1, sizeof *loop);
    enum flow flow = FLOW_ON;

    if (statement->condition != NULL)
        items = filter_items(eval, statement, items);
    if (loop == NULL)
        return FLOW_ON;
    /* On the heap: a template may keep `loop` in a namespace after the for has ended. */
    for (loop->list = items; loop->index < items->count && flow != FLOW_BREAK; loop->index++) {
        struct text_scope scope; /* each round has one of its own */

        if (!text_eval_work(eval, statement->line, 0))
            break;
        scope_open(eval, &scope, eval->scope);
        bind_targets(eval, statement, items->items[loop->index]);
        variable_set(eval, statement->line, &loop_name,
                     (struct text_value){.kind = TEXT_LOOP, .loop = loop});
        flow = run(eval, statement->body);
        scope_close(eval);
    }
    return items->count == 0 ? run_scoped(eval, statement->otherwise) : FLOW_ON;
}

static void run_set(struct text_eval *eval, const struct text_statement *statement,
                    struct text_value value)
{
    struct text_value target;
    struct text_entry *entry;

    if (statement->attribute == NULL) {
        bind_targets(eval, statement, value);
        return;
    }
    target = text_eval_name(eval, statement->targets[0]);
    if (target.kind != TEXT_NAMESPACE) {
        text_eval_fail(eval, statement->line, TD_INVALID,
                       "only attributes of a namespace can be set, not of %s",
                       text_kind_name(target.kind));
        return;
    }
    entry = text_dict_find(target.dict, text_string_span(statement->attribute));
    if (entry != NULL)
        entry->value = value;
    else
        text_dict_append(&eval->builder, target.dict, statement->attribute, value);
}

/* What the body writes, as a string. */
static struct text_value run_captured(struct text_eval *eval, const struct text_statement *body,
                                      enum flow *flow_out)
{
    struct text_list *outer = eval->capture;
    struct text_list captured = {.count = 0};
    const struct text_string **parts;

    eval->capture = &captured;
    *flow_out = run_scoped(eval, body);
    eval->capture = outer;
    parts = text_builder_alloc(&eval->builder, captured.count, sizeof *parts);
    if (parts == NULL)
        return text_value_undefined();
    for (uint32_t i = 0; i < captured.count; i++)
        parts[i] = captured.items[i].string;
    return text_value_of(text_string_join(&eval->builder, parts, captured.count));
}

/* The same, through the filters of the statement. */
static struct text_value run_filtered(struct text_eval *eval,
                                      const struct text_statement *statement, enum flow *flow_out)
{
    struct text_value text = run_captured(eval, statement->body, flow_out);

    if (statement->value == NULL || eval->status != TD_OK)
        return text;
    eval->captured = text;
    return text_eval_expression(eval, statement->value);
}

static enum flow run_set_block(struct text_eval *eval, const struct text_statement *statement)
{
    enum flow flow;
    struct text_value value = run_filtered(eval, statement, &flow);

    run_set(eval, statement, value);
    return flow;
}

static enum flow run_filter_block(struct text_eval *eval, const struct text_statement *statement)
{
    enum flow flow;
    struct text_value value = run_filtered(eval, statement, &flow);

    write_string(eval, statement->line, text_eval_print(eval, statement->line, value));
    return flow;
}

/* The place of the parameter that a call names; parameter_count: it has none. */
static uint32_t parameter_named(const struct text_macro *macro, const struct text_string *name)
{
    uint32_t place = 0;

    while (place < macro->parameter_count &&
           !td_span_equal(text_string_span(macro->parameters[place]), text_string_span(name)))
        place++;
    return place;
}

/* The arguments of a call as variables of the macro's scope, which is open. */
static void bind_arguments(struct text_eval *eval, const struct text_macro *macro,
                           const struct text_expression *call, const struct text_value *arguments)
{
    int name_length = (int)(call->name->length < 40 ? call->name->length : 40);
    bool given[TEXT_MACRO_PARAMETERS_MAX] = {false};

    for (uint32_t i = 0; i < call->item_count; i++) {
        uint32_t place = call->keywords[i] != NULL ? parameter_named(macro, call->keywords[i]) : i;

        if (place >= macro->parameter_count || given[place]) {
            text_eval_fail(eval, call->line, TD_INVALID,
                           "the macro '%.*s' does not take argument %u", name_length,
                           call->name->bytes, i + 1);
            return;
        }
        given[place] = true;
        variable_set(eval, call->line, macro->parameters[place], arguments[i]);
    }
    for (uint32_t i = 0; i < macro->parameter_count; i++)
        if (!given[i])
            variable_set(
                eval, call->line, macro->parameters[i],
                macro->defaults[i] != NULL
                    ? text_eval_expression(eval, macro->defaults[i])
                    : (struct text_value){.kind = TEXT_UNDEFINED, .string = macro->parameters[i]});
}

struct text_value text_eval_call(struct text_eval *eval, const struct text_expression *call,
                                 const struct text_value *arguments)
{
    struct text_value callee = text_eval_name(eval, call->name);
    struct text_value written;
    struct text_scope scope;
    enum flow flow;

    if (callee.kind != TEXT_MACRO)
        return text_eval_fail_kind(eval, call->line, "call", callee);
    scope_open(eval, &scope, &eval->root);
    bind_arguments(eval, callee.macro, call, arguments);
    written = run_captured(eval, callee.macro->body, &flow);
    scope_close(eval);
    return written;
}

static enum flow run_one(struct text_eval *eval, const struct text_statement *statement)
{
    switch (statement->kind) {
    case STATEMENT_TEXT: write_string(eval, statement->line, statement->text); break;
    case STATEMENT_PRINT:
        write_string(
            eval, statement->line,
            text_eval_print(eval, statement->line, text_eval_expression(eval, statement->value)));
        break;
    case STATEMENT_IF: return run_if(eval, statement);
    case STATEMENT_FOR: return run_for(eval, statement);
    case STATEMENT_SET:
        run_set(eval, statement, text_eval_expression(eval, statement->value));
        break;
    case STATEMENT_SET_BLOCK: return run_set_block(eval, statement);
    case STATEMENT_FILTER: return run_filter_block(eval, statement);
    case STATEMENT_SCOPE: return run_scoped(eval, statement->body);
    case STATEMENT_MACRO:
        variable_set(eval, statement->line, statement->macro->name,
                     (struct text_value){.kind = TEXT_MACRO, .macro = statement->macro});
        break;
    case STATEMENT_BREAK: return FLOW_BREAK;
    case STATEMENT_CONTINUE: return FLOW_CONTINUE;
    }
    return FLOW_ON;
}

static enum flow run(struct text_eval *eval, const struct text_statement *statement)
{
    enum flow flow = FLOW_ON;

    if (statement == NULL || !text_eval_enter(eval, statement->line))
        return FLOW_ON;
    for (; statement != NULL && flow == FLOW_ON; statement = statement->next) {
        if (!text_eval_work(eval, statement->line, 0))
            break;
        flow = run_one(eval, statement);
    }
    text_eval_leave(eval);
    return flow;
}

bool text_template_names_developer(const struct text_template *template)
{
    return template->names_developer;
}

td_status_t text_template_render(const struct text_template *template,
                                 const struct text_render_input *input, struct text_prompt *prompt,
                                 struct td_error *error)
{
    struct text_eval *eval = calloc(1, sizeof *eval);
    struct td_arena arena;
    td_status_t status;

    if (eval == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for a prompt");
    td_arena_init(&arena, RENDER_BYTES_MIN + prompt->text.length_max * RENDER_BYTES_RATIO);
    eval->input = input;
    eval->builder = text_builder_in(&arena);
    eval->prompt = prompt;
    eval->work_left = RENDER_WORK_MAX;
    eval->error = error;
    scope_open(eval, &eval->root, NULL);
    run(eval, template->body);
    status = eval->status;
    if (status == TD_OK && eval->builder.status != TD_OK) /* in the very last step */
        status = td_fail(error, TD_LIMIT, "the request needs too much memory");
    td_arena_fini(&arena);
    free(eval);
    return status;
}
