/*
 * prose.c: see prose.h.
 *
 * Words are drawn with falling frequency, as words of real languages are, and one in eight is made up on
 * the spot, so that no cache can know them all.
 */
#include "bench/prose.h"

#include <string.h>

#include "lib/base/span.h"
#include "lib/base/utf8.h"

/* Words by their frequency; a script's made-up words are strung together from parts of these. */
struct language {
    const char *words;  /* parted by spaces */
    const char *spaces; /* between words: "" where a script has none */
    const char *stop;   /* at the end of a sentence */
};

static const struct language english = {
    "the of and to in a is that for it was on with as be by at not this but from have or had you "
    "they which one were all "
    "we her there would their will when who him been has more if no out so said what up its about "
    "into than them can only "
    "other new some could time these two may then do first any my now such like our over man me "
    "even most made after also "
    "did many before must through back years where much your way well down should because each "
    "just those people how too "
    "little state good very make world still own see men work long get here between both life "
    "being under never day same "
    "another know while last might us great old year off come since against go came right used "
    "take three",
    " ", ". "};

static const struct language code = {
    "if ( ) { } return = == ; int for const char * -> status TD_OK struct size_t length i 0 1 NULL "
    "static void uint32_t while "
    "else break case switch def self import None True lambda class print len range [ ] + - && || "
    "!= < > += ++ // # \" \"%s\" "
    "buffer->count state.position max_length parse_header write_block index next_token get_value "
    "config.json error",
    " ", ";\n        "};

static const struct language scripts[] = {
    {"и в не на я быть он с что а по это она этот к но они мы весь который из у то за свой ещё "
     "человек только время рука",
     " ", ". "},
    {"der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als größer über "
     "können müssen Straße",
     " ", ". "},
    {"và của là có một được trong người những không cho với để này đã các về như từ khi đến nước "
     "việc năm cũng ở",
     " ", ". "},
    {"天 地 人 大 中 国 年 时 生 会 可 以 我 们 他 在 这 来 学 工 作 問題 世界 電話 東京 經濟 發展 "
     "社會 科學 語言 模型 推理",
     "", "。"},
    {"の は を に が と で も する これ それ ある いる なる 日本 言葉 世界 時間 コンピュータ "
     "データ モデル 使う 書く 読む",
     "", "。"},
    {"이 그 저 것 수 있다 하다 되다 없다 사람 우리 세계 시간 언어 모델 데이터 추론 서버 요청 응답 "
     "그리고 하지만",
     " ", ". "},
    {"في من على أن إلى هذا كان التي عن مع هو بعد لا كل بين قد ذلك عند لم العالم الوقت اللغة نموذج",
     " ", ". "},
    {"के में है की और से का को पर यह नहीं एक हैं भी था कि लिए जो समय दुनिया भाषा मॉडल", " ", "। "},
    {"και το να του η της με που την από για είναι στο σε δεν θα ο τα κόσμος χρόνος γλώσσα", " ",
     ". "},
    {"של את על לא הוא זה עם כי גם היא יש אבל כל מה אם עולם זמן שפה מודל", " ", ". "},
    {"และ ที่ ใน ของ เป็น มี การ ได้ ให้ ไม่ ว่า จะ คน โลก เวลา ภาษา", "", " "},
    {"i w nie na się z że do to jest jak za od po co przez być może świat język źródło żółć", " ",
     ". "},
};

static const char *const emoji[] = {
    "😀", "😂", "🔥", "👍🏽", "👨\u200d👩\u200d👧", "🇫🇷", "❤️", "✨", "🎉", "🤖", "☕", "🚀"};

static const char *const names[] = {"english", "code", "scripts", "digits", "emoji", "mixed"};

const char *bench_prose_name(enum bench_prose kind)
{
    return names[kind];
}

/* The word of a language with this number, counted around. */
static struct td_span word_at(const struct language *language, size_t number)
{
    const char *word = language->words;

    while (number-- > 0) {
        word += strcspn(word, " ");
        word = *word == '\0' ? language->words : word + 1;
    }
    return td_span_over(word, strcspn(word, " "));
}

/* The smaller of two draws: the first words come far more often than the last. */
static struct td_span draw_word(const struct language *language, struct td_rng *rng)
{
    size_t a = td_rng_below(rng, 120);
    size_t b = td_rng_below(rng, 120);

    return word_at(language, a < b ? a : b);
}

/* A word that is in no list: the beginning of one and all of another, cut between characters. */
static void append_made_up(const struct language *language, struct td_rng *rng, struct td_buf *out)
{
    struct td_span head = draw_word(language, rng);
    struct td_span tail = draw_word(language, rng);
    size_t cut = head.length == 0 ? 0 : td_rng_below(rng, head.length);

    while (cut > 0 && ((uint8_t)head.bytes[cut] & 0xC0) == 0x80)
        cut--;
    td_buf_append(out, head.bytes, cut);
    td_buf_append(out, tail.bytes, tail.length);
}

static void append_sentence(const struct language *language, struct td_rng *rng, struct td_buf *out)
{
    for (size_t words = 4 + td_rng_below(rng, 16); words > 0; words--) {
        struct td_span word = draw_word(language, rng);

        if (td_rng_below(rng, 8) == 0)
            append_made_up(language, rng, out);
        else
            td_buf_append(out, word.bytes, word.length);
        td_buf_append_text(out, words > 1 ? language->spaces : language->stop);
    }
}

static void append_digits(struct td_rng *rng, struct td_buf *out)
{
    for (unsigned i = 0; i < 8; i++)
        td_buf_printf(out, i % 3 == 0 ? "%llu, " : "%llu.",
                      (unsigned long long)(td_rng_next(rng) >> td_rng_below(rng, 60)));
    td_buf_append_char(out, '\n');
}

static void append_emoji(struct td_rng *rng, struct td_buf *out)
{
    append_sentence(&english, rng, out);
    for (size_t count = td_rng_below(rng, 6); count > 0; count--)
        td_buf_append_text(out, emoji[td_rng_below(rng, sizeof emoji / sizeof emoji[0])]);
    td_buf_append_char(out, '\n');
}

static void append_piece(enum bench_prose kind, struct td_rng *rng, struct td_buf *out)
{
    switch (kind) {
    case BENCH_PROSE_ENGLISH: append_sentence(&english, rng, out); break;
    case BENCH_PROSE_CODE: append_sentence(&code, rng, out); break;
    case BENCH_PROSE_SCRIPTS:
        append_sentence(&scripts[td_rng_below(rng, sizeof scripts / sizeof scripts[0])], rng, out);
        break;
    case BENCH_PROSE_DIGITS: append_digits(rng, out); break;
    case BENCH_PROSE_EMOJI: append_emoji(rng, out); break;
    case BENCH_PROSE_MIXED:
    case BENCH_PROSE_COUNT:
        append_piece((enum bench_prose)td_rng_below(rng, BENCH_PROSE_MIXED), rng, out);
        break;
    }
}

void bench_prose_append(enum bench_prose kind, struct td_rng *rng, size_t length_max,
                        struct td_buf *out)
{
    while (out->length < length_max && out->status == TD_OK)
        append_piece(kind, rng, out);
    if (out->status != TD_OK || out->length <= length_max)
        return;
    out->length = length_max;
    while (out->length > 0 && td_utf8_is_tail(out->data[out->length]))
        out->length--;
}
