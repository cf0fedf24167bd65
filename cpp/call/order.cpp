#include "call/order.h"

namespace conv1x1 {

Order summation_order(size_t in_channels, size_t out_channels) {
  return out_channels <= 4 && in_channels >= 32 ? Order::lanes : Order::chain;
}

bool plain_rows(size_t in_channels, size_t out_channels) {
  const bool few_channels = in_channels >= 1 && in_channels <= 4 && out_channels >= 1 && out_channels <= 4;
  return few_channels || summation_order(in_channels, out_channels) == Order::lanes;
}

}  // namespace conv1x1
