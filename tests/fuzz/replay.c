/*
 * replay.c: runs a fuzz target over the files of its corpus, so that every found input stays a test.
 *
 * Besides each file as it is, every prefix at 16 evenly spread lengths is tried: a truncated
 * message is the commonest hostile input. Usage: <target>_replay FOLDER...
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PREFIXES 16

static int replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc((size_t)1 << 24);
    size_t length;

    if (file == NULL || data == NULL) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(1);
    }
    length = fread(data, 1, (size_t)1 << 24, file);
    fclose(file);
    for (size_t i = 0; i <= PREFIXES; i++) {
        size_t part = length * i / PREFIXES;
        uint8_t *exact = malloc(part > 0 ? part : 1); /* exact size: ASan sees one byte too far */

        if (exact == NULL)
            exit(1);
        memcpy(exact, data, part);
        LLVMFuzzerTestOneInput(exact, part);
        free(exact);
    }
    free(data);
    return 1;
}

int main(int argc, char **argv)
{
    int files = 0;

    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        struct dirent *entry;
        char path[4096];

        if (folder == NULL) {
            fprintf(stderr, "no corpus at %s\n", argv[i]);
            return 1;
        }
        while ((entry = readdir(folder)) != NULL) {
            if (entry->d_name[0] == '.')
                continue;
            snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
            files += replay_file(path);
        }
        closedir(folder);
    }
    printf("%d corpus files\n", files);
    return files > 0 ? 0 : 1;
}
