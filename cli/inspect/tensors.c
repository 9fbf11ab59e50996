/* tensors.c: the tensors of a model, one by one and by type, see parts.h. */
#include <inttypes.h>
#include <string.h>

#include "cli/inspect/parts.h"
#include "model/show.h"

/* ---- where they come from ---- */

static bool look_at_vector(const struct model *model, const struct model_role *role,
                           const float *const *vector, struct inspect_tensor *tensor)
{
    tensor->type = "F32";
    tensor->rows = 1;
    tensor->columns = model_extent_count(model, role->columns);
    tensor->bytes = tensor->columns * sizeof(float);
    return *vector != NULL;
}

static bool look_at_matrix(const struct model *model, const struct model_matrix *matrix,
                           struct inspect_tensor *tensor)
{
    bool is_tied = matrix == &model->output && matrix->data == model->embedding.data;

    if (matrix->data == NULL || is_tied)
        return false;
    tensor->type = model_type_info((uint32_t)matrix->type)->name;
    tensor->rows = matrix->rows;
    tensor->columns = matrix->columns;
    tensor->bytes = (uint64_t)matrix->rows * matrix->row_bytes;
    return true;
}

/* One role in one place; false: the model does not have it. */
static bool look_at(const struct model *model, const struct model_role *role, const void *place,
                    struct inspect_tensor *tensor)
{
    return role->rows == MODEL_EXTENT_NONE ? look_at_vector(model, role, place, tensor)
                                           : look_at_matrix(model, place, tensor);
}

void inspect_each_of_model(const struct model *model, bool has_hf_names, inspect_tensor_fn see,
                           void *ctx)
{
    const struct model_role *role;

    for (uint32_t layer = 0; layer < model->layers || layer == 0; layer++)
        for (size_t i = 0; (role = model_role_at(i)) != NULL; i++) {
            const char *base =
                role->is_of_layer ? (const char *)&model->layer[layer] : (const char *)model;
            struct inspect_tensor tensor;

            if ((!role->is_of_layer && layer > 0) ||
                !look_at(model, role, base + role->offset, &tensor))
                continue;
            model_role_name(role, has_hf_names, layer, tensor.name);
            see(ctx, &tensor);
        }
}

void inspect_each_of_gguf(const struct model_gguf *file, inspect_tensor_fn see, void *ctx)
{
    for (uint32_t i = 0; i < model_gguf_tensor_count(file); i++) {
        const struct model_gguf_tensor *found = model_gguf_tensor_at(file, i);
        struct inspect_tensor tensor = {.type = model_type_info(found->type)->name,
                                        .rows = found->dims[1] * found->dims[2] * found->dims[3],
                                        .columns = found->dims[0],
                                        .bytes = found->bytes};

        model_show(td_span_of(found->name), tensor.name, sizeof tensor.name);
        see(ctx, &tensor);
    }
}

/* ---- by type ---- */

static void count(struct inspect_tally *tally, const struct inspect_tensor *tensor)
{
    tally->tensors++;
    tally->values += tensor->rows * tensor->columns;
    tally->bytes += tensor->bytes;
}

void inspect_tally(void *ctx, const struct inspect_tensor *tensor)
{
    struct inspect_tallies *tallies = ctx;
    uint32_t i = 0;

    while (i < tallies->count && strcmp(tallies->types[i].type, tensor->type) != 0)
        i++;
    if (i == INSPECT_TYPES_MAX)
        return; /* there are fewer types than that */
    if (i == tallies->count)
        tallies->types[tallies->count++].type = tensor->type;
    count(&tallies->types[i], tensor);
    count(&tallies->all, tensor);
}

static double share(const struct inspect_tallies *tallies, const struct inspect_tally *tally)
{
    return tallies->all.bytes == 0 ? 0.0 : (double)tally->bytes / (double)tallies->all.bytes;
}

static void put_tally(struct cli_sheet *sheet, const struct inspect_tallies *tallies,
                      const struct inspect_tally *tally)
{
    char values[CLI_AMOUNT_BYTES];
    char bytes[CLI_AMOUNT_BYTES];

    if (sheet->is_json) {
        td_json_begin_object(&sheet->json, NULL);
        td_json_put_text(&sheet->json, "type", tally->type);
        td_json_put_uint(&sheet->json, "tensors", tally->tensors);
        td_json_put_uint(&sheet->json, "values", tally->values);
        td_json_put_uint(&sheet->json, "bytes", tally->bytes);
        td_json_put_double(&sheet->json, "share", share(tallies, tally));
        td_json_end(&sheet->json);
        return;
    }
    cli_sheet_say(sheet, tally->type, "%5" PRIu64 " %s, %s values, %s, %.1f %%", tally->tensors,
                  tally->tensors == 1 ? "tensor" : "tensors", cli_show_count(tally->values, values),
                  cli_show_bytes(tally->bytes, bytes), 100.0 * share(tallies, tally));
}

void inspect_put_tallies(struct cli_sheet *sheet, const struct inspect_tallies *tallies)
{
    cli_sheet_begin(sheet, "tensors", "Tensors");
    cli_sheet_count(sheet, "count", NULL, tallies->all.tensors);
    cli_sheet_count(sheet, "values", NULL, tallies->all.values);
    cli_sheet_bytes(sheet, "bytes", NULL, tallies->all.bytes);
    cli_sheet_begin_list(sheet, "types");
    for (uint32_t i = 0; i < tallies->count; i++)
        put_tally(sheet, tallies, &tallies->types[i]);
    cli_sheet_end_list(sheet);
}

void inspect_put_tensor(void *ctx, const struct inspect_tensor *tensor)
{
    struct cli_sheet *sheet = ctx;
    char bytes[CLI_AMOUNT_BYTES];

    if (sheet->is_json) {
        td_json_begin_object(&sheet->json, NULL);
        td_json_put_text(&sheet->json, "name", tensor->name);
        td_json_put_text(&sheet->json, "type", tensor->type);
        td_json_put_uint(&sheet->json, "rows", tensor->rows);
        td_json_put_uint(&sheet->json, "columns", tensor->columns);
        td_json_put_uint(&sheet->json, "bytes", tensor->bytes);
        td_json_end(&sheet->json);
        return;
    }
    td_buf_printf(&sheet->out, "  %-47s %-4s %6" PRIu64 " x %-6" PRIu64 " %8s\n", tensor->name,
                  tensor->type, tensor->rows, tensor->columns,
                  cli_show_bytes(tensor->bytes, bytes));
}
