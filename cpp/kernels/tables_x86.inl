// The entries of a KernelTable that AVX2 and AVX-512 share.
#pragma once

#include "colour_x86.inl"
#include "convert_x86.inl"
#include "tables.inl"
#include "turn_x86.inl"

namespace conv1x1 {
namespace {

constexpr void offer_x86(KernelTable& t) {
  t.move[0] = move<uint8_t, TurnInRegisters<uint8_t>>;
  t.move[1] = move<uint16_t, TurnInRegisters<uint16_t>>;
  t.move[2] = move<uint32_t, TurnInRegisters<uint32_t>>;
  t.move[3] = move<uint64_t, TurnInRegisters<uint64_t>>;
  t.colour[0][0] = colour<FloatPixels, FloatPixels>, t.colour[0][1] = colour<FloatPixels, BytePixels>;
  t.colour[1][0] = colour<BytePixels, FloatPixels>, t.colour[1][1] = colour<BytePixels, BytePixels>;
  t.convert[index(DType::float32)][index(DType::uint8)] = narrow_to_uint8;
  t.convert[index(DType::float16)][index(DType::float32)] = widen_halves;
  t.convert[index(DType::float32)][index(DType::float16)] = narrow_to_halves;
}

}  // namespace
}  // namespace conv1x1
