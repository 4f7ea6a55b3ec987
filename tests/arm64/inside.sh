#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Run by tests/arm64/run.py inside the nested arm64 machine, in a folder with the cross-built programs, Debian's kernel
# (Image) and an initramfs. Prints TAP; between BEGIN and END the guest's device tree in base64.
count=0
result() { # STATUS NAME LOG
    count=$((count + 1))
    if [ "$1" = 0 ]; then echo "ok $count - $2"; else sed 's/^/# /' "$3" | tail -25; echo "not ok $count - $2"; fi
}
has() { grep -q "$1" "$log"; }

# boot NAME COMMANDS OPTION...: a guest that runs the commands and powers off; all it says is in $log.
boot() {
    log=/tmp/$1 name=$1 command=$(echo "$2" | base64 | tr -d '\n')
    shift 2
    ./vmm-run --kernel Image --initrd initramfs.gz --memory 256M --timeout 300 \
        --append "${console-console=ttyAMA0 quiet} guest.command=$command" "$@" </dev/null >"$log" 2>&1
    status=$?
    echo "# $name: status $status, $(grep -c . "$log") lines"
}

./vmm-info >/tmp/info 2>&1 && grep -q 'flavour *arm' /tmp/info
result $? "vmm-info knows Arm's KVM" /tmp/info
./hello-vm >/tmp/hello 2>&1 && grep -q 'Hello from a virtual machine!' /tmp/hello
result $? "hello-vm" /tmp/hello

mkdir -p /var /etc && ln -s /dev/shm /var/tmp && echo 'root:x:0:0::/:/bin/sh' >/etc/passwd
for program in unit/*; do
    (cd /dev/shm && TMPDIR=/dev/shm /w/"$program") >/tmp/log 2>&1
    status=$?
    [ $status != 77 ] || { count=$((count + 1)); echo "ok $count - ${program#unit/} # SKIP $(tail -1 /tmp/log)"; continue; }
    result $status "${program#unit/}" /tmp/log
done

dd if=/dev/urandom of=/dev/shm/served bs=64k count=16 2>/dev/null
dd if=/dev/zero of=/dev/shm/disk bs=1M count=8 2>/dev/null
hash=$(sha256sum </dev/shm/served | cut -c1-64)
tunctl -t tap0 >/dev/null && ip addr add 10.7.0.1/24 dev tap0 && ip link set tap0 up
httpd -p 10.7.0.1:8080 -h /dev/shm
fetch='ip link set eth0 up; ip addr add 10.7.0.2/24 dev eth0; wget -q -O /tmp/f http://10.7.0.1:8080/served
echo "fetched $(sha256sum </tmp/f | cut -c1-64)"'

# The first time round it leaves a mark and reboots; the second time it finds it.
boot mmio "$fetch
if [ \"\$(dd if=/dev/vda bs=512 skip=100 count=1 2>/dev/null | cut -c1-4)\" = mark ]; then echo \"mark found\"
else
    echo BEGIN; base64 /sys/firmware/fdt; echo END
    echo mark | dd of=/dev/vda bs=512 seek=100 conv=sync 2>/dev/null; dd if=/tmp/f of=/dev/vda bs=64k seek=16; sync; reboot -f
fi
dd if=/dev/vda bs=64k skip=16 count=16 2>/dev/null | sha256sum
cat /proc/interrupts" --disk /dev/shm/disk,format=raw --net tap:tap0
[ $status = 0 ] && has 'user space reached on 1 processor' && has 'mark found'
result $? "boots, writes its disk, reboots, finds what it wrote, powers off (virtio-mmio, 1 vCPU)" "$log"
[ "$(grep -c "fetched $hash" "$log")" = 2 ]
result $? "fetches a file over the network (virtio-mmio)" "$log"
has "^$hash" && [ "$(dd if=/dev/shm/disk bs=64k skip=16 count=16 2>/dev/null | sha256sum | cut -c1-64)" = "$hash" ]
result $? "what the guest reads of its disk and what the image holds is what it wrote" "$log"
sed -n '/^BEGIN/,/^END/p' "$log"

boot pci "$fetch
dd if=/dev/vda bs=64k skip=16 count=16 2>/dev/null | sha256sum; nproc; cat /proc/interrupts" \
    --cpus 2 --transport pci --disk /dev/shm/disk,format=raw --net tap:tap0
[ $status = 0 ] && has 'user space reached on 2 processor'
result $? "boots with 2 vCPUs and PCI" "$log"
has "^$hash" && has "fetched $hash"
result $? "disk and network by PCI" "$log"
has 'ITS-MSI.*virtio'
result $? "their interrupts are messages through the ITS" "$log"
grep 'ITS-MSI' "$log" | sed 's/^/# /'

# Debian's UEFI firmware starts the kernel, which sees ACPI instead of a device tree (and so the console: SPCR). The first
# time round a variable is written and the guest reboots; the second time it finds it, and waits for the power button.
head -c 786432 /dev/zero | tr '\0' '\377' >/dev/shm/vars
(tries=0; until grep -q "waiting for the button" /tmp/uefi 2>/dev/null; do
    tries=$((tries + 1)); [ $tries -lt 240 ] || exit; sleep 1; done; sleep 1; ./control /tmp/control power-button >/tmp/pressed) &
console=
boot uefi 'mount -t efivarfs efivarfs /sys/firmware/efi/efivars
v=/sys/firmware/efi/efivars/libvmm-6b9a3f3e-51c2-4b0e-9a55-3f6d2c1b7a10
if [ ! -e $v ]; then printf "\007\000\000\000kept" >$v; sync; reboot -f; fi
echo "the variable: $(tail -c +5 $v)"; ls /sys/firmware/devicetree 2>/dev/null; cat /proc/interrupts
for t in APIC GTDT DSDT FACP SPCR IORT MCFG; do echo "TABLE $t"; base64 /sys/firmware/acpi/tables/$t; echo END; done
dd if=/dev/vda bs=64k skip=16 count=16 2>/dev/null | sha256sum
echo "waiting for the button"; echo "pressed $(dd if=/dev/input/event0 bs=24 count=1 2>/dev/null | tail -c +17 | hexdump -n 4 -e "2/2 \"%d \"")"' \
    --firmware QEMU_EFI.fd --firmware-vars /dev/shm/vars --cpus 2 --transport pci --disk /dev/shm/disk,format=raw --control /tmp/control
[ $status = 0 ] && has 'efi: EFI v.* by EDK II' && has 'user space reached on 2 processor'
result $? "UEFI firmware starts it with 2 vCPUs and ACPI tables" "$log"
has 'the variable: kept'
result $? "a UEFI variable outlives a reboot" "$log"
has "^$hash" && has 'ITS-MSI.*virtio' && ! has 'Firmware Bug'
result $? "disk by PCI as ACPI describes it, messages through the ITS" "$log"
has 'pressed 1 116'
result $? "the power button is a key press" "$log"
sed -n '/^TABLE/,/^END/p' "$log"
echo "1..$count"
