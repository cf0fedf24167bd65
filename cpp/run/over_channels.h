// What is done to the channels of each pixel between layers, and behind them: a softmax, a norm, the largest of them.
#pragma once

#include "plan/program.h"

namespace conv1x1 {

struct Task;
struct End;

struct OverChannelsNumbers {
  const char *weight = nullptr, *bias = nullptr;  // of a norm, in the type of the sums; null for none
  double eps = 0;                                 // likewise
  const char* labels = nullptr;  // of the largest: what stands for each channel, in y's type; null: its index
};

// From pixels as the plan has them to y. `scratch` is the step's own.
void step_over_channels(const Task&, StepKind, const OverChannelsNumbers&, const End& x, const End& y, char* scratch);

}  // namespace conv1x1
