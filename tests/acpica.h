/* SPDX-License-Identifier: BSD-3-Clause */
/* ACPI tables against ACPICA's own tools: iasl disassembles and compiles them again, acpiexec loads
 * them and executes methods. */
#ifndef TESTS_ACPICA_H
#define TESTS_ACPICA_H

#include "base/util.h"
#include "test.h"

#include <unistd.h>

#define ACPICA_TABLES_MAX 16
#define ACPICA_HEADER     36u

struct acpica {
    char directory[64];
    char names[ACPICA_TABLES_MAX][16]; /* of the files, without ".dat" */
    size_t count;
};

/* Run a command in the directory; its output goes to the file "log". Returns the exit status. */
static inline int acpica_run(const struct acpica *t, const char *command)
{
    char line[1200];
    int n = snprintf(line, sizeof(line), "cd %s && timeout 60 %s >log 2>&1", t->directory, command);
    assert_true(n > 0 && (size_t)n < sizeof(line));
    int status = system(line);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The whole of a file, with a zero byte behind it; the caller frees it. */
static inline char *acpica_file(const struct acpica *t, const char *name, size_t *length)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", t->directory, name);
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("there is no %s", path);
    char *data = calloc(1, 1 << 20);
    assert_non_null(data);
    size_t n = fread(data, 1, (1 << 20) - 1, f);
    fclose(f);
    if (length)
        *length = n;
    return data;
}

/* Run a command that must succeed and say all of `words` (NULL-terminated). */
static inline void acpica_expect(const struct acpica *t, const char *command,
                                 const char *const *words)
{
    int status = acpica_run(t, command);
    char *log = acpica_file(t, "log", NULL);
    if (status != 0)
        fail_msg("%s: status %d\n%s", command, status, log);
    for (; *words; words++)
        if (!strstr(log, *words))
            fail_msg("%s does not say \"%s\":\n%s", command, *words, log);
    free(log);
}

static inline void acpica_begin(struct acpica *t)
{
    memset(t, 0, sizeof(*t));
    (void)snprintf(t->directory, sizeof(t->directory), "/tmp/libvmm-acpica-XXXXXX");
    if (system("command -v iasl >/dev/null && command -v acpiexec >/dev/null"))
        TEST_SKIP("iasl and acpiexec are missing (package acpica-tools)");
    assert_non_null(mkdtemp(t->directory));
}

static inline void acpica_end(struct acpica *t)
{
    char line[128];
    (void)snprintf(line, sizeof(line), "rm -rf %s", t->directory);
    assert_int_equal(system(line), 0);
}

static inline uint8_t acpica_sum(const uint8_t *data, size_t length)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < length; i++)
        sum = (uint8_t)(sum + data[i]);
    return sum;
}

/* Write one table to a file named after its signature. */
static inline void acpica_write(struct acpica *t, const uint8_t *table)
{
    assert_true(t->count < ACPICA_TABLES_MAX);
    char *name = t->names[t->count], path[128];
    (void)snprintf(name, sizeof(t->names[0]), "%.4s%zu", (const char *)table, t->count);
    (void)snprintf(path, sizeof(path), "%s/%s.dat", t->directory, name);
    t->count++;
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    size_t length = vmm_load_le32(table + 4);
    assert_int_equal(fwrite(table, 1, length, f), length);
    assert_int_equal(fclose(f), 0);
}

/* A table inside the image of guest memory [base, base + length), with its checksum checked. */
static inline const uint8_t *acpica_table(const uint8_t *image, uint64_t base, size_t length,
                                          uint64_t address)
{
    assert_true(address >= base && address - base <= length - ACPICA_HEADER);
    const uint8_t *table = image + (address - base);
    size_t n = vmm_load_le32(table + 4);
    assert_true(n >= ACPICA_HEADER && n <= length - (address - base));
    if (acpica_sum(table, n))
        fail_msg("the checksum of %.4s is wrong", (const char *)table);
    return table;
}

/* Follow the root pointer at the image's start as a guest does; write each table to a file. */
static inline void acpica_extract(struct acpica *t, const uint8_t *image, uint64_t base,
                                  size_t length)
{
    assert_memory_equal(image, "RSD PTR ", 8);
    assert_int_equal(acpica_sum(image, 20), 0);
    assert_int_equal(acpica_sum(image, 36), 0);
    const uint8_t *xsdt = acpica_table(image, base, length, vmm_load_le64(image + 24));
    assert_memory_equal(xsdt, "XSDT", 4);
    for (size_t at = ACPICA_HEADER; at < vmm_load_le32(xsdt + 4); at += 8) {
        const uint8_t *table = acpica_table(image, base, length, vmm_load_le64(xsdt + at));
        acpica_write(t, table);
        if (!memcmp(table, "FACP", 4))
            acpica_write(t, acpica_table(image, base, length, vmm_load_le64(table + 140)));
    }
}

/* The disassembler shows resources that are not sound as plain buffers: there must be none. */
static inline void acpica_expect_templates(const struct acpica *t, const char *name)
{
    char file[32];
    (void)snprintf(file, sizeof(file), "%s.dsl", name);
    char *text = acpica_file(t, file, NULL);
    if (strstr(text, "_CRS, Buffer"))
        fail_msg("resources that are no template:\n%s", strstr(text, "_CRS, Buffer"));
    free(text);
}

/* Each table is disassembled and compiled again, without a warning, to the same bytes (but for the
 * header, in which the compiler names itself). */
static inline void acpica_recompile(const struct acpica *t)
{
    static const char *const clean[] = {"0 Errors, 0 Warnings, 0 Remarks", NULL};
    for (size_t i = 0; i < t->count; i++) {
        const char *name = t->names[i];
        char line[256], file[32];
        (void)snprintf(line, sizeof(line), "iasl -d %s.dat", name);
        acpica_expect(t, line, (const char *const[]){".dsl", NULL});
        (void)snprintf(line, sizeof(line), "iasl -oa -p new-%s %s.dsl", name, name);
        acpica_expect(t, line, clean);
        acpica_expect_templates(t, name);
        size_t length, new_length;
        (void)snprintf(file, sizeof(file), "%s.dat", name);
        char *old = acpica_file(t, file, &length);
        (void)snprintf(file, sizeof(file), "new-%s.aml", name);
        char *new = acpica_file(t, file, &new_length);
        assert_int_equal(new_length, length);
        assert_memory_equal(new + ACPICA_HEADER, old + ACPICA_HEADER, length - ACPICA_HEADER);
        free(old);
        free(new);
    }
}

/* Load all tables into ACPICA's interpreter and execute the commands there, separated by semicolons; all
 * words must be in the output, and it must load and execute without an error. */
static inline void acpica_execute(const struct acpica *t, const char *commands,
                                  const char *const *words)
{
    char line[1024];
    int n = snprintf(line, sizeof(line), "acpiexec -b '%s'", commands);
    for (size_t i = 0; i < t->count; i++)
        n += snprintf(line + n, sizeof(line) - (size_t)n, " %s.dat", t->names[i]);
    assert_true((size_t)n < sizeof(line));
    acpica_expect(t, line, words);
    char *log = acpica_file(t, "log", NULL);
    if (strstr(log, "ACPI Error") || strstr(log, "ACPI BIOS Error") || strstr(log, "Exception") ||
        strstr(log, "ACPI Warning"))
        fail_msg("%s:\n%s", commands, log);
    free(log);
}

#endif
