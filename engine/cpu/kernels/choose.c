/* choose.c: which kernels this processor can run; see engine/cpu/kernels.h. */
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/kernels.h"

static const struct cpu_kernels reference = {.name = "reference",
                                             .products = &cpu_product_reference,
                                             .attention = &cpu_attention_reference,
                                             .rows = &cpu_row_reference};

#ifdef __x86_64__
#include <cpuid.h>

static const struct cpu_kernels avx2 = {.name = "avx2",
                                        .products = &cpu_product_avx2,
                                        .attention = &cpu_attention_avx2,
                                        .rows = &cpu_row_avx2};
static const struct cpu_kernels avx512 = {.name = "avx512",
                                          .products = &cpu_product_avx512,
                                          .attention = &cpu_attention_avx512,
                                          .rows = &cpu_row_avx512};
static const struct cpu_kernels vnni = {.name = "vnni",
                                        .products = &cpu_product_vnni,
                                        .attention = &cpu_attention_vnni,
                                        .rows = &cpu_row_avx512};
static const struct cpu_kernels bf16 = {.name = "bf16",
                                        .products = &cpu_product_bf16,
                                        .attention = &cpu_attention_vnni,
                                        .rows = &cpu_row_avx512};

static bool has_f16c(void)
{
    unsigned a;
    unsigned b;
    unsigned c;
    unsigned d;

    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

/* These builtins also ask whether the system saves the registers. */
static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

static bool has_vnni(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512vnni");
}

static bool has_bf16(void)
{
    return has_vnni() && __builtin_cpu_supports("avx512bf16");
}
#endif

uint32_t cpu_kernels_available(const struct cpu_kernels *kernels_out[static CPU_KERNELS_MAX])
{
    uint32_t count = 0;

    kernels_out[count++] = &reference;
#ifdef __x86_64__
    if (has_avx2())
        kernels_out[count++] = &avx2;
    if (has_avx512())
        kernels_out[count++] = &avx512;
    if (has_vnni())
        kernels_out[count++] = &vnni;
    if (has_bf16())
        kernels_out[count++] = &bf16;
#endif
    return count;
}

td_status_t cpu_kernels_choose(const char *name, const struct cpu_kernels **kernels_out,
                               struct td_error *error)
{
    const struct cpu_kernels *available[CPU_KERNELS_MAX];
    uint32_t count = cpu_kernels_available(available);

    if (name == NULL) {
        *kernels_out = available[count - 1];
        return TD_OK;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(name, available[i]->name) == 0) {
            *kernels_out = available[i];
            return TD_OK;
        }
    }
    if (strcmp(name, "avx2") == 0 || strcmp(name, "avx512") == 0 || strcmp(name, "vnni") == 0 ||
        strcmp(name, "bf16") == 0)
        return td_fail(error, TD_UNSUPPORTED, "this processor cannot run the %s kernels", name);
    return td_fail(error, TD_INVALID, "%s is none of reference, avx2, avx512, vnni, bf16", name);
}

td_status_t cpu_kernels_in_use(const struct cpu_kernels **kernels_out, struct td_error *error)
{
    td_status_t status = cpu_kernels_choose(getenv("TANDEM_CPU"), kernels_out, error);

    if (status != TD_OK)
        td_fail_wrap(error, "environment variable TANDEM_CPU");
    return status;
}

const char *cpu_kernels_name(void)
{
    const struct cpu_kernels *kernels = NULL;

    return cpu_kernels_in_use(&kernels, NULL) == TD_OK ? kernels->name : "none";
}
