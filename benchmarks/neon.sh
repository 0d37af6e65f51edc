#!/bin/sh
# What the NEON binary convolution costs, without an Arm machine: counts the instructions of the inner loops that a cross
# compiler emits, and lets llvm-mca schedule them for the cores of a Raspberry Pi 4 and 5. Exits 1 where a loop does fewer
# than 40 binary multiply-adds per NEON instruction, loads counted.
#
# Usage: neon.sh [billions of binary multiply-adds of a network; default 7.46, bihrnet-w32 at 256x192]
# CXX and MCA name other tools. The Pi 5's Cortex-A76 is scheduled as its sibling, the Neoverse N1; an llvm-mca that does not
# know that one (LLVM 14) takes it for a Cortex-A57, and the script says so.
#
# The paired lookup and the usual eor + cnt + add are compared. A Cortex-A76 runs tbl like any other instruction, and the
# lookup takes two thirds of the cycles; a Cortex-A72 splits a 16-byte tbl in three, and there eor + cnt + add would be
# the faster one by as much. The lookup was chosen: it is one layout for all machines, and newer cores are like the A76.
set -eu

giga_macs=${1:-7.46}
cxx=${CXX:-aarch64-linux-gnu-g++}
mca=${MCA:-llvm-mca}
here=$(cd "$(dirname "$0")" && pwd)
kernels=$here/../runtimes/native/src/kernels
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$cxx" -std=c++17 -O3 -ffp-contract=off -S "$kernels/bconv_neon.cc" -o "$work/kernel.s"

# Every loop around a table lookup, from its label to the branch back, one file a loop.
awk -v work="$work" '
  { sub(/^[ \t]+/, ""); sub(/[ \t]*(\/\/.*)?$/, ""); line[NR] = $0 }
  /^[.A-Za-z0-9_]+:$/ { label = substr($0, 1, length($0) - 1); start = NR }
  /^b\.?(ne|eq|lt|gt|le|ge|cc|cs|hi|ls|mi|pl)[ \t]/ || /^cbn?z[ \t]/ {
    target = $NF
    sub(/b$/, "", target)
    if (label == "" || (target != label && $NF != label)) next
    lookups = 0
    for (i = start + 1; i < NR; ++i) lookups += line[i] ~ /^tbl[ \t]/
    if (lookups == 0) next
    file = work "/loop" ++loops ".s"
    print "loop:" > file
    for (i = start + 1; i < NR; ++i) if (line[i] !~ /^[.#]/ && line[i] != "") print line[i] > file
    print "b.ne loop" > file
    close(file)
  }' "$work/kernel.s"

# The alternative: eight channels a byte, eor + cnt + add; four channels by 64 pixels fill the registers as well.
awk 'BEGIN {
  print "loop:"
  print "ldp q16, q17, [x0]\nldp q18, q19, [x0, #32]\nadd x0, x0, x1"
  for (c = 0; c < 4; ++c) printf "ld1r {v%d.16b}, [x2], #1\n", 20 + c
  for (c = 0; c < 4; ++c) {
    for (v = 0; v < 4; ++v) printf "eor v%d.16b, v%d.16b, v%d.16b\n", 24 + v, 16 + v, 20 + c
    for (v = 0; v < 4; ++v) printf "cnt v%d.16b, v%d.16b\n", 24 + v, 24 + v
    for (v = 0; v < 4; ++v) printf "add v%d.16b, v%d.16b, v%d.16b\n", 4 * c + v, 4 * c + v, 24 + v
  }
  print "cmp x2, x3\nb.ne loop"
}' >"$work/eor_cnt_add.s"

count() { grep -cE "$1" "$2" || true; }

failed=0
schedule() { # file, multiply-adds of one iteration, llvm-mca's name for the core, GHz, the core
  "$mca" -mtriple=aarch64-linux-gnu -mcpu="$3" -iterations=200 "$1" >"$work/schedule"
  awk -v macs="$2" -v cpu="$3" -v ghz="$4" -v core="$5" -v giga="$giga_macs" '
    /^Total Cycles:/ { cycles = $3 / 200 / macs }
    /^Dispatch Width:/ { width = $3 }
    END {
      note = cpu == "neoverse-n1" && width == 3 ? " (scheduled as a Cortex-A57: take a newer llvm-mca)" : ""
      printf "  %s: %.2f cycles for 1000 multiply-adds%s\n", core, cycles * 1000, note
      printf "    estimate, not measured: %.1f G in %.0f ms on one core at %s GHz\n", giga, giga * cycles / ghz * 1000, ghz
    }' "$work/schedule"
}

report() { # name, file, multiply-adds of one iteration, whether it must reach 40
  loads=$(count '^(ld[rp]|ld1r?|ldur|st[rp]|stur)[[:space:]]+[{]?[qv][0-9]' "$2")
  moves=$(count '\[sp' "$2")
  alu=$(count '^[a-z0-9]+[[:space:]]+v[0-9]+\.' "$2")
  echo "$1: $3 binary multiply-adds an iteration, $alu NEON ALU instructions, $loads NEON loads, $moves of the stack"
  awk -v macs="$3" -v alu="$alu" -v all=$((alu + loads)) \
    'BEGIN { printf "  %.1f a NEON ALU instruction, %.1f a NEON instruction\n", macs / alu, macs / all }'
  schedule "$2" "$3" cortex-a72 1.8 "Pi 4, Cortex-A72"
  schedule "$2" "$3" neoverse-n1 2.4 "Pi 5, Cortex-A76"
  if [ "$4" = 1 ] && [ $((alu + loads)) -gt $(($3 / 40)) ]; then
    echo "  fewer than 40 multiply-adds a NEON instruction"
    failed=1
  fi
}

found=0
for file in "$work"/loop*.s; do
  [ -e "$file" ] || continue
  found=1
  # A lookup serves 16 pixels, four channels and a pair of output channels.
  lookups=$(count '^tbl' "$file")
  report "paired lookup, $((lookups * 8 / 3)) pixels" "$file" $((lookups * 128)) 1
done
[ "$found" = 1 ] || { echo "no loop with a table lookup in $kernels/bconv_neon.cc" >&2; exit 1; }
report "eor + cnt + add, 64 pixels" "$work/eor_cnt_add.s" $((16 * 16 * 8)) 0
exit $failed
