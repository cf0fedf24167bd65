#include "arrays.h"

namespace conv1x1 {

std::vector<int>& bfloat16_numbers = *new std::vector<int>;  // never destroyed: see cpu.cpp

const char* type_name(DType dtype) {
  static constexpr const char* names[dtype_count] = {"float32", "float64", "int32",  "float16", "bfloat16",
                                                     "uint8",   "int8",    "uint16", "int16",   "bool",
                                                     "int64",   "uint32",  "uint64"};
  return names[static_cast<size_t>(dtype)];
}

const char* type_name(ElementType type) {
  return !type.is_complex ? type_name(type.dtype) : type.dtype == DType::float64 ? "complex128" : "complex64";
}

}  // namespace conv1x1
