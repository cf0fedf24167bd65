// Elements at any address: an array's may lie anywhere.
#pragma once

#include "kernel.h"

namespace conv1x1 {
namespace {

// A number at any address. With memcpy instead, gcc 12 sees integers and leaves some loops scalar.
template <class T>
struct __attribute__((packed, may_alias)) Anywhere {
  T value;
};

template <class T>
inline Anywhere<T>* at(char* p) {
  return reinterpret_cast<Anywhere<T>*>(p);
}
template <class T>
inline const Anywhere<T>* at(const char* p) {
  return reinterpret_cast<const Anywhere<T>*>(p);
}

template <class To, class From>
inline To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof(To));
  return to;
}

}  // namespace
}  // namespace conv1x1
