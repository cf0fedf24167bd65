#include "plan/trials.h"

#include <algorithm>
#include <limits>

namespace conv1x1 {

namespace {

// How often each is tried: all of them three times, what is near the best then twice more.
constexpr size_t first_rounds = 3, last_rounds = 5;

// After its first rounds, one that takes so much longer than the best is out; at the end another must be so much faster
// than the model's own choice to take its place.
constexpr double far_behind = 1.1, clearly_faster = 0.99;

}  // namespace

Trials::Trials(size_t candidates) : candidates_(std::clamp<size_t>(candidates, 1, most_candidates)) {
  for (Tried& tried : tried_) tried.shortest = std::numeric_limits<double>::infinity();
  settled_ = candidates_ == 1;
}

size_t Trials::next() const {
  if (settled_) return choice_;
  size_t turn = candidates_;
  for (size_t i = 0; i < candidates_; ++i)
    if (!tried_[i].out && (turn == candidates_ || tried_[i].times < tried_[turn].times)) turn = i;
  return turn;
}

void Trials::took(size_t candidate, double microseconds) {
  if (settled_) return;
  Tried& tried = tried_[candidate];
  ++tried.times;
  tried.shortest = std::min(tried.shortest, microseconds);
  settle();
}

void Trials::settle() {
  size_t least = std::numeric_limits<size_t>::max(), best = 0;
  for (size_t i = 0; i < candidates_; ++i) {
    if (!tried_[i].out) least = std::min(least, tried_[i].times);
    if (tried_[i].shortest < tried_[best].shortest) best = i;
  }
  if (least < first_rounds) return;
  size_t left = 0;
  for (size_t i = 0; i < candidates_; ++i) {
    Tried& tried = tried_[i];
    tried.out = tried.out || tried.shortest > far_behind * tried_[best].shortest;
    left += !tried.out;
  }
  if (left > 1 && least < last_rounds) return;
  choice_ = tried_[best].shortest < clearly_faster * tried_[0].shortest ? best : 0;
  settled_ = true;
}

}  // namespace conv1x1
