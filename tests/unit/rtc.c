/* SPDX-License-Identifier: BSD-3-Clause */
/* The real-time clock on a clock of the test's: time in every form, setting it, interrupts, and that
 * nothing waits where nobody asked. */
#include "base/util.h"
#include "test.h"

#include <libvmm/rtc.h>

#include <time.h>

#define NS   UINT64_C(1000000000)
#define DATE UINT64_C(1709251199) /* 2024-02-29 23:59:59, a Thursday */

struct fixture {
    uint64_t now; /* both the wall clock and the loop's */
    uint32_t level, edges;
    struct vmm_loop *loop;
    struct vmm_bus *bus;
    struct vmm_rtc *rtc;
};

static uint64_t now(void *ctx)
{
    return ((struct fixture *)ctx)->now;
}

static void set_level(void *ctx, uint32_t level)
{
    struct fixture *f = ctx;
    f->edges += level && !f->level;
    f->level = level;
}

static void begin_at(struct fixture *f, uint64_t at, int64_t offset)
{
    *f = (struct fixture){.now = at};
    struct vmm_loop_options lo = VMM_LOOP_OPTIONS_INIT;
    lo.now = now;
    lo.now_ctx = f;
    assert_int_equal(vmm_loop_new(&lo, &f->loop), 0);
    struct vmm_rtc_options o = VMM_RTC_OPTIONS_INIT;
    o.name = "rtc";
    o.loop = f->loop;
    o.clock = now;
    o.clock_ctx = f;
    o.offset = offset;
    o.memory_below_4g = UINT64_C(3) << 30;
    o.memory_above_4g = UINT64_C(5) << 30;
    assert_int_equal(vmm_irq_line_new_callback(set_level, f, &o.irq), 0);
    assert_int_equal(vmm_rtc_new(&o, &f->rtc), 0);
    assert_int_equal(vmm_bus_new("port", 16, &f->bus), 0);
    assert_int_equal(vmm_rtc_attach(f->rtc, f->bus, 0x70, NULL), 0);
}

static void begin(struct fixture *f)
{
    begin_at(f, DATE * NS, 0);
}

static void end(struct fixture *f)
{
    vmm_bus_unref(f->bus);
    vmm_rtc_unref(f->rtc);
    vmm_loop_unref(f->loop);
}

static uint32_t get(struct fixture *f, uint32_t index)
{
    uint64_t value = 0;
    assert_int_equal(vmm_bus_write(f->bus, 0x70, 1, index), 0);
    assert_int_equal(vmm_bus_read(f->bus, 0x71, 1, &value), 0);
    return (uint32_t)value;
}

static void put(struct fixture *f, uint32_t index, uint32_t value)
{
    assert_int_equal(vmm_bus_write(f->bus, 0x70, 1, index), 0);
    assert_int_equal(vmm_bus_write(f->bus, 0x71, 1, value), 0);
}

/* Let time pass in steps of `step`; returns how many timer callbacks ran. */
static int pass(struct fixture *f, uint64_t ns, uint64_t step)
{
    int callbacks = 0;
    for (uint64_t end_at = f->now + ns; f->now < end_at;) {
        f->now = f->now + step < end_at ? f->now + step : end_at;
        int n = vmm_loop_dispatch(f->loop, 0);
        assert_true(n >= 0);
        callbacks += n;
    }
    return callbacks;
}

/* Seconds to century, as the guest sees them. */
static void expect_time(struct fixture *f, uint32_t s, uint32_t m, uint32_t h, uint32_t weekday,
                        uint32_t day, uint32_t month, uint32_t year, uint32_t century)
{
    assert_int_equal(get(f, 0), s);
    assert_int_equal(get(f, 2), m);
    assert_int_equal(get(f, 4), h);
    assert_int_equal(get(f, 6), weekday);
    assert_int_equal(get(f, 7), day);
    assert_int_equal(get(f, 8), month);
    assert_int_equal(get(f, 9), year);
    assert_int_equal(get(f, 0x32), century);
}

static void time_is_given_in_every_form(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    expect_time(&f, 0x59, 0x59, 0x23, 5, 0x29, 0x02, 0x24, 0x20);
    put(&f, 0x0b, 0x06);
    expect_time(&f, 59, 59, 23, 5, 29, 2, 24, 20);
    put(&f, 0x0b, 0x04);
    expect_time(&f, 59, 59, 0x80 | 11, 5, 29, 2, 24, 20);
    put(&f, 0x0b, 0x00);
    expect_time(&f, 0x59, 0x59, 0x91, 5, 0x29, 0x02, 0x24, 0x20);
    f.now += NS;
    expect_time(&f, 0, 0, 0x12, 6, 0x01, 0x03, 0x24, 0x20);
    f.now += 12 * 3600 * NS;
    expect_time(&f, 0, 0, 0x92, 6, 0x01, 0x03, 0x24, 0x20);
    assert_int_equal(get(&f, 0x0d), 0x80);
    end(&f);
}

static void the_offset_is_applied(void **state)
{
    (void)state;
    struct fixture f;
    begin_at(&f, DATE * NS, -3600);
    expect_time(&f, 0x59, 0x59, 0x22, 5, 0x29, 0x02, 0x24, 0x20);
    end(&f);
}

/* As Linux sets it: stop by SET, write, let go. */
static void the_guest_sets_the_time(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    f.now += NS / 4;
    put(&f, 0x0b, 0x82);
    static const uint8_t bytes[][2] = {{0, 0x30}, {2, 0x15}, {4, 0x06},   {7, 0x31},
                                       {8, 0x12}, {9, 0x99}, {0x32, 0x19}};
    for (size_t i = 0; i < VMM_ARRAY_SIZE(bytes); i++)
        put(&f, bytes[i][0], bytes[i][1]);
    f.now += 10 * NS; /* stopped meanwhile */
    assert_int_equal(get(&f, 0), 0x30);
    put(&f, 0x0b, 0x02);
    expect_time(&f, 0x30, 0x15, 0x06, 6, 0x31, 0x12, 0x99, 0x19);
    f.now += NS / 2;
    assert_int_equal(get(&f, 0), 0x30);
    f.now += NS / 4; /* the fraction of a second went on */
    assert_int_equal(get(&f, 0), 0x31);
    f.now += 86400 * NS;
    expect_time(&f, 0x31, 0x15, 0x06, 7, 0x01, 0x01, 0x00, 0x20);
    end(&f);
}

static void the_divider_starts_with_half_a_second(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    put(&f, 0x0a, 0x70);
    f.now += 100 * NS + NS / 3;
    assert_int_equal(get(&f, 0), 0x59);
    put(&f, 0x0a, 0x26);
    f.now += NS / 2 - 1;
    assert_int_equal(get(&f, 0), 0x59);
    f.now += 1;
    assert_int_equal(get(&f, 0), 0x00);
    end(&f);
}

static void a_byte_can_be_set_while_it_runs(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    put(&f, 4, 0x05);
    expect_time(&f, 0x59, 0x59, 0x05, 5, 0x29, 0x02, 0x24, 0x20);
    end(&f);
}

static void any_bytes_as_time_are_survived(void **state)
{
    (void)state;
    static const uint8_t modes[] = {0x00, 0x02, 0x04, 0x06};
    static const uint8_t values[] = {0x00, 0x0f, 0x7f, 0x80, 0x99, 0xff};
    for (size_t m = 0; m < sizeof(modes); m++)
        for (size_t v = 0; v < sizeof(values); v++) {
            struct fixture f;
            begin(&f);
            put(&f, 0x0b, 0x80u | modes[m]);
            for (uint32_t i = 0; i < 10; i++)
                put(&f, i, values[v]);
            put(&f, 0x32, values[v]);
            put(&f, 0x0a, 0x23);
            put(&f, 0x0b, 0x70u | modes[m]);
            (void)pass(&f, 3 * NS, NS / 10);
            for (uint32_t i = 0; i < 128; i++)
                (void)get(&f, i);
            put(&f, 0x0b, 0x02); /* a date again: every byte a decimal one in its range */
            assert_true((get(&f, 0) & 0xf) < 10 && get(&f, 0) < 0x60);
            assert_true(get(&f, 7) >= 1 && get(&f, 7) <= 0x31);
            assert_true(get(&f, 8) >= 1 && get(&f, 8) <= 0x12);
            end(&f);
        }
}

static void update_in_progress_comes_before_the_second(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    assert_int_equal(get(&f, 0x0a), 0x26);
    f.now += NS - 244001;
    assert_int_equal(get(&f, 0x0a), 0x26);
    f.now += 1;
    assert_int_equal(get(&f, 0x0a), 0xa6);
    put(&f, 0x0b, 0x82); /* no update while SET */
    assert_int_equal(get(&f, 0x0a), 0x26);
    put(&f, 0x0a, 0xa6); /* UIP is read-only */
    assert_int_equal(get(&f, 0x0a), 0x26);
    end(&f);
}

static void flags_are_set_without_timers(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    put(&f, 1, 0xff);
    put(&f, 3, 0xff);
    put(&f, 5, 0xff);
    (void)get(&f, 0x0c);
    assert_int_equal(get(&f, 0x0c), 0);
    f.now += NS / 1024 + 1;
    assert_int_equal(get(&f, 0x0c), 0x40);
    assert_int_equal(pass(&f, 1000 * NS, 10 * NS), 0); /* nobody waits */
    assert_int_equal(get(&f, 0x0c), 0x70);
    assert_int_equal(get(&f, 0x0c), 0);
    assert_int_equal(f.edges, 0);
    end(&f);
}

static void the_update_interrupt_comes_each_second(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    f.now += NS / 3;
    put(&f, 0x0b, 0x12);
    for (uint32_t i = 1; i <= 5; i++) {
        (void)pass(&f, NS, NS / 10);
        assert_int_equal(f.level, 1);
        assert_int_equal(f.edges, i);
        assert_int_equal(get(&f, 0x0c) & 0x90, 0x90);
        assert_int_equal(f.level, 0);
    }
    end(&f);
}

/* What is not fetched is not made again: a guest that never reads C costs one callback. */
static void unfetched_interrupts_cost_nothing(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    put(&f, 0x0a, 0x23); /* 8192 Hz, the fastest */
    put(&f, 0x0b, 0x72);
    assert_int_equal(pass(&f, 10 * NS, NS / 100), 1);
    assert_int_equal(f.edges, 1);
    end(&f);
}

static void rates_are_those_of_the_data_sheet(void **state)
{
    (void)state;
    static const uint32_t hertz[16] = {0,   256, 128, 8192, 4096, 2048, 1024, 512,
                                       256, 128, 64,  32,   16,   8,    4,    2};
    for (uint32_t rate = 0; rate < 16; rate++) {
        struct fixture f;
        begin(&f);
        put(&f, 0x0a, 0x20 | rate);
        put(&f, 0x0b, 0x42);
        (void)get(&f, 0x0c);
        f.edges = 0;
        uint32_t fetched = 0;
        for (uint32_t i = 0; i < 32768; i++) { /* one second, finer than any rate */
            f.now = DATE * NS + (i + 1) * NS / 32768;
            assert_true(vmm_loop_dispatch(f.loop, 0) >= 0);
            if (f.level) {
                assert_int_equal(get(&f, 0x0c) & 0xc0, 0xc0);
                fetched++;
            }
        }
        assert_int_equal(fetched, hertz[rate]);
        assert_int_equal(f.edges, hertz[rate]);
        end(&f);
    }
}

static void no_period_without_the_time_base(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    put(&f, 0x0b, 0x42);
    put(&f, 0x0a, 0x03); /* 4 MHz: there is none */
    (void)get(&f, 0x0c);
    assert_int_equal(pass(&f, 10 * NS, NS / 100), 0);
    assert_int_equal(f.edges, 0);
    end(&f);
}

/* The alarm's time by the registers, against one found second by second. */
static void alarm_from(uint64_t from, uint32_t mode, uint32_t s, uint32_t m, uint32_t h, int want_s,
                       int want_m, int want_h)
{
    struct fixture f;
    begin_at(&f, from * NS, 0);
    put(&f, 0x0b, mode);
    put(&f, 1, s);
    put(&f, 3, m);
    put(&f, 5, h);
    put(&f, 0x0b, mode | 0x20);
    uint64_t expected = 0;
    for (uint64_t t = from + 1; !expected && t <= from + 86400; t++) {
        time_t seconds = (time_t)t;
        struct tm tm;
        gmtime_r(&seconds, &tm);
        if ((want_s < 0 || want_s == tm.tm_sec) && (want_m < 0 || want_m == tm.tm_min) &&
            (want_h < 0 || want_h == tm.tm_hour))
            expected = t;
    }
    f.now = (expected - 1) * NS + NS / 2;
    assert_true(vmm_loop_dispatch(f.loop, 0) >= 0);
    assert_int_equal(f.level, 0);
    f.now = expected * NS;
    assert_true(vmm_loop_dispatch(f.loop, 0) >= 0);
    assert_int_equal(f.level, 1);
    assert_int_equal(get(&f, 0x0c) & 0xa0, 0xa0);
    end(&f);
}

/* At the end of a day, in the middle of one, and on the alarm itself. */
static void alarm_case(uint32_t mode, uint32_t s, uint32_t m, uint32_t h, int want_s, int want_m,
                       int want_h)
{
    alarm_from(DATE, mode, s, m, h, want_s, want_m, want_h);
    alarm_from(DATE - 86399 + 12 * 3600 + 15 * 60 + 31, mode, s, m, h, want_s, want_m, want_h);
    alarm_from(DATE - 86399 + 12 * 3600 + 15 * 60 + 30, mode, s, m, h, want_s, want_m, want_h);
    alarm_from(DATE - 86399 + 7 * 3600 + 59 * 60 + 10, mode, s, m, h, want_s, want_m, want_h);
}

static void alarms_come_at_their_time(void **state)
{
    (void)state;
    alarm_case(0x02, 0x00, 0x00, 0x00, 0, 0, 0);
    alarm_case(0x02, 0x59, 0x59, 0x23, 59, 59, 23); /* the next day */
    alarm_case(0x02, 0x30, 0x15, 0x12, 30, 15, 12);
    alarm_case(0x06, 30, 15, 12, 30, 15, 12);
    alarm_case(0x00, 0x30, 0x15, 0x91, 30, 15, 23); /* 11 p.m. */
    alarm_case(0x00, 0x30, 0x15, 0x12, 30, 15, 0);  /* 12 a.m. */
    alarm_case(0x02, 0xff, 0xff, 0xff, -1, -1, -1);
    alarm_case(0x02, 0x10, 0xff, 0xff, 10, -1, -1);
    alarm_case(0x02, 0xc0, 0x59, 0xff, -1, 59, -1);
    alarm_case(0x02, 0x05, 0xff, 0x23, 5, -1, 23);
    alarm_case(0x02, 0xff, 0xff, 0x07, -1, -1, 7);
    alarm_case(0x02, 0x30, 0xff, 0xff, 30, -1, -1);
    alarm_case(0x02, 0x10, 0xff, 0x12, 10, -1, 12);
}

static void impossible_alarms_never_come(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    put(&f, 1, 0x75);
    put(&f, 3, 0xff);
    put(&f, 5, 0xff);
    put(&f, 0x0b, 0x22);
    (void)get(&f, 0x0c);
    assert_int_equal(pass(&f, 3 * 86400 * NS, 3600 * NS), 0);
    assert_int_equal(get(&f, 0x0c) & 0x20, 0);
    end(&f);
}

static void a_clock_that_goes_back_makes_no_events(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    (void)get(&f, 0x0c);
    f.now -= 1000 * NS;
    assert_int_equal(get(&f, 0x0c), 0);
    f.now += NS;
    assert_int_equal(get(&f, 0x0c) & 0x10, 0x10);
    end(&f);
}

static void cmos_holds_memory_sizes_and_bytes(void **state)
{
    (void)state;
    struct fixture f;
    uint8_t value;
    begin(&f);
    assert_int_equal(get(&f, 0x15) | get(&f, 0x16) << 8, 640);
    assert_int_equal(get(&f, 0x17) | get(&f, 0x18) << 8, 0xffff);
    assert_int_equal(get(&f, 0x34) | get(&f, 0x35) << 8, (3072 - 16) * 16);
    assert_int_equal(get(&f, 0x5b) | get(&f, 0x5c) << 8 | get(&f, 0x5d) << 16, 5 * 16384);
    uint32_t sum = 0;
    for (uint32_t i = 0x10; i <= 0x2d; i++)
        sum += get(&f, i);
    assert_int_equal(get(&f, 0x2e) << 8 | get(&f, 0x2f), sum);
    assert_int_equal(vmm_rtc_set_cmos(f.rtc, 0x10, 0x40), 0);
    assert_int_equal(get(&f, 0x2e) << 8 | get(&f, 0x2f), sum + 0x40);
    put(&f, 0x7f, 0x5a);
    assert_int_equal(vmm_rtc_get_cmos(f.rtc, 0x7f, &value), 0);
    assert_int_equal(value, 0x5a);
    assert_int_equal(get(&f, 0xff), 0x5a); /* the NMI bit is no part of the index */
    static const uint32_t bad[] = {0, 0x0a, 0x0d, 0x32, 0x80, UINT32_MAX};
    for (size_t i = 0; i < VMM_ARRAY_SIZE(bad); i++) {
        assert_int_equal(vmm_rtc_set_cmos(f.rtc, bad[i], 1), -EINVAL);
        assert_int_equal(vmm_rtc_get_cmos(f.rtc, bad[i], &value), -EINVAL);
    }
    uint64_t read = 0;
    assert_int_equal(vmm_bus_read(f.bus, 0x70, 1, &read), 0);
    assert_int_equal(read, 0xff);
    put(&f, 0x0d, 0);
    put(&f, 0x0c, 0xff);
    assert_int_equal(get(&f, 0x0d), 0x80);
    assert_int_equal(get(&f, 0x0c), 0);
    end(&f);
}

static void reset_keeps_time_and_stops_interrupts(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    put(&f, 4, 0x05);
    put(&f, 0x40, 0x77);
    put(&f, 0x0b, 0x72);
    (void)pass(&f, 2 * NS, NS / 10);
    assert_int_equal(f.level, 1);
    vmm_device_reset(vmm_rtc_device(f.rtc));
    assert_int_equal(f.level, 0);
    assert_int_equal(get(&f, 0x0b), 0x02);
    assert_int_equal(get(&f, 0x0c), 0);
    assert_int_equal(get(&f, 4), 0x06);
    assert_int_equal(get(&f, 0x40), 0x77);
    assert_int_equal(pass(&f, 100 * NS, NS), 0);
    end(&f);
}

static void *save(struct vmm_rtc *rtc, size_t *length)
{
    struct vmm_state_writer *w;
    void *data;
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(vmm_rtc_device(rtc), w), 0);
    assert_int_equal(vmm_state_writer_finish(w, &data, length), 0);
    vmm_state_writer_free(w);
    return data;
}

static int load(struct vmm_rtc *rtc, const void *data, size_t length, struct vmm_error *err)
{
    struct vmm_state_reader *r;
    assert_int_equal(vmm_state_reader_new(data, length, &r, err), 0);
    int rc = vmm_device_load(vmm_rtc_device(rtc), r, err);
    vmm_state_reader_free(r);
    return rc;
}

static void saved_state_goes_on_elsewhere(void **state)
{
    (void)state;
    struct fixture f, g;
    size_t length;
    begin(&f);
    put(&f, 4, 0x05);
    put(&f, 0x40, 0x77);
    put(&f, 0x0b, 0x12);
    (void)pass(&f, 2 * NS, NS / 10);
    put(&f, 0x0b, 0x12);
    void *data = save(f.rtc, &length);
    begin_at(&g, f.now + 10 * NS, 0);
    assert_int_equal(load(g.rtc, data, length, NULL), 0);
    assert_int_equal(g.level, 1);
    assert_int_equal(get(&g, 0x0c) & 0x90, 0x90);
    assert_int_equal(get(&g, 0x40), 0x77);
    expect_time(&g, 0x11, 0, 0x06, 5, 0x29, 0x02, 0x24, 0x20);
    (void)pass(&g, NS, NS / 10); /* its interrupts go on too */
    assert_int_equal(g.edges, 2);
    free(data);
    end(&f);
    end(&g);
}

/* One field wrong each: refused with its name, and the device as before. */
static void forged_state_is_refused(void **state)
{
    (void)state;
    static const char *const fields[] = {"index", "offset-seconds", "offset-nanoseconds", "cmos"};
    for (size_t bad = 0; bad < VMM_ARRAY_SIZE(fields); bad++) {
        struct fixture f;
        struct vmm_state_writer *w;
        struct vmm_error err = VMM_ERROR_INIT;
        uint8_t cmos[VMM_RTC_CMOS_SIZE];
        size_t length;
        void *data;
        begin(&f);
        memset(cmos, 0xff, sizeof(cmos));
        assert_int_equal(vmm_state_writer_new(&w), 0);
        assert_int_equal(vmm_state_begin(w, "rtc", 1), 0);
        vmm_state_put_u32(w, "index", bad == 0 ? 128 : 5);
        vmm_state_put_u64(w, "offset-seconds", bad == 1 ? UINT64_MAX : 0);
        vmm_state_put_u32(w, "offset-nanoseconds", bad == 2 ? 1000000000 : 0);
        vmm_state_put_bytes(w, "cmos", cmos, bad == 3 ? 127 : 128);
        vmm_state_end(w);
        assert_int_equal(vmm_state_writer_finish(w, &data, &length), 0);
        vmm_state_writer_free(w);
        assert_true(load(f.rtc, data, length, &err) < 0);
        assert_non_null(strstr(err.text, fields[bad]));
        expect_time(&f, 0x59, 0x59, 0x23, 5, 0x29, 0x02, 0x24, 0x20);
        free(data);
        end(&f);
    }
}

static void bad_options_are_refused(void **state)
{
    (void)state;
    struct vmm_rtc *rtc;
    struct fixture f = {0};
    struct vmm_rtc_options o = VMM_RTC_OPTIONS_INIT;
    assert_int_equal(vmm_rtc_new(&o, &rtc), -EINVAL); /* no name */
    o.name = "rtc";
    o.offset = INT64_MIN;
    assert_int_equal(vmm_rtc_new(&o, &rtc), -EINVAL);
    o.offset = 0;
    assert_int_equal(vmm_irq_line_new_callback(set_level, &f, &o.irq), 0);
    assert_int_equal(vmm_rtc_new(&o, &rtc), -EINVAL); /* no loop */
    vmm_irq_line_free(o.irq);
    /* The host's clock, without interrupts: a year that can be. */
    o.irq = NULL;
    assert_int_equal(vmm_rtc_new(&o, &rtc), 0);
    assert_int_equal(vmm_bus_new("port", 16, &f.bus), 0);
    assert_int_equal(vmm_rtc_attach(rtc, f.bus, 0x70, NULL), 0);
    assert_int_equal(vmm_rtc_attach(rtc, f.bus, 0x71, NULL), -EEXIST);
    put(&f, 0x0b, 0x72);
    assert_true(get(&f, 0x32) >= 0x20);
    vmm_bus_unref(f.bus);
    vmm_rtc_unref(rtc);
    assert_null(vmm_rtc_unref(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_is_given_in_every_form),
        cmocka_unit_test(the_offset_is_applied),
        cmocka_unit_test(the_guest_sets_the_time),
        cmocka_unit_test(the_divider_starts_with_half_a_second),
        cmocka_unit_test(a_byte_can_be_set_while_it_runs),
        cmocka_unit_test(any_bytes_as_time_are_survived),
        cmocka_unit_test(update_in_progress_comes_before_the_second),
        cmocka_unit_test(flags_are_set_without_timers),
        cmocka_unit_test(the_update_interrupt_comes_each_second),
        cmocka_unit_test(unfetched_interrupts_cost_nothing),
        cmocka_unit_test(rates_are_those_of_the_data_sheet),
        cmocka_unit_test(no_period_without_the_time_base),
        cmocka_unit_test(alarms_come_at_their_time),
        cmocka_unit_test(impossible_alarms_never_come),
        cmocka_unit_test(a_clock_that_goes_back_makes_no_events),
        cmocka_unit_test(cmos_holds_memory_sizes_and_bytes),
        cmocka_unit_test(reset_keeps_time_and_stops_interrupts),
        cmocka_unit_test(saved_state_goes_on_elsewhere),
        cmocka_unit_test(forged_state_is_refused),
        cmocka_unit_test(bad_options_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
