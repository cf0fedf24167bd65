// Kernels for AArch64 with the dot product (Armv8.2): quads of int8, multiplied and added to an int32 sum at once.
// Exports conv1x1_neondot, the families that come to those of neon.cpp, and nothing else.
#include "measure.inl"
#include "multiply.inl"
#include "vectors_neon.inl"

namespace conv1x1 {
namespace {

struct Quadsx4 : S32x4 {
  static Reg fma(Reg row, Reg lane, Reg c) {
    return vdotq_lane_s32(c, vreinterpretq_s8_s32(lane), vreinterpret_s8_s32(first(row)), 0);
  }
};

}  // namespace

// Pixels or weights, both are int8: the same kernels serve as either.
extern const QuadKernels conv1x1_neondot;
const QuadKernels conv1x1_neondot = {
    {family<Quadsx4, 8, 8, 8, 6, 5, 4>(Operand::signed_quads),
     family<Quadsx4, 8, 8, 8, 6, 5, 4>(Operand::signed_quads, true)},
    multiply_adds<Quadsx4>,
    multiply_adds_flop<Quadsx4, 4>,
};

}  // namespace conv1x1
