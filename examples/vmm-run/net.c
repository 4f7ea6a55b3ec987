/* SPDX-License-Identifier: BSD-3-Clause */
/* --net: network cards. */
#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The command line ----------------------------------------------------------------------------- */

static bool parse_number(const char *text, uint32_t low, uint32_t high, uint32_t *value)
{
    char *end;
    errno = 0;
    unsigned long number = strtoul(text, &end, 10);
    *value = (uint32_t)number;
    return !errno && end != text && !*end && *text != '-' && number >= low && number <= high;
}

static bool parse_mac(const char *text, uint8_t *mac)
{
    char end;
    return sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%c", &mac[0], &mac[1], &mac[2], &mac[3],
                  &mac[4], &mac[5], &end) == 6 &&
           !(mac[0] & 1);
}

/* tcp:[ADDRESS:]HOSTPORT:GUESTPORT */
static bool parse_forward(struct net_option *n, char *text)
{
    struct vmm_net_forward *f = &n->forwards[n->forward_count];
    if (n->forward_count == FORWARDS_MAX)
        return false;
    *f = (struct vmm_net_forward)VMM_NET_FORWARD_INIT;
    char *protocol = strsep(&text, ":");
    char *guest = text ? strrchr(text, ':') : NULL;
    if (!guest || (strcmp(protocol, "tcp") != 0 && strcmp(protocol, "udp") != 0))
        return false;
    *guest++ = '\0';
    char *host = strrchr(text, ':');
    if (host) {
        *host++ = '\0';
        f->host_address = text;
    } else {
        host = text;
    }
    f->udp = *protocol == 'u';
    n->forward_count++;
    return parse_number(host, 1, 65535, &f->host_port) &&
           parse_number(guest, 1, 65535, &f->guest_port);
}

static bool parse_switch(const char *text, bool *value)
{
    *value = strcmp(text, "on") == 0;
    return *value || strcmp(text, "off") == 0;
}

static bool take_user_key(struct net_option *n, const char *key, char *value)
{
    if (n->kind != NET_USER)
        return false;
    if (strcmp(key, "forward") == 0)
        return parse_forward(n, value);
    if (strcmp(key, "restrict") == 0)
        return parse_switch(value, &n->restricted);
    return strcmp(key, "host") == 0 && parse_switch(value, &n->host);
}

static bool take_key(struct net_option *n, const char *key, char *value)
{
    if (strcmp(key, "mac") == 0)
        return n->has_mac = parse_mac(value, n->mac);
    if (strcmp(key, "queues") == 0)
        return parse_number(value, 1, VMM_VIRTIO_NET_QUEUES_MAX, &n->queues);
    if (strcmp(key, "mtu") == 0)
        return parse_number(value, 576, 65521, &n->mtu);
    if (strcmp(key, "packed") == 0) {
        bool packed = true, known = parse_switch(value, &packed);
        n->no_packed = !packed;
        return known;
    }
    if (strcmp(key, "pcap") == 0)
        return *(n->pcap = value) != '\0';
    return take_user_key(n, key, value);
}

const char *net_parse(struct net_options *options, char *text)
{
    if (options->count == NETS_MAX)
        return "that is one too many";
    struct net_option *n = &options->net[options->count++];
    char *kind = strsep(&text, ",");
    if (strcmp(kind, "user") == 0)
        n->kind = NET_USER;
    else if (strncmp(kind, "tap:", 4) == 0 && kind[4])
        n->kind = NET_TAP;
    else if (strncmp(kind, "unix:", 5) == 0 && kind[5])
        n->kind = NET_UNIX;
    else
        return "user, tap:INTERFACE or unix:PATH comes first";
    n->where = strchr(kind, ':') ? strchr(kind, ':') + 1 : NULL;
    while (text) {
        char *key = strsep(&text, ",");
        char *value = strchr(key, '=');
        if (!value)
            return "after that, key=value";
        *value++ = '\0';
        if (!take_key(n, key, value))
            return "the keys are mac, queues, mtu, packed, pcap; of \"user\" also forward, "
                   "restrict, host";
    }
    return NULL;
}

/* Making --------------------------------------------------------------------------------------- */

static int open_user(struct vmm_loop *loop, const struct net_option *n, struct vmm_net **out,
                     struct vmm_error *err)
{
    struct vmm_net_slirp_options o = VMM_NET_SLIRP_OPTIONS_INIT;
    o.restricted = n->restricted;
    o.host_loopback = n->host;
    o.mtu = n->mtu;
    int rc = vmm_net_new_slirp(loop, &o, out, err);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < n->forward_count && !rc; i++)
        rc = vmm_net_slirp_forward(*out, &n->forwards[i], err);
    if (rc)
        vmm_net_unref(*out);
    return rc;
}

static int open_backend(struct vmm_loop *loop, const struct net_option *n, struct vmm_net **out,
                        struct vmm_error *err)
{
    struct vmm_net_tap_options tap = VMM_NET_TAP_OPTIONS_INIT;
    if (n->kind == NET_USER)
        return open_user(loop, n, out, err);
    if (n->kind == NET_UNIX)
        return vmm_net_new_unix(loop, n->where, out, err);
    tap.name = n->where;
    tap.queues = n->queues;
    return vmm_net_new_tap(loop, &tap, out, err);
}

/* `*net` becomes the capture in front of it. */
static int add_capture(struct vmm_net **net, const char *path, struct vmm_error *err)
{
    struct vmm_net *above = NULL;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int rc = fd < 0 ? -errno : vmm_net_new_pcap(*net, fd, &above, err);
    if (fd < 0)
        (void)snprintf(err->text, sizeof(err->text), "pcap %s: %s", path, strerror(errno));
    else
        close(fd);
    vmm_net_unref(*net);
    *net = above;
    return rc;
}

static int make_card(const struct net_option *n, const char *name, struct vmm_net *net,
                     struct vmm_loop *loop, struct vmm_machine *machine, struct vmm_virtio **out,
                     struct vmm_error *err)
{
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio_net_options o = VMM_VIRTIO_NET_OPTIONS_INIT;
    place.name = name;
    place.vm = vmm_machine_vm(machine);
    place.memory = vmm_machine_memory(machine);
    place.loop = loop;
    o.net = net;
    o.mac = n->has_mac ? n->mac : NULL;
    o.queues = n->queues;
    o.mtu = n->mtu;
    o.features_off = n->no_packed ? VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_PACKED) : 0;
    return vmm_virtio_net_new(&place, &o, out, err);
}

int net_make(const struct net_option *n, const char *name, struct vmm_loop *loop,
             struct vmm_machine *machine, struct vmm_virtio **out, struct vmm_error *err)
{
    struct vmm_net *net = NULL;
    int rc = open_backend(loop, n, &net, err);
    if (rc)
        return rc;
    if (n->pcap)
        rc = add_capture(&net, n->pcap, err);
    if (!rc)
        rc = make_card(n, name, net, loop, machine, out, err);
    vmm_net_unref(net);
    return rc;
}

int net_add(const struct net_options *options, struct iothreads *threads,
            struct vmm_machine *machine, struct vmm_error *err)
{
    int rc = 0;
    for (uint32_t i = 0; i < options->count && !rc; i++) {
        char name[16];
        struct vmm_virtio *virtio;
        (void)snprintf(name, sizeof(name), "net%u", i);
        struct vmm_loop *loop = iothreads_loop(threads, machine);
        rc = net_make(&options->net[i], name, loop, machine, &virtio, err);
        if (rc)
            break;
        rc = vmm_machine_add_virtio(machine, virtio, err);
        vmm_virtio_unref(virtio);
    }
    return rc;
}
