/*
 * test_split.c: a model in several GGUF files is the same model, whichever part is opened; parts that are
 * missing, wrong, doubled or of another model are refused, with the file and the key or tensor.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/random.h"
#include "model/model.h"
#include "tests/model/gguf_build.h"

#define PARTS 3

static const struct model_shape shape = {.vocab = 11,
                                         .hidden = 8,
                                         .ffn = 12,
                                         .layers = 2,
                                         .heads = 2,
                                         .kv_heads = 1,
                                         .head_dim = 4,
                                         .type = MODEL_TYPE_F32};

/* What is wrong about one part; zero: nothing. */
struct fault {
    uint32_t part;     /* from 1 */
    uint32_t number;   /* split.no, from 1 */
    uint32_t count;    /* split.count */
    int more_tensors;  /* on split.tensors.count */
    bool has_double;   /* a tensor of part 1 again, instead of its last one */
    bool lacks_tensor; /* its last one */
    bool lacks_keys;   /* split.tensors.count */
    const char *name;  /* general.name */
};

/* The whole model, and the tensors of it that the parts are made of. */
struct parts {
    struct gguf_bytes whole;
    struct model_gguf *file;
    struct gguf_bytes part[PARTS];
    char *keys;
    size_t keys_length;
    uint64_t key_count;
    char folder[64];
};

static void add_tensor(struct gguf_build *build, const struct model_gguf_tensor *tensor)
{
    gguf_build_tensor(build, tensor->name, tensor->type, tensor->dims[0],
                      tensor->rank == 1 ? 0 : tensor->dims[1], tensor->data);
}

/* Every third tensor, so that no part has a run of them. */
static void add_tensors(struct gguf_build *build, const struct parts *parts, uint32_t index,
                        const struct fault *fault)
{
    uint32_t count = model_gguf_tensor_count(parts->file);

    for (uint32_t i = index; i < count; i += PARTS) {
        bool is_last = i + PARTS >= count;

        if (is_last && fault->lacks_tensor)
            continue;
        add_tensor(build, model_gguf_tensor_at(parts->file, is_last && fault->has_double ? 0 : i));
    }
}

static struct gguf_bytes make_part(const struct parts *parts, uint32_t index,
                                   const struct fault *fault)
{
    static const struct fault none;
    struct gguf_build build;
    uint16_t number = (uint16_t)index;
    uint16_t count = PARTS;
    int32_t tensors = (int32_t)model_gguf_tensor_count(parts->file);

    if (fault->part != index + 1)
        fault = &none;
    if (fault->number != 0)
        number = (uint16_t)(fault->number - 1);
    if (fault->count != 0)
        count = (uint16_t)fault->count;
    tensors += fault->more_tensors;
    gguf_build_init(&build);
    if (index == 0) {
        td_buf_append(&build.keys, parts->keys, parts->keys_length);
        build.key_count = parts->key_count;
    }
    gguf_build_scalar(&build, "split.no", MODEL_GGUF_U16, &number, sizeof number);
    gguf_build_scalar(&build, "split.count", MODEL_GGUF_U16, &count, sizeof count);
    if (!fault->lacks_keys)
        gguf_build_scalar(&build, "split.tensors.count", MODEL_GGUF_I32, &tensors, sizeof tensors);
    if (fault->name != NULL)
        gguf_build_text(&build, "general.name", fault->name);
    add_tensors(&build, parts, index, fault);
    return gguf_build_finish(&build);
}

static void make_parts(struct parts *parts, const struct fault *fault)
{
    struct gguf_build build;
    struct td_error error = {0};

    *parts = (struct parts){0};
    gguf_build_init(&build);
    gguf_build_model(&build, &shape);
    parts->keys_length = build.keys.length;
    parts->key_count = build.key_count;
    parts->keys = malloc(build.keys.length);
    assert_non_null(parts->keys);
    memcpy(parts->keys, build.keys.data, build.keys.length);
    parts->whole = gguf_build_finish(&build);
    if (model_gguf_parse(parts->whole.bytes, parts->whole.length, &parts->file, &error) != TD_OK)
        fail_msg("%s", error.text);
    for (uint32_t i = 0; i < PARTS; i++)
        parts->part[i] = make_part(parts, i, fault);
}

static const char *part_path(const struct parts *parts, uint32_t index)
{
    static char path[128];

    snprintf(path, sizeof path, "%s/model-%05u-of-%05u.gguf", parts->folder, index + 1, PARTS);
    return path;
}

static void write_file(const char *path, const uint8_t *bytes, size_t length)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static void write_parts(struct parts *parts)
{
    snprintf(parts->folder, sizeof parts->folder, "/tmp/tandem-split-XXXXXX");
    assert_non_null(mkdtemp(parts->folder));
    for (uint32_t i = 0; i < PARTS; i++)
        write_file(part_path(parts, i), parts->part[i].bytes, parts->part[i].length);
}

static void free_parts(struct parts *parts)
{
    for (uint32_t i = 0; i < PARTS; i++) {
        if (parts->folder[0] != '\0')
            unlink(part_path(parts, i));
        free(parts->part[i].bytes);
    }
    if (parts->folder[0] != '\0')
        rmdir(parts->folder);
    model_gguf_close(parts->file);
    free(parts->whole.bytes);
    free(parts->keys);
}

/* ---- what is right ---- */

static void check_same(const struct model_gguf *whole, const struct model_gguf *joined)
{
    assert_int_equal(model_gguf_part_count(joined), PARTS);
    assert_int_equal(model_gguf_tensor_count(joined), model_gguf_tensor_count(whole));
    for (uint32_t i = 0; i < model_gguf_tensor_count(whole); i++) {
        const struct model_gguf_tensor *expected = model_gguf_tensor_at(whole, i);
        const struct model_gguf_tensor *actual = model_gguf_tensor(joined, expected->name);

        assert_non_null(actual);
        assert_int_equal(actual->bytes, expected->bytes);
        assert_memory_equal(actual->data, expected->data, actual->bytes);
    }
}

static void whichever_part_is_opened_the_model_is_whole(void **state)
{
    struct parts parts;
    struct td_u128 digest = {0};

    (void)state;
    make_parts(&parts, &(struct fault){0});
    write_parts(&parts);
    for (uint32_t i = 0; i < PARTS; i++) {
        struct model *model = NULL;
        struct td_error error = {0};

        if (model_open(part_path(&parts, i), &model, &error) != TD_OK)
            fail_msg("part %u: %s", i, error.text);
        check_same(parts.file, model->file);
        assert_int_equal(model->layers, shape.layers);
        if (i > 0)
            assert_true(td_u128_equal(digest, model->weights_digest));
        digest = model->weights_digest;
        model_close(model);
    }
    free_parts(&parts);
}

/* A byte of any part changes the digest. */
static void the_digest_covers_all_parts(void **state)
{
    struct parts parts;
    struct td_u128 digests[PARTS + 1];

    (void)state;
    make_parts(&parts, &(struct fault){0});
    write_parts(&parts);
    for (uint32_t i = 0; i <= PARTS; i++) {
        struct model *model = NULL;

        if (i > 0) {
            parts.part[i - 1].bytes[parts.part[i - 1].length - 1] ^= 1;
            write_file(part_path(&parts, i - 1), parts.part[i - 1].bytes, parts.part[i - 1].length);
        }
        assert_int_equal(model_open(part_path(&parts, 0), &model, NULL), TD_OK);
        digests[i] = model->weights_digest;
        for (uint32_t j = 0; j < i; j++)
            assert_false(td_u128_equal(digests[i], digests[j]));
        model_close(model);
    }
    free_parts(&parts);
}

/* ---- what is wrong ---- */

static void check_open_refused(const char *path, td_status_t status, const char *first,
                               const char *second)
{
    struct model *model = NULL;
    struct td_error error = {0};
    td_status_t actual = model_open(path, &model, &error);

    if (actual != status || strstr(error.text, first) == NULL || strstr(error.text, second) == NULL)
        fail_msg("expected status %d with \"%s\" and \"%s\", got %d: %s", (int)status, first,
                 second, (int)actual, error.text);
    assert_null(model);
}

static void faults_of_parts_are_refused_by_file_and_key(void **state)
{
    static const struct {
        struct fault fault;
        const char *part;
        const char *reason;
    } cases[] = {
        {{.part = 2, .number = 3}, "part 2", "key split.no is 2 where 1 was expected"},
        {{.part = 3, .count = 4}, "part 3", "key split.count is 4 where 3 was expected"},
        {{.part = 2, .more_tensors = 1}, "part 2", "key split.tensors.count is"},
        {{.part = 2, .lacks_keys = true}, "part 2", "key split.tensors.count is missing"},
        {{.part = 3, .has_double = true}, "part 3: tensor token_embd.weight", "part 1 already"},
        {{.part = 3, .lacks_tensor = true}, "key split.tensors.count", "the parts have"},
        {{.part = 2, .name = "other"}, "part 2", "key general.name is not as in part 1"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct parts parts;

        make_parts(&parts, &cases[i].fault);
        write_parts(&parts);
        check_open_refused(part_path(&parts, 0), TD_INVALID, cases[i].part, cases[i].reason);
        check_open_refused(part_path(&parts, 0), TD_INVALID, parts.folder, cases[i].reason);
        free_parts(&parts);
    }
}

static void files_that_are_missing_cut_or_misnamed_are_named(void **state)
{
    struct parts parts;
    char path[128];

    (void)state;
    make_parts(&parts, &(struct fault){0});
    write_parts(&parts);
    assert_int_equal(truncate(part_path(&parts, 2), (off_t)parts.part[2].length - 1), 0);
    check_open_refused(part_path(&parts, 0), TD_INVALID, "model-00003-of-00003.gguf", "tensor ");
    unlink(part_path(&parts, 1));
    check_open_refused(part_path(&parts, 0), TD_IO, "part 2 of 3", "model-00002-of-00003.gguf");
    /* the name says one part, the file another */
    write_file(part_path(&parts, 1), parts.part[0].bytes, parts.part[0].length);
    check_open_refused(part_path(&parts, 1), TD_INVALID, "part 1 of 3", "-00001-of-00003.gguf");
    snprintf(path, sizeof path, "%s/model.gguf", parts.folder);
    write_file(path, parts.part[0].bytes, parts.part[0].length);
    check_open_refused(path, TD_INVALID, "part 1 of 3", "-00001-of-00003.gguf");
    unlink(path);
    free_parts(&parts);
}

static void hostile_numbers_of_parts_are_refused(void **state)
{
    static const struct fault faults[] = {
        {.part = 1, .number = 65536}, {.part = 1, .count = 65535}, {.part = 1, .count = 2}};
    static const td_status_t statuses[] = {TD_INVALID, TD_LIMIT, TD_INVALID};

    (void)state;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        struct parts parts;

        make_parts(&parts, &faults[i]);
        write_parts(&parts);
        check_open_refused(part_path(&parts, 0), statuses[i], "model-00001-of-00003.gguf",
                           "split.");
        free_parts(&parts);
    }
}

static void one_part_alone_is_no_model(void **state)
{
    struct parts parts;
    struct model_gguf *file = NULL;
    struct model *model = NULL;
    struct td_error error = {0};

    (void)state;
    make_parts(&parts, &(struct fault){0});
    assert_int_equal(model_gguf_parse(parts.part[0].bytes, parts.part[0].length, &file, &error),
                     TD_OK);
    assert_int_equal(model_from_gguf(file, &model, &error), TD_INVALID);
    assert_non_null(strstr(error.text, "key split.count is 3"));
    model_gguf_close(file);
    free_parts(&parts);
}

/* Any bytes of the second part that still are a GGUF file either join or are refused with a reason. */
static void changed_parts_never_do_harm(void **state)
{
    struct parts parts;
    struct td_rng rng;
    uint32_t joined = 0;

    (void)state;
    td_rng_init(&rng, 11);
    make_parts(&parts, &(struct fault){0});
    for (uint32_t round = 0; round < 3000; round++) {
        struct model_gguf *files[PARTS] = {0};
        struct gguf_bytes *part = &parts.part[1];
        uint64_t place = td_rng_below(&rng, part->header_length);
        uint8_t before = part->bytes[place];
        struct td_error error = {0};
        uint32_t open = 0;

        part->bytes[place] = (uint8_t)td_rng_next(&rng);
        while (open < PARTS && model_gguf_parse(parts.part[open].bytes, parts.part[open].length,
                                                &files[open], &error) == TD_OK)
            open++;
        if (open == PARTS && model_gguf_join(files, PARTS, &error) == TD_OK) {
            joined++;
            open = 1; /* the others are the first one's */
        } else {
            assert_true(error.text[0] != '\0');
        }
        for (uint32_t i = 0; i < open; i++)
            model_gguf_close(files[i]);
        part->bytes[place] = before;
    }
    assert_true(joined > 0 && joined < 3000);
    free_parts(&parts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whichever_part_is_opened_the_model_is_whole),
        cmocka_unit_test(the_digest_covers_all_parts),
        cmocka_unit_test(faults_of_parts_are_refused_by_file_and_key),
        cmocka_unit_test(files_that_are_missing_cut_or_misnamed_are_named),
        cmocka_unit_test(hostile_numbers_of_parts_are_refused),
        cmocka_unit_test(one_part_alone_is_no_model),
        cmocka_unit_test(changed_parts_never_do_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
