#include "call/types.h"

namespace conv1x1 {

size_t channels_together(Operand operand) { return is_quads(operand) ? 4 : operand == Operand::int16_pairs ? 2 : 1; }

DType sums_of(Operand operand) {
  return operand == Operand::float32 ? DType::float32 : operand == Operand::float64 ? DType::float64 : DType::int32;
}

bool is_quads(Operand operand) { return operand == Operand::int8_quads || operand == Operand::signed_quads; }

DType pixels_of_quads(Operand operand) { return operand == Operand::int8_quads ? DType::uint8 : DType::int8; }

}  // namespace conv1x1
