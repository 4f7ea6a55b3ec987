/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MC146818A real-time clock. Register and bit names are those of the data sheet (Motorola, 1984).
 *
 * Nothing ticks. The time is the clock's plus an offset; the flags of register C are found, when
 * somebody asks, from what lies between then and the time of the last look. Only where an interrupt
 * is enabled and none is pending does a timer wait for the next event. So the fastest rate costs no
 * more than the guest that fetches each interrupt, and a guest that fetches none costs nothing.
 */
#include "base/util.h"

#include <libvmm/rtc.h>

#include <stdlib.h>
#include <time.h>

enum {
    REG_SECONDS,
    REG_SECONDS_ALARM,
    REG_MINUTES,
    REG_MINUTES_ALARM,
    REG_HOURS,
    REG_HOURS_ALARM,
    REG_WEEKDAY,
    REG_DAY,
    REG_MONTH,
    REG_YEAR,
    REG_A,
    REG_B,
    REG_C,
    REG_D,
    CLOCK_REGISTERS
};

#define A_UIP     0x80u
#define A_DV      0x70u
#define A_DV_RUN  0x20u /* 32768 Hz time base */
#define A_RS      0x0fu
#define A_DEFAULT (A_DV_RUN | 0x06u) /* 1024 Hz */

#define B_SET       0x80u
#define B_PIE       0x40u
#define B_AIE       0x20u
#define B_UIE       0x10u
#define B_SQWE      0x08u
#define B_BINARY    0x04u
#define B_24_HOURS  0x02u
#define B_INTERRUPT (B_PIE | B_AIE | B_UIE)

#define C_IRQF 0x80u
#define C_PF   0x40u
#define C_AF   0x20u
#define C_UF   0x10u

#define D_VRT 0x80u

#define HOURS_PM        0x80u
#define ALARM_DONT_CARE 0xc0u /* both bits set: any value */

#define INDEX_MASK    0x7fu
#define NS            1000000000u
#define UIP_NS        244000u /* the update follows within so long */
#define TICKS         32768   /* of the time base, in a second */
#define NEVER         INT64_MAX
#define OFFSET_MAX    (INT64_C(1) << 40) /* seconds: the years 0 to 25599 are within */
#define OPTION_OFFSET (INT64_C(1000) * 366 * 86400)

/* A time since 1970. Year 25599, which a guest can set, has more nanoseconds than 64 bits. */
struct instant {
    int64_t s;
    uint32_t ns;
};

struct vmm_rtc {
    struct vmm_device *device;
    struct vmm_irq_line *irq;
    struct vmm_loop *loop;
    struct vmm_timer *timer;
    uint64_t (*clock)(void *ctx);
    void *clock_ctx;
    struct instant offset; /* guest's time minus the clock's; ns is below a second */
    struct instant seen;   /* events up to here are in register C */
    uint8_t index;
    uint8_t cmos[VMM_RTC_CMOS_SIZE]; /* time bytes: only while it is stopped */
};

/* Time ----------------------------------------------------------------------------------------- */

static struct instant add(struct instant a, struct instant b)
{
    uint64_t ns = (uint64_t)a.ns + b.ns;
    return (struct instant){a.s + b.s + (int64_t)(ns / NS), (uint32_t)(ns % NS)};
}

static struct instant subtract(struct instant a, struct instant b)
{
    bool borrow = a.ns < b.ns;
    return (struct instant){a.s - b.s - borrow, a.ns + (borrow ? NS : 0) - b.ns};
}

static bool before(struct instant a, struct instant b)
{
    return a.s < b.s || (a.s == b.s && a.ns < b.ns);
}

/* Years before 1970 have negative seconds: these round down. */
static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}
static int64_t floor_mod(int64_t a, int64_t b)
{
    return a - floor_div(a, b) * b;
}

static struct instant clock_now(const struct vmm_rtc *rtc)
{
    if (rtc->clock) {
        uint64_t ns = rtc->clock(rtc->clock_ctx);
        return (struct instant){(int64_t)(ns / NS), (uint32_t)(ns % NS)};
    }
    struct timespec t = {0, 0};
    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (struct instant){t.tv_sec, (uint32_t)t.tv_nsec};
}

static struct instant guest_now(const struct vmm_rtc *rtc)
{
    return add(clock_now(rtc), rtc->offset);
}

static bool divider_runs(const struct vmm_rtc *rtc)
{
    return (rtc->cmos[REG_A] & A_DV) == A_DV_RUN;
}

/* Are the time bytes kept from changing? */
static bool stopped(const struct vmm_rtc *rtc)
{
    return (rtc->cmos[REG_B] & B_SET) || !divider_runs(rtc);
}

/* The bytes of time ---------------------------------------------------------------------------- */

static uint8_t encode(const struct vmm_rtc *rtc, int value)
{
    return (uint8_t)(rtc->cmos[REG_B] & B_BINARY ? value : value / 10 << 4 | value % 10);
}

static int decode(const struct vmm_rtc *rtc, uint8_t byte)
{
    return rtc->cmos[REG_B] & B_BINARY ? byte : (byte >> 4) * 10 + (byte & 0xf);
}

static uint8_t encode_hours(const struct vmm_rtc *rtc, int hours)
{
    if (rtc->cmos[REG_B] & B_24_HOURS)
        return encode(rtc, hours);
    uint8_t byte = encode(rtc, hours % 12 ? hours % 12 : 12);
    return (uint8_t)(byte | (hours >= 12 ? HOURS_PM : 0));
}

static int decode_hours(const struct vmm_rtc *rtc, uint8_t byte)
{
    if (rtc->cmos[REG_B] & B_24_HOURS)
        return decode(rtc, byte);
    int hours = decode(rtc, byte & (uint8_t)~HOURS_PM) % 12;
    return hours + (byte & HOURS_PM ? 12 : 0);
}

/* Put a time into the time bytes. */
static void write_time(struct vmm_rtc *rtc, struct instant t)
{
    struct tm tm = {0};
    time_t seconds = (time_t)t.s;
    if (!gmtime_r(&seconds, &tm))
        return;
    int year = tm.tm_year + 1900;
    rtc->cmos[REG_SECONDS] = encode(rtc, tm.tm_sec);
    rtc->cmos[REG_MINUTES] = encode(rtc, tm.tm_min);
    rtc->cmos[REG_HOURS] = encode_hours(rtc, tm.tm_hour);
    rtc->cmos[REG_WEEKDAY] = encode(rtc, tm.tm_wday + 1);
    rtc->cmos[REG_DAY] = encode(rtc, tm.tm_mday);
    rtc->cmos[REG_MONTH] = encode(rtc, tm.tm_mon + 1);
    rtc->cmos[REG_YEAR] = encode(rtc, (int)floor_mod(year, 100));
    rtc->cmos[VMM_RTC_CENTURY] = encode(rtc, (int)floor_mod(floor_div(year, 100), 100));
}

/* The time that the time bytes say, in seconds. They may hold anything: bytes that are no date come
 * out as one that is near, since timegm() carries over. */
static int64_t read_time(const struct vmm_rtc *rtc)
{
    struct tm tm = {
        .tm_sec = decode(rtc, rtc->cmos[REG_SECONDS]),
        .tm_min = decode(rtc, rtc->cmos[REG_MINUTES]),
        .tm_hour = decode_hours(rtc, rtc->cmos[REG_HOURS]),
        .tm_mday = decode(rtc, rtc->cmos[REG_DAY]),
        .tm_mon = decode(rtc, rtc->cmos[REG_MONTH]) - 1,
        .tm_year =
            decode(rtc, rtc->cmos[VMM_RTC_CENTURY]) * 100 + decode(rtc, rtc->cmos[REG_YEAR]) - 1900,
    };
    return timegm(&tm);
}

/* Let the clock go on from the time bytes. The divider goes on by itself, so the fraction of a
 * second stays; when it was held, the first update comes half a second after it is let go. */
static void take_time(struct vmm_rtc *rtc, bool divider_ran)
{
    struct instant from = {read_time(rtc), divider_ran ? guest_now(rtc).ns : NS / 2};
    rtc->offset = subtract(from, clock_now(rtc));
    rtc->seen = from;
}

/* Events --------------------------------------------------------------------------------------- */

/* The periodic interrupt's period in ticks of the time base (data sheet, table 5); 0: none. */
static int64_t period(const struct vmm_rtc *rtc)
{
    uint32_t rate = rtc->cmos[REG_A] & A_RS;
    if (rate == 0 || !divider_runs(rtc))
        return 0;
    return INT64_C(1) << (rate <= 2 ? rate + 6 : rate - 1);
}

static int64_t ticks_of(struct instant t)
{
    return t.s * TICKS + (int64_t)((uint64_t)t.ns * TICKS / NS);
}

static bool alarm_takes(const struct vmm_rtc *rtc, uint32_t reg, int value)
{
    uint8_t byte = rtc->cmos[reg];
    if (byte >= ALARM_DONT_CARE)
        return true;
    return (reg == REG_HOURS_ALARM ? decode_hours(rtc, byte) : decode(rtc, byte)) == value;
}

/* The first second of an hour or a minute, `from` to 59, that the alarm takes; 60: none. */
static int next_in(const struct vmm_rtc *rtc, uint32_t reg, int from)
{
    while (from < 60 && !alarm_takes(rtc, reg, from))
        from++;
    return from;
}

/* The alarm's next second after `second` of the day, counted from it; at most a day; 0: never. */
static int64_t until_alarm(const struct vmm_rtc *rtc, int second)
{
    int start = second + 1;
    for (int k = 0; k <= 24; k++) {
        int hour = start / 3600 + k;
        if (!alarm_takes(rtc, REG_HOURS_ALARM, hour % 24))
            continue;
        int minute = next_in(rtc, REG_MINUTES_ALARM, k ? 0 : start / 60 % 60);
        bool same = !k && minute == start / 60 % 60;
        int s = next_in(rtc, REG_SECONDS_ALARM, same ? start % 60 : 0);
        if (s == 60 && same) { /* nothing left in this minute */
            minute = next_in(rtc, REG_MINUTES_ALARM, minute + 1);
            s = next_in(rtc, REG_SECONDS_ALARM, 0);
        }
        if (minute < 60 && s < 60)
            return (hour * 60 + minute) * 60 + s - second;
    }
    return 0;
}

/* The second of the next alarm after t. */
static int64_t next_alarm(const struct vmm_rtc *rtc, int64_t t)
{
    int64_t until = until_alarm(rtc, (int)floor_mod(t, 86400));
    return until ? t + until : NEVER;
}

static void update_irq(struct vmm_rtc *rtc)
{
    bool pending = rtc->cmos[REG_B] & rtc->cmos[REG_C] & B_INTERRUPT;
    rtc->cmos[REG_C] = (uint8_t)((rtc->cmos[REG_C] & ~C_IRQF) | (pending ? C_IRQF : 0));
    (void)vmm_irq_line_set(rtc->irq, pending);
}

/* Set the flags of what has happened since the last look. */
static void catch_up(struct vmm_rtc *rtc)
{
    struct instant now = guest_now(rtc), seen = rtc->seen;
    rtc->seen = now;
    if (!before(seen, now)) /* the host's clock was set back */
        return;
    int64_t ticks = period(rtc);
    if (ticks && floor_div(ticks_of(now), ticks) != floor_div(ticks_of(seen), ticks))
        rtc->cmos[REG_C] |= C_PF;
    if (stopped(rtc) || now.s == seen.s)
        return;
    rtc->cmos[REG_C] |= C_UF;
    if (next_alarm(rtc, seen.s) <= now.s)
        rtc->cmos[REG_C] |= C_AF;
}

static struct instant earlier(struct instant a, struct instant b)
{
    return before(b, a) ? b : a;
}

/* When the next event that interrupts comes. */
static struct instant next_event(const struct vmm_rtc *rtc)
{
    struct instant next = {NEVER, 0}, now = rtc->seen;
    int64_t ticks = period(rtc);
    if ((rtc->cmos[REG_B] & B_PIE) && ticks) {
        int64_t at = (floor_div(ticks_of(now), ticks) + 1) * ticks;
        uint64_t ns = ((uint64_t)floor_mod(at, TICKS) * NS + TICKS - 1) / TICKS;
        next = earlier(next, (struct instant){floor_div(at, TICKS), (uint32_t)ns});
    }
    if (stopped(rtc))
        return next;
    if (rtc->cmos[REG_B] & B_UIE)
        next = earlier(next, (struct instant){now.s + 1, 0});
    if (rtc->cmos[REG_B] & B_AIE)
        next = earlier(next, (struct instant){next_alarm(rtc, now.s), 0});
    return next;
}

/* Wait for the next event, if it makes an interrupt that is not made yet. */
static void arm(struct vmm_rtc *rtc)
{
    if (!rtc->timer)
        return;
    struct instant next = {NEVER, 0};
    if ((rtc->cmos[REG_B] & B_INTERRUPT) && !(rtc->cmos[REG_C] & C_IRQF))
        next = next_event(rtc);
    if (next.s == NEVER) {
        vmm_timer_cancel(rtc->timer);
        return;
    }
    struct instant wait = subtract(next, rtc->seen);
    (void)vmm_timer_set(rtc->timer, vmm_loop_now(rtc->loop) + (uint64_t)wait.s * NS + wait.ns);
}

static void settle(struct vmm_rtc *rtc)
{
    update_irq(rtc);
    arm(rtc);
}

static void expired(void *ctx)
{
    struct vmm_rtc *rtc = ctx;
    vmm_device_lock(rtc->device);
    catch_up(rtc);
    settle(rtc);
    vmm_device_unlock(rtc->device);
}

/* Registers ------------------------------------------------------------------------------------ */

static bool is_time(uint32_t index)
{
    return index == REG_SECONDS || index == REG_MINUTES || index == REG_HOURS ||
           (index >= REG_WEEKDAY && index <= REG_YEAR) || index == VMM_RTC_CENTURY;
}

static uint8_t read_c(struct vmm_rtc *rtc)
{
    catch_up(rtc);
    update_irq(rtc);
    uint8_t flags = rtc->cmos[REG_C];
    rtc->cmos[REG_C] = 0;
    settle(rtc);
    return flags;
}

static uint8_t read_data(struct vmm_rtc *rtc)
{
    uint32_t index = rtc->index;
    if (index == REG_C)
        return read_c(rtc);
    if (index == REG_A && !stopped(rtc) && guest_now(rtc).ns >= NS - UIP_NS)
        return rtc->cmos[REG_A] | A_UIP;
    if (is_time(index) && !stopped(rtc))
        write_time(rtc, guest_now(rtc));
    return rtc->cmos[index];
}

/* Registers A and B decide how the others read, so time is taken out before and put in after. */
static void write_control(struct vmm_rtc *rtc, uint32_t index, uint8_t value)
{
    bool was_stopped = stopped(rtc), divider_ran = divider_runs(rtc);
    catch_up(rtc);
    if (!was_stopped)
        write_time(rtc, rtc->seen);
    rtc->cmos[index] = value;
    if (was_stopped && !stopped(rtc))
        take_time(rtc, divider_ran);
    settle(rtc);
}

static void write_time_byte(struct vmm_rtc *rtc, uint32_t index, uint8_t value)
{
    if (!stopped(rtc))
        write_time(rtc, guest_now(rtc));
    rtc->cmos[index] = value;
    if (stopped(rtc))
        return;
    catch_up(rtc);
    take_time(rtc, true);
    settle(rtc);
}

static void write_data(struct vmm_rtc *rtc, uint8_t value)
{
    uint32_t index = rtc->index;
    if (index == REG_A) {
        write_control(rtc, index, value & (uint8_t)~A_UIP);
    } else if (index == REG_B) {
        if (value & B_SET)
            value &= (uint8_t)~B_UIE; /* the data sheet: SET clears UIE */
        write_control(rtc, index, value);
    } else if (is_time(index)) {
        write_time_byte(rtc, index, value);
    } else if (index == REG_SECONDS_ALARM || index == REG_MINUTES_ALARM ||
               index == REG_HOURS_ALARM) {
        catch_up(rtc);
        rtc->cmos[index] = value;
        settle(rtc);
    } else if (index >= CLOCK_REGISTERS) {
        rtc->cmos[index] = value;
    } /* C and D are read-only */
}

static uint64_t rtc_read(void *ctx, uint64_t offset, uint32_t width)
{
    (void)width;
    return offset == 0 ? 0xff : read_data(ctx); /* the index port is write-only */
}

static void rtc_write(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct vmm_rtc *rtc = ctx;
    (void)width;
    if (offset == 0)
        rtc->index = (uint8_t)(value & INDEX_MASK); /* bit 7 masks NMI on PCs */
    else
        write_data(rtc, (uint8_t)value);
}

/* The device ----------------------------------------------------------------------------------- */

/* The RESET pin (data sheet): interrupts off; time, modes and RAM stay. */
static void reset(void *ctx)
{
    struct vmm_rtc *rtc = ctx;
    rtc->index = 0;
    rtc->cmos[REG_B] &= (uint8_t) ~(B_INTERRUPT | B_SQWE);
    rtc->cmos[REG_C] = 0;
    rtc->seen = guest_now(rtc);
    settle(rtc);
}

static int save(void *ctx, struct vmm_state_writer *w)
{
    struct vmm_rtc *rtc = ctx;
    catch_up(rtc);
    settle(rtc);
    (void)vmm_state_put_u32(w, "index", rtc->index);
    (void)vmm_state_put_u64(w, "offset-seconds", (uint64_t)(rtc->offset.s + OFFSET_MAX));
    (void)vmm_state_put_u32(w, "offset-nanoseconds", rtc->offset.ns);
    return vmm_state_put_bytes(w, "cmos", rtc->cmos, sizeof(rtc->cmos));
}

static int load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err)
{
    struct vmm_rtc *rtc = ctx;
    uint32_t index, ns;
    uint64_t seconds;
    uint8_t cmos[VMM_RTC_CMOS_SIZE];
    (void)version;
    int rc = vmm_state_get_u32(r, "index", INDEX_MASK, &index, err);
    if (!rc)
        rc = vmm_state_get_u64(r, "offset-seconds", 2 * (uint64_t)OFFSET_MAX, &seconds, err);
    if (!rc)
        rc = vmm_state_get_u32(r, "offset-nanoseconds", NS - 1, &ns, err);
    if (!rc)
        rc = vmm_state_get_bytes(r, "cmos", cmos, sizeof(cmos), err);
    if (rc)
        return rc;
    rtc->index = (uint8_t)index;
    rtc->offset = (struct instant){(int64_t)seconds - OFFSET_MAX, ns};
    memcpy(rtc->cmos, cmos, sizeof(cmos));
    rtc->cmos[REG_A] &= (uint8_t)~A_UIP;
    rtc->cmos[REG_C] &= C_IRQF | C_PF | C_AF | C_UF;
    rtc->cmos[REG_D] = D_VRT;
    rtc->seen = guest_now(rtc);
    settle(rtc);
    return 0;
}

static void destroy(void *ctx)
{
    struct vmm_rtc *rtc = ctx;
    vmm_timer_free(rtc->timer);
    vmm_irq_line_free(rtc->irq);
    if (rtc->loop)
        vmm_loop_unref(rtc->loop);
    free(rtc);
}

static void put16(struct vmm_rtc *rtc, uint32_t index, uint64_t value)
{
    vmm_store_le16(rtc->cmos + index, (uint16_t)(value < 0xffff ? value : 0xffff));
}

/* Where the BIOS of PCs keeps the size of memory: in KiB below 640 KiB and above 1 MiB, in 64 KiB
 * above 16 MiB and above 4 GiB. */
static void put_memory_size(struct vmm_rtc *rtc, uint64_t low, uint64_t high)
{
    uint64_t kib = low >> 10;
    put16(rtc, 0x15, kib < 640 ? kib : 640);
    put16(rtc, 0x17, kib > 1024 ? kib - 1024 : 0);
    put16(rtc, 0x30, kib > 1024 ? kib - 1024 : 0);
    put16(rtc, 0x34, kib > 16384 ? (kib - 16384) >> 6 : 0);
    uint64_t blocks = high >> 16 < 0xffffff ? high >> 16 : 0xffffff;
    put16(rtc, 0x5b, blocks & 0xffff);
    rtc->cmos[0x5d] = (uint8_t)(blocks >> 16);
}

/* 0x2e and 0x2f, big-endian: the sum of 0x10 to 0x2d. */
static void put_checksum(struct vmm_rtc *rtc)
{
    uint32_t sum = 0;
    for (uint32_t i = 0x10; i <= 0x2d; i++)
        sum += rtc->cmos[i];
    rtc->cmos[0x2e] = (uint8_t)(sum >> 8);
    rtc->cmos[0x2f] = (uint8_t)sum;
}

static int start(struct vmm_rtc *rtc, const struct vmm_rtc_options *options)
{
    rtc->clock = options->clock;
    rtc->clock_ctx = options->clock_ctx;
    rtc->offset.s = options->offset;
    rtc->cmos[REG_A] = A_DEFAULT;
    rtc->cmos[REG_B] = B_24_HOURS;
    rtc->cmos[REG_D] = D_VRT;
    put_memory_size(rtc, options->memory_below_4g, options->memory_above_4g);
    put_checksum(rtc);
    rtc->seen = guest_now(rtc);
    if (!options->irq)
        return 0;
    rtc->loop = vmm_loop_ref(options->loop);
    return vmm_timer_new(rtc->loop, expired, rtc, &rtc->timer);
}

int vmm_rtc_new(const struct vmm_rtc_options *given, struct vmm_rtc **out)
{
    static const struct vmm_device_ops ops = {
        .size = sizeof(ops),
        .reset = reset,
        .state_version = 1,
        .save = save,
        .load = load,
        .destroy = destroy,
    };
    struct vmm_rtc_options options;
    int rc = vmm_options_copy(&options, sizeof(options), given);
    if (rc)
        return rc;
    if ((options.irq && !options.loop) || options.offset > OPTION_OFFSET ||
        options.offset < -OPTION_OFFSET)
        return -EINVAL;
    struct vmm_rtc *rtc = calloc(1, sizeof(*rtc));
    if (!rtc)
        return -ENOMEM;
    rc = vmm_device_new(options.name, &ops, rtc, &rtc->device);
    if (rc) {
        free(rtc);
        return rc;
    }
    rc = start(rtc, &options);
    if (rc) {
        vmm_device_unref(rtc->device);
        return rc;
    }
    rtc->irq = options.irq; /* last: on failure it stays the caller's */
    *out = rtc;
    return 0;
}

struct vmm_rtc *vmm_rtc_unref(struct vmm_rtc *rtc)
{
    if (rtc)
        vmm_device_unref(rtc->device);
    return NULL;
}

struct vmm_device *vmm_rtc_device(struct vmm_rtc *rtc)
{
    return rtc->device;
}

int vmm_rtc_attach(struct vmm_rtc *rtc, struct vmm_bus *bus, uint64_t address,
                   struct vmm_error *err)
{
    static const struct vmm_region_ops ops = {
        .size = sizeof(ops),
        .read = rtc_read,
        .write = rtc_write,
        .min_width = 1,
        .max_width = 1,
    };
    struct vmm_region_options region = VMM_REGION_OPTIONS_INIT;
    region.name = vmm_device_name(rtc->device);
    region.address = address;
    region.length = VMM_RTC_PORTS;
    region.device = rtc->device;
    region.ops = &ops;
    region.ctx = rtc;
    return vmm_bus_add(bus, &region, NULL, err);
}

static bool is_ram(uint32_t index)
{
    return index >= CLOCK_REGISTERS && index < VMM_RTC_CMOS_SIZE && index != VMM_RTC_CENTURY;
}

int vmm_rtc_get_cmos(struct vmm_rtc *rtc, uint32_t index, uint8_t *value)
{
    if (!is_ram(index))
        return -EINVAL;
    vmm_device_lock(rtc->device);
    *value = rtc->cmos[index];
    vmm_device_unlock(rtc->device);
    return 0;
}

int vmm_rtc_set_cmos(struct vmm_rtc *rtc, uint32_t index, uint8_t value)
{
    if (!is_ram(index))
        return -EINVAL;
    vmm_device_lock(rtc->device);
    rtc->cmos[index] = value;
    if (index >= 0x10 && index <= 0x2d)
        put_checksum(rtc);
    vmm_device_unlock(rtc->device);
    return 0;
}
