/* template_pair.c: see template_pair.h. */
#include "lib/text/template_pair.h"

#include <string.h>

/* The signs + keep newlines and blanks beside the tags as they are. */
#define BEGIN  "{% if tools +%}"
#define MIDDLE "{%+ else +%}"
#define END    "{%+ endif +%}"

_Static_assert(sizeof BEGIN + sizeof MIDDLE + sizeof END <= TEXT_TEMPLATE_PAIR_BYTES, "room");

/*
 * A template as a part of another: without what Jinja takes away at the ends of a template only, which is a newline at
 * the end, and blanks in front of a tag at the beginning.
 */
static struct td_span part_of(struct td_span text)
{
    size_t blanks = 0;

    if (text.length > 0 && text.bytes[text.length - 1] == '\n')
        text.length--;
    if (text.length > 0 && text.bytes[text.length - 1] == '\r')
        text.length--;
    while (blanks < text.length && (text.bytes[blanks] == ' ' || text.bytes[blanks] == '\t'))
        blanks++;
    if (text.length - blanks >= 3 && text.bytes[blanks] == '{' &&
        (text.bytes[blanks + 1] == '%' || text.bytes[blanks + 1] == '#') &&
        text.bytes[blanks + 2] != '+')
        return td_span_over(text.bytes + blanks, text.length - blanks);
    return text;
}

static char *put(char *out, struct td_span text)
{
    return text.length > 0 ? (char *)mempcpy(out, text.bytes, text.length) : out;
}

struct td_span text_template_pair(struct td_span plain, struct td_span with_tools, char *out)
{
    char *end = put(out, td_span_of(BEGIN));

    end = put(end, part_of(with_tools));
    end = put(end, td_span_of(MIDDLE));
    end = put(end, part_of(plain));
    end = put(end, td_span_of(END));
    return td_span_over(out, (size_t)(end - out));
}
