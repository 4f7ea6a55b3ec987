#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What an embedder relies on: headers that stand alone, exports, imports, no global state, the rooms.

    abi.py SOURCE_ROOT LIBVMM_SO

Prints TAP.
"""

import glob
import os
import platform
import re
import subprocess
import sys

root, library = sys.argv[1], sys.argv[2]
count = 0
failed = 0


def check(name, problems):
    """One TAP line; `problems` is a list of texts, empty when all is well."""
    global count, failed
    count += 1
    for problem in problems:
        for line in str(problem).splitlines():
            print("# " + line)
    failed += bool(problems)
    print(f"{'not ok' if problems else 'ok'} {count} - {name}")


def run(*command, **kwargs):
    return subprocess.run(command, capture_output=True, text=True, check=False, **kwargs)


def headers():
    return sorted(glob.glob(os.path.join(root, "include/libvmm/*.h")))


def compiles_alone(header, language, standard, compiler):
    text = f"#include <libvmm/{os.path.basename(header)}>\nint unused;\n"
    r = run(compiler, "-x", language, f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Werror",
            "-I", os.path.join(root, "include"), "-fsyntax-only", "-", input=text)
    return r.stderr if r.returncode else ""


def declared():
    """Names of the functions that the headers of this architecture declare with VMM_API."""
    names = set()
    others = ("arm64.h",) if platform.machine() == "x86_64" else ("x86.h", "x86-boot.h", "assist.h")
    for header in headers():
        if os.path.basename(header) in others:
            continue
        with open(header, encoding="utf-8") as file:
            text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
        text = re.sub(r"^\s*#.*?(?<!\\)$", "", text, flags=re.M)
        for statement in re.findall(r"\bVMM_API\b([^;{]*)[;{]", text):
            name = re.search(r"\b(vmm_\w+)\s*\(", statement)
            if name:
                names.add(name.group(1))
    return names


def exported():
    out = run("nm", "-D", "--defined-only", library).stdout
    return {line.split()[2].split("@")[0] for line in out.splitlines() if " A " not in line}


# A library must not end the process, print, take signals or change what belongs to its host.
FORBIDDEN = """exit _exit _Exit quick_exit abort __assert_fail __assert atexit err errx warn warnx
printf __printf_chk vprintf puts putchar fprintf __fprintf_chk vfprintf fputs perror psignal
signal sigprocmask setlocale setenv putenv unsetenv chdir fchdir umask setuid setgid srand rand
system popen fork vfork stdout stderr stdin error syslog openlog""".split()


def imported():
    out = run("nm", "-D", "--undefined-only", library).stdout
    return {line.split()[-1].split("@")[0] for line in out.splitlines()}


def global_state():
    """Objects in writable sections that are not made read-only after relocation."""
    problems = []
    for line in run("objdump", "-t", library).stdout.splitlines():
        match = re.match(r"^[0-9a-f]+ (.{7}) (\S+)\s+([0-9a-f]+)\s+(?:\.hidden )?(.*)$", line)
        if not match or "O" not in match.group(1) or int(match.group(3), 16) == 0:
            continue
        section, name = match.group(2), match.group(4)
        if section in (".data", ".bss", ".tdata", ".tbss") and not re.match(
                r"^(completed\.|__dso_handle|__TMC_END__|__\w*san|__(sancov|gcov|llvm))", name):
            problems.append(f"{name} in {section}")
    return problems


ROOMS = ["base", "backends", "vm", "memory", "vcpu", "devices", "loader", "machine"]
ALLOWED = {
    "base": {"base"},
    "backends": {"base", "backends"},
    "vm": {"base", "vm"},
    "memory": {"base", "vm", "memory"},
    "vcpu": {"base", "vm", "memory", "vcpu"},
    "devices": {"base", "vm", "memory", "devices"},
    "loader": {"base", "vm", "memory", "vcpu", "loader"},
    "machine": set(ROOMS),
}


def sources(*endings):
    for ending in endings:
        yield from glob.glob(os.path.join(root, "src/**/*" + ending), recursive=True)


def room_problems():
    problems = []
    for path in sources(".c", ".h"):
        room = os.path.relpath(path, os.path.join(root, "src")).split(os.sep)[0]
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                match = re.match(r'\s*#\s*include\s+"([^"/]+)/', line)
                if match and match.group(1) not in ALLOWED[room]:
                    problems.append(f"{os.path.relpath(path, root)}:{number}: {line.strip()}")
    return problems


def architecture_problems():
    """Code that asks for the architecture outside the architectures' folders."""
    problems = []
    for path in sources(".c", ".h"):
        if "/x86/" in path or "/arm64/" in path:
            continue
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if re.match(r"\s*#\s*(if|ifdef|ifndef|elif).*(__x86_64__|__aarch64__|__i386__)", line):
                    problems.append(f"{os.path.relpath(path, root)}:{number}: {line.strip()}")
                if re.match(r"\s*#\s*include\s+[<\"](libvmm/(x86|arm64|assist)\.h)", line):
                    problems.append(f"{os.path.relpath(path, root)}:{number}: {line.strip()}")
    return problems


def licence_problems():
    files = run("git", "-C", root, "ls-files").stdout.split()
    problems = []
    for name in files:
        if not re.search(r"(\.(c|h|S|py|sh|build|txt|ld|yml)|meson\.build|\.ci/run|scripts/[^/.]+|"
                         r"tests/(nested|linux)/[^/.]+)$", name):
            continue
        with open(os.path.join(root, name), encoding="utf-8", errors="replace") as file:
            head = file.read(400)
        if "SPDX-License-Identifier: BSD-3-Clause" not in head:
            problems.append(name)
    return problems


def kernel_header_problems():
    return [os.path.basename(h) for h in headers()
            if os.path.basename(h) != "kvm.h" and "<linux/kvm.h>" in open(h, encoding="utf-8").read()
            and re.search(r"^\s*#\s*include\s+<linux/kvm.h>", open(h, encoding="utf-8").read(), re.M)]


def main():
    for compiler in ("gcc", "clang"):
        if run("which", compiler).returncode:
            continue
        cxx = {"gcc": "g++", "clang": "clang++"}[compiler]
        check(f"each header stands alone as C11 ({compiler})",
              [e for e in (compiles_alone(h, "c", "c11", compiler) for h in headers()) if e])
        check(f"each header stands alone as C++17 ({cxx})",
              [e for e in (compiles_alone(h, "c++", "c++17", cxx) for h in headers()) if e])
    inside, outside = declared(), exported()
    check("what the headers declare is exported", sorted(inside - outside))
    check("what is exported is declared", sorted(outside - inside - {"VMM_0.1"}))
    check("the library imports nothing that ends, prints or takes signals",
          sorted(imported() & set(FORBIDDEN)))
    check("the library has no mutable global state", global_state())
    check("a room uses only the rooms below it", room_problems())
    check("architecture only in the architecture's folders", architecture_problems())
    check("<linux/kvm.h> is included by kvm.h alone", kernel_header_problems())
    check("every file names its licence", licence_problems())
    print(f"1..{count}")
    sys.exit(1 if failed else 0)


main()
