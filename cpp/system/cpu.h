// What the processor can do and what that costs, found once, and which instruction set to use.
//
// A feature counts only when the operating system saves its registers (XGETBV). Nothing here runs before
// main: the first caller detects.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "kernels/kernel.h"
#include "system/costs.h"

namespace conv1x1 {

struct Cpu {
  bool fma = false;               // the baseline kernels can fuse
  bool supports[isa_count] = {};  // CPU, operating system and build all have it
  Costs costs;
  std::string name;
};

const Cpu& cpu();

// What an x86 processor and its system say of themselves.
struct CpuidRegisters {
  unsigned a, b, c, d;
};
struct X86 {
  CpuidRegisters vendor, one, seven, l2;  // CPUID's leaves 0, 1, 7, 0x80000006; zeros where there is no such leaf
  unsigned long long saved;  // XGETBV: the registers that the system saves; means nothing unless leaf 1 has it
};

// What follows from that, a pure function; without the name, which decides nothing. Defined on x86 only.
Cpu x86_cpu(const X86&);

const char* isa_name(Isa);

// The kernels of an instruction set in this build, or null; portable ones round once where the CPU can.
const KernelTable* kernels(Isa, const Cpu&);

// The one that an instruction set only adds kernels to; itself where it has all of its own.
Isa base_of(Isa);

// The instruction set named; throws std::invalid_argument, listing the valid names, unless `cpu` supports it.
Isa isa_from_name(const std::string& name, const Cpu& cpu);

// The widest instruction set that `cpu` supports, lowered by CONV1X1_MAX_ISA (`limit`, null when unset).
Isa best_isa(const Cpu& cpu, const char* limit);

}  // namespace conv1x1
