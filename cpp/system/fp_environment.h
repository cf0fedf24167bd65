// The caller's floating-point modes do not reach the arithmetic, nor the arithmetic's flags the caller.
#pragma once

#if defined(__SSE__)
#include <xmmintrin.h>
#elif defined(__aarch64__)
#include <cstdint>
#else
#include <cfenv>
#endif

namespace conv1x1 {

// Round to nearest, subnormals kept, NaN's bits too, IEEE's halves, no traps, for as long as it lives; then what was
// before.
class DefaultArithmetic {
 public:
  DefaultArithmetic() : before_(get()) { set(standard); }
  ~DefaultArithmetic() { set(before_); }
  DefaultArithmetic(const DefaultArithmetic&) = delete;
  DefaultArithmetic& operator=(const DefaultArithmetic&) = delete;

#if defined(__SSE__)
  using Word = unsigned;
  static constexpr Word standard = 0x1f80;
  static Word get() { return _mm_getcsr(); }
  static void set(Word w) { _mm_setcsr(w); }
#elif defined(__aarch64__)
  using Word = uint64_t;  // FPCR and, above it, FPSR: 32 bits of each are in use
  static constexpr Word standard = 0;
  static Word get() {
    uint64_t modes, flags;
    __asm__ volatile("mrs %0, fpcr\n\tmrs %1, fpsr" : "=r"(modes), "=r"(flags) : : "memory");
    return modes | flags << 32;
  }
  static void set(Word w) {
    __asm__ volatile("msr fpcr, %0\n\tmsr fpsr, %1" : : "r"(w & 0xffffffffu), "r"(w >> 32) : "memory");
  }
#else  // all that is known of another processor's modes
  using Word = int;
  static constexpr Word standard = FE_TONEAREST;
  static Word get() { return std::fegetround(); }
  static void set(Word w) { std::fesetround(w); }
#endif

 private:
  const Word before_;
};

}  // namespace conv1x1
