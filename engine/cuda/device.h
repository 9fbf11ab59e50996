/*
 * device.h: a device that has memory of its own and runs kernels in order: a GPU (gpu.h) or the interpreter.
 *
 * What the backend needs of either, and nothing else. Copies and launches are put into one queue and run in its
 * order; only cuda_device_wait waits. A device that has failed once stays failed: what follows does nothing, and
 * waiting returns the first error, whose text names the call and the kernel. So who queues work checks once, at the
 * end. One thread at a time.
 *
 * With launches_early a kernel may begin while the one launched before it still runs, where the device can do that and
 * kernels were made for it; they wait by themselves before they touch what others write (kernels/simt.h), so nobody else sees
 * a difference: copies, marks and graphs behind a kernel come after its end, and so after that of all before it.
 *
 * What is launched between capture and capture_end does not run, but is recorded as a graph, which replay queues as a
 * whole: the same kernels with the same arguments. What cannot be recorded is no failure of the device.
 */
#ifndef TANDEM_ENGINE_CUDA_DEVICE_H
#define TANDEM_ENGINE_CUDA_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/cuda/kernels/args.h"
#include "lib/base/status.h"

struct cuda_device_info {
    char name[128];
    char description[128]; /* compute capability, driver: for people */
    size_t memory_bytes;
    uint32_t multiprocessors; /* which run blocks at once */
    bool has_warpgroups;      /* runs product_wide */
    bool is_interpreted;
};

struct cuda_grid {
    uint32_t x;
    uint32_t y;
    uint32_t z;
};

#define CUDA_DENSE_ALIGNMENT \
    16 /* of y in bytes; other pointers have that of memory that was taken */

/* y[token][row] (+)= matrix[row] * x[token] + bias[row]; all bf16 but y and bias. */
struct cuda_dense {
    const uint16_t *matrix; /* [rows][columns] */
    const uint16_t *x;      /* [tokens][columns] */
    const float *bias;      /* NULL: none */
    float *y;               /* [tokens][stride] */
    uint32_t rows;
    uint32_t columns;
    uint32_t stride;
    uint32_t tokens;
    bool is_added; /* to what y holds */
};

struct cuda_device;
struct cuda_graph; /* the device's own */

#define CUDA_MARKS 16

/*
 * None of these is called after a failure, but for give, give_host, drop_graph and close; of a device that hangs close alone,
 * which must not wait for what runs there.
 */
struct cuda_device_ops {
    td_status_t (*free_bytes)(struct cuda_device *device, size_t *bytes_out,
                              struct td_error *error);
    td_status_t (*take)(struct cuda_device *device, size_t bytes, void **memory_out,
                        struct td_error *error);
    void (*give)(struct cuda_device *device, void *memory);
    td_status_t (*take_host)(struct cuda_device *device, size_t bytes, void **memory_out,
                             struct td_error *error);
    void (*give_host)(struct cuda_device *device, void *memory);
    td_status_t (*upload)(struct cuda_device *device, void *to, const void *from, size_t bytes,
                          struct td_error *error);
    td_status_t (*download)(struct cuda_device *device, void *to, const void *from, size_t bytes,
                            struct td_error *error);
    td_status_t (*launch)(struct cuda_device *device, enum cuda_kernel kernel,
                          struct cuda_grid grid, const void *args, struct td_error *error);
    td_status_t (*open_dense)(struct cuda_device *device, void *workspace, size_t bytes,
                              struct td_error *error); /* NULL: it has no library */
    td_status_t (*dense)(struct cuda_device *device, const struct cuda_dense *dense,
                         struct td_error *error);
    td_status_t (*wait)(struct cuda_device *device, struct td_error *error);
    /* TD_AGAIN: the queue is not done yet. */
    td_status_t (*poll)(struct cuda_device *device, struct td_error *error);
    td_status_t (*mark)(struct cuda_device *device, uint32_t mark, struct td_error *error);
    td_status_t (*wait_mark)(struct cuda_device *device, uint32_t mark, struct td_error *error);
    td_status_t (*capture)(struct cuda_device *device, struct td_error *error);
    /* Ends recording in any case; graph_out NULL: what was recorded is not wanted. */
    td_status_t (*capture_end)(struct cuda_device *device, struct cuda_graph **graph_out,
                               struct td_error *error);
    td_status_t (*replay)(struct cuda_device *device, struct cuda_graph *graph,
                          struct td_error *error);
    void (*drop_graph)(struct cuda_device *device, struct cuda_graph *graph);
    void (*close)(struct cuda_device *device);
};

/* Devices embed this as their first member. */
struct cuda_device {
    const struct cuda_device_ops *ops;
    struct cuda_device_info info;
    struct td_error failure; /* the first; status TD_OK: none */
    bool launches_early;     /* may be changed at any time, for launches from then on */
    bool is_hung;            /* failed by cuda_device_wait_within */
    bool is_recording;
    struct td_error unrecorded; /* the first failure to record, in the present capture */
};

/* Bytes that can still be taken. */
td_status_t cuda_device_free_bytes(struct cuda_device *device, size_t *bytes_out,
                                   struct td_error *error) TD_MUST_USE;

/* Memory of the device, aligned to 256 bytes at least. A lack of memory is TD_NO_MEMORY and no failure of the device. */
td_status_t cuda_device_take(struct cuda_device *device, size_t bytes, void **memory_out,
                             struct td_error *error) TD_MUST_USE;
void cuda_device_give(struct cuda_device *device, void *memory); /* NULL: nothing */

/* Memory of the host that the device can read and write while the caller does something else. */
td_status_t cuda_device_take_host(struct cuda_device *device, size_t bytes, void **memory_out,
                                  struct td_error *error) TD_MUST_USE;
void cuda_device_give_host(struct cuda_device *device, void *memory);

/* Queue a copy. Host memory of cuda_device_take_host must stay as it is until the queue is done. */
void cuda_device_upload(struct cuda_device *device, void *to, const void *from, size_t bytes);
void cuda_device_download(struct cuda_device *device, void *to, const void *from, size_t bytes);

/* Queue a kernel; args is its struct of kernels/args.h, copied. A grid with a zero launches nothing. */
void cuda_device_launch(struct cuda_device *device, enum cuda_kernel kernel, struct cuda_grid grid,
                        const void *args);

/*
 * Products by the device's library, for the fast variant (fast.h). open_dense finds it, once, and lends it memory of the
 * device; TD_NOT_FOUND, TD_UNSUPPORTED: there is none, and why. dense queues a product.
 */
td_status_t cuda_device_open_dense(struct cuda_device *device, void *workspace, size_t bytes,
                                   struct td_error *error) TD_MUST_USE;
void cuda_device_dense(struct cuda_device *device, const struct cuda_dense *dense);

/*
 * Marks where the queue now ends, mark below CUDA_MARKS; later wait for what was queued before. A mark that was never set
 * is reached at once. The device's first failure, as cuda_device_wait.
 */
void cuda_device_mark(struct cuda_device *device, uint32_t mark);
td_status_t cuda_device_wait_mark(struct cuda_device *device, uint32_t mark,
                                  struct td_error *error) TD_MUST_USE;

/*
 * Recording, see above. Only launches and products may come between; with TD_OK of capture, capture_end must follow, whose TD_OK gives
 * a graph. It may be dropped when no replay of it is queued, and must be before the device is closed.
 */
td_status_t cuda_device_capture(struct cuda_device *device, struct td_error *error) TD_MUST_USE;
td_status_t cuda_device_capture_end(struct cuda_device *device, struct cuda_graph **graph_out,
                                    struct td_error *error) TD_MUST_USE;
void cuda_device_replay(struct cuda_device *device, struct cuda_graph *graph);
void cuda_device_drop_graph(struct cuda_device *device, struct cuda_graph *graph);

/* Waits until the queue is done. TD_INTERNAL, TD_PEER_LOST or TD_NO_MEMORY with the first failure's text. */
td_status_t cuda_device_wait(struct cuda_device *device, struct td_error *error) TD_MUST_USE;

/*
 * The same, for so long at most. TD_TIMEOUT: it hangs. Giving memory back would wait for ever, so that of a device that hangs
 * stays taken until the process ends, which is what to do then.
 */
td_status_t cuda_device_wait_within(struct cuda_device *device, uint64_t limit_ns,
                                    struct td_error *error) TD_MUST_USE;

void cuda_device_close(struct cuda_device *device); /* NULL: nothing */

#endif
