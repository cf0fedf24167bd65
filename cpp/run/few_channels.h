// Few filters over few channels, as in colour images.
#pragma once

#include "run/task.h"

namespace conv1x1 {

// From the task's x to its y, all that there is to do. In a box, the pixels of the side that turns are packed in
// scratch.
void few_channels(const Task&, char* scratch);

}  // namespace conv1x1
