#include "compiler/lower.h"

namespace bihrnet {

std::string NameOf(const Step& step) {
  std::string name = step.name;
  const auto also = [&](const char* what) { name += (name.empty() ? "" : " + ") + std::string(what); };
  if (!step.bconv.alpha.empty()) also("prelu");
  if (step.bconv.maps) also("map");
  for (size_t i = 0; i < 2; ++i) {
    if (step.bconv.residuals[i].value >= 0) also(step.bconv.residual_resizes[i] >= 0 ? "add resized" : "add");
  }
  for (const ChainOp& link : step.chain) {
    if (link.kind == ChainOp::Kind::kSign) also("sign");
    if (link.kind != ChainOp::Kind::kPointwise) continue;
    if (!link.map.empty()) also("map");
    if (link.addition >= 0) also("add");
    switch (link.op) {
      case Pointwise::kAdd:
        also(link.resize >= 0 ? "add resized" : "add");
        break;
      case Pointwise::kSub:
      case Pointwise::kRsub:
        also(link.resize >= 0 ? "subtract resized" : "subtract");
        break;
      case Pointwise::kMul:
        also(link.resize >= 0 ? "multiply resized" : "multiply");
        break;
      case Pointwise::kPrelu:
        also("prelu");
        break;
      case Pointwise::kMax:
        also("max");
        break;
      case Pointwise::kMin:
        also("min");
        break;
      case Pointwise::kRoundEven:
      case Pointwise::kRoundAway:
        also("round");
        break;
      case Pointwise::kCopy:
        break;
    }
  }
  if (name.empty()) name = "copy";
  return name;
}

}  // namespace bihrnet
