/* SPDX-License-Identifier: BSD-3-Clause */
/* vmm-info: what this host's KVM is and can do, as text or as JSON. */
#include <libvmm/vmm.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "vmm-info - say what this host's KVM is and can do\n"
    "\n"
    "  vmm-info [--json] [--all] [--device PATH]\n"
    "\n"
    "  --json         for programs\n"
    "  --all          list the capabilities that the host lacks too (text)\n"
    "  --device PATH  instead of /dev/kvm\n"
    "  --help, --version\n"
    "\n"
    "Exit status: 0, 2 usage, 3 there is no usable KVM (the text says why).\n";

static void print_text(const struct vmm_host_info *info, const struct vmm_capability *caps,
                       size_t count, bool all)
{
    printf("KVM API version     %u\n", info->api_version);
    printf("flavour             %s%s%s%s\n", vmm_flavour_name(info->flavour),
           info->module[0] ? " (module " : "", info->module, info->module[0] ? ")" : "");
    printf("paging              %s\n", vmm_paging_name(info->paging));
    printf("vCPUs a VM          %u at most, %u recommended, ids below %u\n", info->vcpus_max,
           info->vcpus_recommended, info->vcpu_id_max);
    printf("memory slots a VM   %u\n", info->slots_max);
    printf("run structure       %u bytes\n", info->run_size);
    printf("\ncapabilities\n");
    for (size_t i = 0; i < count; i++)
        if (all || caps[i].value)
            printf("  %3u  %-34s %d\n", caps[i].number, caps[i].name, caps[i].value);
}

/* Every string is the library's own: letters, digits and underscores. */
static void print_json(const struct vmm_host_info *info, const struct vmm_capability *caps,
                       size_t count)
{
    printf("{\n  \"libvmm\": \"%s\",\n", vmm_version());
    printf("  \"api_version\": %u,\n  \"flavour\": \"%s\",\n  \"module\": \"%s\",\n",
           info->api_version, vmm_flavour_name(info->flavour), info->module);
    printf("  \"paging\": \"%s\",\n  \"vcpus_max\": %u,\n  \"vcpus_recommended\": %u,\n",
           vmm_paging_name(info->paging), info->vcpus_max, info->vcpus_recommended);
    printf("  \"vcpu_id_max\": %u,\n  \"slots_max\": %u,\n  \"run_size\": %u,\n", info->vcpu_id_max,
           info->slots_max, info->run_size);
    printf("  \"capabilities\": {");
    for (size_t i = 0; i < count; i++)
        printf("%s\n    \"%s\": %d", i ? "," : "", caps[i].name, caps[i].value);
    printf("\n  }\n}\n");
}

int main(int argc, char **argv)
{
    const char *device = NULL;
    bool json = false, all = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            json = true;
        } else if (strcmp(argv[i], "--all") == 0) {
            all = true;
        } else if (strcmp(argv[i], "--device") == 0 && i + 1 < argc) {
            device = argv[++i];
        } else if (strcmp(argv[i], "--help") == 0) {
            fputs(help, stdout);
            return 0;
        } else if (strcmp(argv[i], "--version") == 0) {
            printf("vmm-info, libvmm %s\n", vmm_version());
            return 0;
        } else {
            fprintf(stderr, "vmm-info: \"%s\"?\n\n%s", argv[i], help);
            return 2;
        }
    }
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_host *host;
    if (vmm_host_open(device, &host, &err)) {
        fprintf(stderr, "vmm-info: %s\n", err.text);
        return 3;
    }
    struct vmm_host_info info = VMM_HOST_INFO_INIT;
    size_t count = vmm_host_capabilities(host, NULL, 0);
    struct vmm_capability *caps = calloc(count, sizeof(*caps));
    if (!caps || vmm_host_get_info(host, &info)) {
        fputs("vmm-info: out of memory\n", stderr);
        return 3;
    }
    vmm_host_capabilities(host, caps, count);
    if (json)
        print_json(&info, caps, count);
    else
        print_text(&info, caps, count, all);
    free(caps);
    vmm_host_unref(host);
    return fflush(stdout) ? 3 : 0;
}
