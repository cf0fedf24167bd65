// AVX-512 VNNI kernels for integers: quads of a uint8 and an int8, multiplied and added to an int32 sum at once.
// Exports conv1x1_avx512vnni, the families that come to those of avx512.cpp, and nothing else.
#include <immintrin.h>

#include "integers_avx512.inl"
#include "measure.inl"

namespace conv1x1 {
namespace {

// The instruction's first factor is the uint8: pixels.
struct PixelsAsRows : S32x16 {
  static Reg fma(Reg row, Reg lane, Reg c) { return _mm512_dpbusd_epi32(c, row, lane); }
};
struct PixelsAsLanes : S32x16 {
  static Reg fma(Reg row, Reg lane, Reg c) { return _mm512_dpbusd_epi32(c, lane, row); }
};

template <>
constexpr Filters filters_of<PixelsAsRows> = Filters::lanes;
template <>
constexpr Filters filters_of<PixelsAsLanes> = Filters::rows;

}  // namespace

extern const QuadKernels conv1x1_avx512vnni;
const QuadKernels conv1x1_avx512vnni = {
    {family<PixelsAsRows, 8, 14, 9, 6>(Operand::int8_quads),
     family<PixelsAsLanes, 8, 14, 9, 6>(Operand::int8_quads, true)},
    multiply_adds<PixelsAsRows>,
    multiply_adds_flop<PixelsAsRows, 4>,
};

}  // namespace conv1x1
