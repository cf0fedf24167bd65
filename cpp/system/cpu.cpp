#include "system/cpu.h"

#include <cstring>
#include <stdexcept>

#include "system/nervous.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#define CONV1X1_X86 1
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace conv1x1 {

extern const KernelTable conv1x1_portable[2];
#ifdef CONV1X1_HAS_NEON
extern const KernelTable conv1x1_neon;
#endif
#ifdef CONV1X1_HAS_NEONDOT
extern const QuadKernels conv1x1_neondot;
#endif
#ifdef CONV1X1_HAS_AVX2
extern const KernelTable conv1x1_avx2;
#endif
#ifdef CONV1X1_HAS_AVX512
extern const KernelTable conv1x1_avx512;
#endif
#ifdef CONV1X1_HAS_AVX512VNNI
extern const QuadKernels conv1x1_avx512vnni;
#endif

namespace {

#ifdef CONV1X1_HAS_AVX512
// AVX2's table with what AVX-512 does better.
KernelTable avx512_table() {
  KernelTable table = conv1x1_avx512;
  const KernelTable& plain = conv1x1_avx2;
  std::memcpy(table.colour, plain.colour, sizeof(plain.colour));
  std::memcpy(table.move, plain.move, sizeof(plain.move));
  std::memcpy(table.split, plain.split, sizeof(plain.split));
  std::memcpy(table.join, plain.join, sizeof(plain.join));
  std::memcpy(table.convert, plain.convert, sizeof(plain.convert));
  std::memcpy(table.add, plain.add, sizeof(plain.add));
  std::memcpy(table.center, plain.center, sizeof(plain.center));
  std::memcpy(table.pool, plain.pool, sizeof(plain.pool));
  const size_t twice = static_cast<size_t>(DType::float64);  // seldom enough
  table.softmax[twice] = plain.softmax[twice];
  table.layer_norm[twice] = plain.layer_norm[twice];
  table.arg_max[twice] = plain.arg_max[twice];
  table.raise_int8 = plain.raise_int8;
  std::memcpy(table.largest, plain.largest, sizeof(plain.largest));
  return table;
}
#endif

#if defined(CONV1X1_HAS_NEONDOT) || defined(CONV1X1_HAS_AVX512VNNI)
// An instruction set's table, and the kernels of quads that come to it in another. Never destroyed, nor is anything
// else that is made once and has a destructor: another thread may be inside a call while the process exits.
struct WithQuads {
  std::vector<MultiplyFamily> families;
  KernelTable table;
  WithQuads(Isa isa, const KernelTable& plain, const QuadKernels& quads)
      : families(plain.families, plain.families + plain.family_count), table(plain) {
    for (const MultiplyFamily& family : quads.families) families.push_back(family);
    table.isa = isa;
    table.families = families.data();
    table.family_count = families.size();
    const size_t operand = static_cast<size_t>(quads.families[0].operand);
    table.multiply_adds[operand] = quads.multiply_adds;
    table.multiply_adds_flop[operand] = quads.multiply_adds_flop;
  }
};
#endif

}  // namespace

const KernelTable* kernels(Isa isa, const Cpu& cpu) {
  switch (isa) {
    case Isa::portable: return &conv1x1_portable[cpu.fma];
#ifdef CONV1X1_HAS_NEON
    case Isa::neon: return &conv1x1_neon;
#endif
#ifdef CONV1X1_HAS_NEONDOT
    case Isa::neondot: {
      static const WithQuads& with_quads = *new WithQuads(Isa::neondot, conv1x1_neon, conv1x1_neondot);
      return &with_quads.table;
    }
#endif
#ifdef CONV1X1_HAS_AVX2
    case Isa::avx2: return &conv1x1_avx2;
#endif
#ifdef CONV1X1_HAS_AVX512
    case Isa::avx512: {
      static const KernelTable table = avx512_table();
      return &table;
    }
#endif
#ifdef CONV1X1_HAS_AVX512VNNI
    case Isa::avx512vnni: {
      static const WithQuads& with_quads = *new WithQuads(Isa::avx512vnni, avx512_table(), conv1x1_avx512vnni);
      return &with_quads.table;
    }
#endif
    default: return nullptr;
  }
}

namespace {

#ifdef CONV1X1_X86

CpuidRegisters cpuid(unsigned leaf) {
  CpuidRegisters r{};
  if (static_cast<unsigned>(__get_cpuid_max(leaf & 0x80000000u, nullptr)) >= leaf)
    __cpuid_count(leaf, 0, r.a, r.b, r.c, r.d);
  return r;
}

unsigned long long xgetbv() {
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<unsigned long long>(high) << 32) | low;
}

bool bit(unsigned word, int position) { return (word >> position) & 1; }

bool xgetbv_exists(const CpuidRegisters& one) { return bit(one.c, 27); }

Cpu detect() {
  X86 answers{cpuid(0), cpuid(1), cpuid(7), cpuid(0x80000006u), 0};
  if (xgetbv_exists(answers.one)) answers.saved = xgetbv();
  Cpu found = x86_cpu(answers);
  for (unsigned leaf = 0x80000002u; leaf <= 0x80000004u; ++leaf) {
    const CpuidRegisters r = cpuid(leaf);
    for (unsigned word : {r.a, r.b, r.c, r.d})
      for (int i = 0; i < 4; ++i) found.name += static_cast<char>(word >> (8 * i));
  }
  found.name = found.name.c_str();
  found.name.erase(0, found.name.find_first_not_of(' '));
  return found;
}

#else

Cpu detect() {
  Cpu found;
  found.supports[static_cast<size_t>(Isa::portable)] = true;
#ifdef __aarch64__
  found.supports[static_cast<size_t>(Isa::neon)] = kernels(Isa::neon, found);  // every AArch64 has it
  found.supports[static_cast<size_t>(Isa::neondot)] =
      (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) && kernels(Isa::neondot, found);
#endif
#ifdef __FP_FAST_FMAF
  found.fma = true;
#endif
  found.name = "unknown";
  return found;
}

#endif

std::string supported_names(const Cpu& cpu) {
  std::string names;
  for (size_t i = 0; i < isa_count; ++i)
    if (cpu.supports[i]) names += (names.empty() ? "" : ", ") + std::string(isa_name(static_cast<Isa>(i)));
  return names;
}

}  // namespace

#ifdef CONV1X1_X86

// The one place where a processor gets costs of its own.
Costs x86_costs(const X86& answers) {
  Costs costs;
  const bool amd = answers.vendor.b == 0x68747541u;  // "Auth"
  const unsigned version = answers.one.a, family = ((version >> 8) & 0xf) + ((version >> 20) & 0xff);
  if (amd && family == 0x19) costs.wide_fma = 1;       // Zen 4 takes 64 bytes in two turns
  const bool intel = answers.vendor.b == 0x756e6547u;  // "Genu"
  if (intel && bit(answers.seven.c, 8)) {              // GFNI, since Ice Lake; fitted on a Sapphire Rapids
    costs.load = 1.76;
    costs.straddle = 1.2;
    costs.broadcast = 0.52;
    costs.overlap = 1;
    costs.filter_byte = 0.003;
    costs.pixel_byte = 0.057;
    costs.call = 10;
    costs.finish = 6.6;
    costs.straight_move = 0.36;
    costs.turned_move[2] = 1;
    costs.cycles_in_microsecond = 7000;
  }
  const unsigned l2_kib = answers.l2.c >> 16;
  if (l2_kib) costs.l2_bytes = size_t{l2_kib} << 10;
  return costs;
}

Cpu x86_cpu(const X86& answers) {
  Cpu found;
  const auto& [vendor, one, seven, l2, answered] = answers;
  const unsigned long long saved = xgetbv_exists(one) ? answered : 0;
  const bool ymm = (saved & 0x06) == 0x06, zmm = (saved & 0xe6) == 0xe6;
  found.fma = ymm && bit(one.c, 12) && bit(one.c, 28);
  const bool avx2 = found.fma && bit(one.c, 29) && bit(seven.b, 5);
  const bool avx512 = avx2 && zmm && bit(seven.b, 16) && bit(seven.b, 17) && bit(seven.b, 30) && bit(seven.b, 31);
  found.supports[static_cast<size_t>(Isa::portable)] = true;
  found.supports[static_cast<size_t>(Isa::avx2)] = avx2 && kernels(Isa::avx2, found);
  found.supports[static_cast<size_t>(Isa::avx512)] = avx512 && kernels(Isa::avx512, found);
  found.supports[static_cast<size_t>(Isa::avx512vnni)] = avx512 && bit(seven.c, 11) && kernels(Isa::avx512vnni, found);
  found.costs = x86_costs(answers);
  return found;
}

#endif

const Cpu& cpu() {
  static const Cpu& found = *[] {
    Cpu* detected = new Cpu(detect());
    if (nervous) detected->costs = nervous_costs(detected->costs);
    return detected;
  }();
  return found;
}

const char* isa_name(Isa isa) {
  static constexpr const char* names[isa_count] = {"portable", "neon", "neondot", "avx2", "avx512", "avx512vnni"};
  return names[static_cast<size_t>(isa)];
}

Isa base_of(Isa isa) { return isa == Isa::avx512vnni ? Isa::avx512 : isa == Isa::neondot ? Isa::neon : isa; }

Isa isa_from_name(const std::string& name, const Cpu& cpu) {
  for (size_t i = 0; i < isa_count; ++i) {
    const Isa isa = static_cast<Isa>(i);
    if (name != isa_name(isa)) continue;
    if (cpu.supports[i]) return isa;
    throw std::invalid_argument("instruction set '" + name + "' is not supported " +
                                (kernels(isa, cpu) ? "by this CPU" : "by this build") +
                                "; valid here: " + supported_names(cpu));
  }
  throw std::invalid_argument("instruction set '" + name + "' is unknown; valid here: " + supported_names(cpu));
}

Isa best_isa(const Cpu& cpu, const char* limit) {
  if (limit) return isa_from_name(limit, cpu);
  size_t i = isa_count - 1;
  while (!cpu.supports[i]) --i;
  return static_cast<Isa>(i);
}

}  // namespace conv1x1
