// Staging: a tile of x is brought into the form that the kernel wants.
#pragma once

#include "run/task.h"

namespace conv1x1 {

// Channels [channel, channel + channels) of the group, converted, to a block whose channels are the kernel's numbers:
// pairs or quads of channels where those go together. Of these it takes all channels at once.
void stage(const Task&, size_t channel, size_t channels, const Block& to);

}  // namespace conv1x1
