/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file vmm.h
 * All of libvmm. The headers that know one processor architecture (x86.h, x86-boot.h, assist.h) and the
 * one that includes <linux/kvm.h> (kvm.h) are included by name.
 */
#ifndef LIBVMM_VMM_H
#define LIBVMM_VMM_H

#include <libvmm/acpi-pm.h>
#include <libvmm/acpi.h>
#include <libvmm/aml.h>
#include <libvmm/backing.h>
#include <libvmm/block-filters.h>
#include <libvmm/block.h>
#include <libvmm/bus.h>
#include <libvmm/chardev.h>
#include <libvmm/console.h>
#include <libvmm/debugport.h>
#include <libvmm/device.h>
#include <libvmm/dirty.h>
#include <libvmm/display.h>
#include <libvmm/error.h>
#include <libvmm/fdt.h>
#include <libvmm/floppy.h>
#include <libvmm/fwcfg.h>
#include <libvmm/host.h>
#include <libvmm/i8042.h>
#include <libvmm/input.h>
#include <libvmm/iothread.h>
#include <libvmm/irq.h>
#include <libvmm/loader.h>
#include <libvmm/log.h>
#include <libvmm/loop.h>
#include <libvmm/machine.h>
#include <libvmm/memmap.h>
#include <libvmm/memory.h>
#include <libvmm/memplug.h>
#include <libvmm/mmu.h>
#include <libvmm/nbd.h>
#include <libvmm/net.h>
#include <libvmm/nvme.h>
#include <libvmm/paging.h>
#include <libvmm/pci.h>
#include <libvmm/pflash.h>
#include <libvmm/pm.h>
#include <libvmm/primecell.h>
#include <libvmm/qcow2.h>
#include <libvmm/rtc.h>
#include <libvmm/seat.h>
#include <libvmm/serial.h>
#include <libvmm/share.h>
#include <libvmm/smbios.h>
#include <libvmm/state.h>
#include <libvmm/stats.h>
#include <libvmm/storage.h>
#include <libvmm/translate.h>
#include <libvmm/types.h>
#include <libvmm/vcpu.h>
#include <libvmm/vga.h>
#include <libvmm/vhost-user.h>
#include <libvmm/virtio.h>
#include <libvmm/vm.h>
#include <libvmm/vnc.h>
#include <libvmm/vsock.h>

#endif
