/*
 * page.h: pages of docs/ whose tables are printed by the code, between <!-- name:begin --> and
 * <!-- name:end -->. A test compares; with TANDEM_WRITE_DOCS=1 it writes the page anew.
 */
#ifndef TANDEM_TESTS_SUPPORT_PAGE_H
#define TANDEM_TESTS_SUPPORT_PAGE_H

#include "lib/base/buf.h"

struct test_page_block {
    const char *name;
    void (*print)(struct td_buf *out);
};

/* Fails unless the page (its path from the root of the source) has what the code prints. */
void test_page_check(const char *path, const struct test_page_block *blocks, size_t count);

#endif
