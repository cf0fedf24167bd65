// NumPy's arrays as the core sees them: types by NumPy's numbers, byte order, strided views; and new arrays.
//
// Nothing here runs Python code, except new_array where memory is out.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <vector>

#include "call/problem.h"
#include "kernels/kernel.h"

namespace conv1x1 {

namespace py = pybind11;

// The type of an array's elements; of complex ones, that of their parts.
struct ElementType {
  DType dtype;
  bool is_complex = false;
};

// NumPy's numbers for bfloat16, a type that other packages register, each its own; a check tells one when it meets it.
extern std::vector<int>& bfloat16_numbers;

// NumPy's number for a type; none for bfloat16, which has several.
constexpr int type_number(DType dtype) {
  using api = py::detail::npy_api;
  switch (dtype) {
    case DType::float32: return api::NPY_FLOAT_;
    case DType::float64: return api::NPY_DOUBLE_;
    case DType::int32: return api::NPY_INT_;
    case DType::float16: return 23;  // NPY_HALF, which pybind11 has no name for
    case DType::bfloat16: return -1;
    case DType::uint8: return api::NPY_UBYTE_;
    case DType::int8: return api::NPY_BYTE_;
    case DType::uint16: return api::NPY_USHORT_;
    case DType::int16: return api::NPY_SHORT_;
    case DType::boolean: return api::NPY_BOOL_;
    case DType::int64: return api::NPY_INT64_;
    case DType::uint32: return api::NPY_UINT_;
    case DType::uint64: return api::NPY_UINT64_;
  }
  return -1;
}

constexpr int type_number(ElementType type) {
  using api = py::detail::npy_api;
  if (!type.is_complex) return type_number(type.dtype);
  return type.dtype == DType::float64 ? api::NPY_CDOUBLE_ : api::NPY_CFLOAT_;
}

const char* type_name(DType);
const char* type_name(ElementType);

inline int number_of(PyObject* descr) { return py::detail::array_descriptor1_proxy(descr)->type_num; }

struct BuiltinType {
  bool known = false;
  ElementType type{DType::float32};
};

// NumPy's own types, by their numbers.
constexpr auto builtin_types = [] {
  using api = py::detail::npy_api;
  std::array<BuiltinType, 24> types{};
  // Where long and long long are both of 64 bits, or int and long both of 32.
  types[api::NPY_LONG_] = {true, {sizeof(long) == 8 ? DType::int64 : DType::int32}};
  types[api::NPY_ULONG_] = {true, {sizeof(long) == 8 ? DType::uint64 : DType::uint32}};
  types[api::NPY_LONGLONG_] = {true, {DType::int64}};
  types[api::NPY_ULONGLONG_] = {true, {DType::uint64}};
  for (size_t i = 0; i < dtype_count; ++i) {
    const int number = type_number(static_cast<DType>(i));
    if (number >= 0) types[static_cast<size_t>(number)] = {true, {static_cast<DType>(i)}};
  }
  for (DType half : {DType::float32, DType::float64})
    types[static_cast<size_t>(type_number(ElementType{half, true}))] = {true, {half, true}};
  return types;
}();

// The type that a NumPy descriptor means, if it is supported.
inline std::optional<ElementType> dtype_of(PyObject* descr) {
  const int number = number_of(descr);
  if (number >= 0 && static_cast<size_t>(number) < builtin_types.size()) {
    const BuiltinType& builtin = builtin_types[static_cast<size_t>(number)];
    return builtin.known ? std::optional(builtin.type) : std::nullopt;
  }
  if (std::find(bfloat16_numbers.begin(), bfloat16_numbers.end(), number) != bfloat16_numbers.end())
    return ElementType{DType::bfloat16};
  return std::nullopt;
}

// Whether numbers are in the other byte order. One's own has two names, '=' and that of the processor.
inline bool swapped(PyObject* descr) {
  constexpr char other = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? '>' : '<';
  return py::detail::array_descriptor1_proxy(descr)->byteorder == other;
}

// An array of a supported type, as the core sees it: an ndarray, or an instance of a subclass that passed the checks.
inline bool view(PyObject* object, Array& array, bool checked = false) {
  PyTypeObject* ndarray = py::detail::npy_api::get().PyArray_Type_;
  if (Py_TYPE(object) != ndarray && !(checked && PyType_IsSubtype(Py_TYPE(object), ndarray))) return false;
  const auto* proxy = py::detail::array_proxy(object);
  const std::optional<ElementType> type = dtype_of(proxy->descr);
  if (!type || proxy->nd > max_rank) return false;
  array = {proxy->data,       type->dtype,    swapped(proxy->descr), proxy->nd,
           proxy->dimensions, proxy->strides, type->is_complex};
  return true;
}

// An array of its own; with `strides` null in C order.
inline PyObject* new_array(int rank, const ptrdiff_t* shape, const ptrdiff_t* strides, int type_number) {
  const auto& api = py::detail::npy_api::get();
  return api.PyArray_NewFromDescr_(api.PyArray_Type_, api.PyArray_DescrFromType_(type_number), rank,
                                   const_cast<ptrdiff_t*>(shape), const_cast<ptrdiff_t*>(strides), nullptr, 0, nullptr);
}

inline bool contiguous(PyObject* array) {
  return py::detail::check_flags(array, py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_);
}

inline bool writeable(PyObject* array) {
  return py::detail::check_flags(array, py::detail::npy_api::NPY_ARRAY_WRITEABLE_);
}

}  // namespace conv1x1
